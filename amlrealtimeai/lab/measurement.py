"""Latency measured as one should: warm-up first, then the median and the slow tail, and where the time goes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def guessed(guess: float | None, unit: str) -> str:
    """What to print of a learner's guess: "; your guess was 5 ms", or nothing where there is none."""
    return "" if guess is None or guess is Ellipsis else f"; your guess was {guess} {unit}"


def number_in(guess: Any) -> float | None:
    """The number that a learner has guessed, 70 or "70 %"; None where there is none to draw."""
    try:
        number = float(str(guess).strip().removesuffix("%"))
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


STAGES = ("decode", "npu", "classifier", "rest")


@dataclass(frozen=True)
class Measurement:
    """Milliseconds of many requests: `total` [n], and each stage's part [n] ("rest": wire, queue, serialisation)."""

    total: np.ndarray
    stages: dict[str, np.ndarray]

    @property
    def median_ms(self) -> float:
        """Half of the requests were faster."""
        return float(np.median(self.total))

    @property
    def p99_ms(self) -> float:
        """One request in a hundred was slower."""
        return float(np.percentile(self.total, 99))

    def __str__(self) -> str:
        few = len(self.total) < 200  # below that the 99th percentile is the slowest, or next to it
        slow = "slowest" if few else "p99 ms"
        lines = [f"{'':<12}{'median ms':>10}{slow:>10}   of {len(self.total)} requests after warm-up"]
        for name, values in {**self.stages, "total": self.total}.items():
            tail = values.max() if few else np.percentile(values, 99)
            lines.append(f"{name:<12}{np.median(values):10.2f}{tail:10.2f}")
        return "\n".join(lines)

    __repr__ = __str__


def measure(client: Any, picture: Path | str, count: int = 30, warm_up: int = 3) -> Measurement:
    """Send `picture` `count` times, one after the other, after `warm_up` uncounted requests."""
    totals: list[float] = []
    parts: list[dict[str, float]] = []
    for number in range(warm_up + count):
        begin = time.perf_counter()
        client.score_file(str(picture))
        elapsed = (time.perf_counter() - begin) * 1e3
        if number >= warm_up:
            totals.append(elapsed)
            parts.append({name: seconds * 1e3 for name, seconds in client.last_timings.items()})
    stages = {name: np.array([part.get(name, 0.0) for part in parts]) for name in STAGES[:-1]}
    total = np.array(totals)
    return Measurement(total, {**stages, "rest": total - sum(stages.values())})


def call(function: Callable[[], object], count: int = 10, warm_up: int = 2) -> Measurement:
    """Time any call in the same way."""
    totals = []
    for number in range(warm_up + count):
        begin = time.perf_counter()
        function()
        if number >= warm_up:
            totals.append((time.perf_counter() - begin) * 1e3)
    return Measurement(np.array(totals), {})
