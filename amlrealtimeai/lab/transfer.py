"""Transfer learning in a TensorFlow session: values and training in batches, with progress; a table of mistakes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.style import HOST

BATCH = 16


def values(session: Any, tensor: Any, feed: Mapping[Any, Any], batch: int = BATCH) -> np.ndarray:
    """`tensor` for all rows of the arrays in `feed` ({tensor or its name: array}), computed `batch` rows at a time."""
    arrays, count = _rows(feed)
    whole = np.empty(0)  # made once: to join the parts would take their memory twice
    for part in tqdm(list(_parts(count, batch)), desc=f"{count} rows", unit="batch", leave=False):
        found = session.run(tensor, {key: rows[part] for key, rows in arrays.items()})
        if part.start == 0:
            whole = np.empty((count, *found.shape[1:]), found.dtype)
        whole[part] = found
    return whole


def train(
    session: Any,
    loss: Any,
    variables: Sequence[Any],
    feed: Mapping[Any, Any],
    *,
    epochs: int,
    rate: float,
    seed: int = 0,
    batch: int = BATCH,
    faster: Mapping[Any, float] | None = None,
) -> list[float]:
    """Lower `loss` by Adam over `variables`, with a learning rate that falls from `rate` to 0 along a cosine.

    feed: {tensor or its name: array} with as many rows each, in a new order (from `seed`) in every epoch.
    faster: {reference of a variable (`v.ref()`): factor on its rate}, for variables that do not learn at `rate`.
    Returns the mean loss of each epoch.
    """
    import tensorflow.compat.v1 as tf

    arrays, count = _rows(feed)
    with session.graph.as_default():
        before = set(tf.global_variables())
        speed = tf.placeholder(tf.float32, [])
        step = _steps(loss, variables, speed, faster or {})
        session.run(tf.variables_initializer([v for v in tf.global_variables() if v not in before]))
    random = np.random.default_rng(seed)
    total = epochs * -(-count // batch)
    losses: list[float] = []
    with tqdm(total=total, desc="training", unit="step", leave=False) as bar:
        for _ in range(epochs):
            order, found = random.permutation(count), []
            for part in _parts(count, batch):
                falling = rate * 0.5 * (1 + np.cos(np.pi * bar.n / total))
                chosen = {key: rows[order[part]] for key, rows in arrays.items()}
                found.append(session.run([step, loss], {**chosen, speed: falling})[1])
                bar.update()
            losses.append(float(np.mean(found)))
            bar.set_postfix_str(f"loss {losses[-1]:.3f}", refresh=False)
    return losses


@dataclass(frozen=True)
class Confusion:
    """counts[i, j]: how many pictures of class i were taken for class j; names: of the classes."""

    counts: np.ndarray
    names: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of pictures that were recognised, in percent."""
        return 100 * float(np.trace(self.counts) / max(1, self.counts.sum()))

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % confidence interval of the percentage, by Wilson's score: a set of pictures is a sample."""
        n, share, z = max(1, int(self.counts.sum())), self.accuracy / 100, 1.96
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return 100 * float(middle - half), 100 * float(middle + half)

    def __str__(self) -> str:
        width = max(12, *(len(name) + 2 for name in self.names))
        lines = ["taken for:".ljust(width) + "".join(name.rjust(width) for name in self.names)]
        for name, row in zip(self.names, self.counts, strict=True):
            lines.append(name.ljust(width) + "".join(str(count).rjust(width) for count in row))
        return "\n".join([*lines, f"{self.accuracy:.1f} % of {self.counts.sum()} recognised"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.names)
        colour, rows = ",".join(map(str, bytes.fromhex(HOST[1:]))), ""
        for name, row in zip(self.names, self.counts, strict=True):
            share = row / max(1, row.sum())
            cells = "".join(
                f"<td style='background:rgba({colour},{0.7 * s:.2f});text-align:right'>{count}</td>"
                for count, s in zip(row, share, strict=True)
            )
            rows += f"<tr><th style='text-align:left'>{escape(name)}</th>{cells}</tr>"
        said = f"{self.accuracy:.1f} % of {self.counts.sum()} recognised"
        caption = f"<caption style='white-space:nowrap'>{said}</caption>"
        return f"<table>{caption}<tr><th>taken for</th>{head}</tr>{rows}</table>"


def confusion(labels: Any, probabilities: Any, names: Sequence[str]) -> Confusion:
    """From labels int [n] and probabilities or logits float [n, classes]; names: of the classes, in their order."""
    right, found = np.asarray(labels), np.asarray(probabilities)
    if found.ndim != 2 or found.shape != (len(right), len(names)):
        raise InvalidInputError(
            f"expected probabilities of shape [{len(right)}, {len(names)}] for {len(right)} labels and {len(names)} "
            f"names, got {list(found.shape)}"
        )
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (right, found.argmax(1)), 1)
    return Confusion(counts, tuple(names))


def _steps(loss: Any, variables: Sequence[Any], speed: Any, faster: Mapping[Any, float]) -> list[Any]:
    """One step of Adam, with an optimizer for each rate: Adam undoes a factor on the gradient."""
    import tensorflow.compat.v1 as tf

    groups: dict[float, list[Any]] = {}
    for pair in zip(tf.gradients(loss, list(variables)), variables, strict=True):
        groups.setdefault(faster.get(pair[1].ref(), 1.0), []).append(pair)
    return [tf.train.AdamOptimizer(speed * factor).apply_gradients(pairs) for factor, pairs in groups.items()]


def _rows(feed: Mapping[Any, Any]) -> tuple[dict[Any, np.ndarray], int]:
    # NumPy's own bytes type would drop zeros from the end of a file
    arrays = {
        key: np.array(rows, object) if isinstance(rows[0], bytes) else np.asarray(rows) for key, rows in feed.items()
    }
    counts = {len(rows) for rows in arrays.values()}
    if len(counts) != 1:
        raise InvalidInputError(f"every array needs as many rows; got {sorted(counts)}")
    return arrays, counts.pop()


def _parts(count: int, batch: int) -> Iterator[slice]:
    return (slice(start, start + batch) for start in range(0, count, batch))
