"""Plots of the lessons: matplotlib figures with words for those who cannot see them, in the colours of `style`."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amlrealtimeai.containers import ImageInfo
from amlrealtimeai.errors import extras_named
from amlrealtimeai.lab.deploy import Load
from amlrealtimeai.lab.measurement import number_in
from amlrealtimeai.lab.pictures import Picture, sheet
from amlrealtimeai.lab.style import HOST, INK, MENDED, NPU, QUIET
from amlrealtimeai.lab.transfer import Confusion


def figure(drawn: Any, alt: str) -> Picture:
    """A matplotlib figure as a Picture; the figure is closed. alt: what it shows, in words and numbers."""
    with extras_named():
        from matplotlib import pyplot

    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    width = int(drawn.get_figwidth() * 100)
    pyplot.close(drawn)
    return Picture(buffer.getvalue(), "image/png", alt, width)


def dots(tables: Mapping[str, Confusion], guess: Any = None) -> Picture:
    """Accuracies as dots with their 95 % intervals, on an axis from 0 to 100. guess: of the learner, as a line."""
    drawn, axes = _axes(0.9 + 0.45 * len(tables))
    colours = [HOST, NPU, MENDED, QUIET]
    for row, table in enumerate(tables.values()):
        low, high = table.interval
        colour = colours[row % len(colours)]
        axes.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="round", alpha=0.5)
        axes.plot(table.accuracy, row, "o", color=colour, markersize=9)
        axes.annotate(f"{table.accuracy:.1f}", (table.accuracy, row), (0, 9), textcoords="offset points", ha="center")
    axes.axvline(50, color=QUIET, linestyle=":", linewidth=1)
    axes.annotate("a coin", (50, len(tables) - 0.45), ha="center", color=QUIET)
    guessed = number_in(guess)
    if guessed is not None and 0 <= guessed <= 100:
        axes.axvline(guessed, color=INK, linestyle="--", linewidth=1)
        axes.annotate("your guess", (guessed, -0.75), ha="center", color=INK)
    axes.set(xlim=(0, 102), ylim=(len(tables) - 0.3, -1), yticks=range(len(tables)), yticklabels=list(tables))
    axes.set_xlabel("recognised, % of pictures (bar: 95 % interval)")
    said = (
        f"{name}: {t.accuracy:.1f} %, from {t.interval[0]:.0f} to {t.interval[1]:.0f}" for name, t in tables.items()
    )
    return figure(drawn, "Dots with intervals. " + "; ".join(said))


def mistakes(
    pictures: Sequence[Any], labels: Any, probabilities: Any, names: Sequence[str], most: int = 16, only: Any = None
) -> Picture | str:
    """A sheet of the pictures that were taken for something else, the surest mistakes first; a sentence if none was.

    only: bool [n], which pictures to look at.
    """
    right, found = np.asarray(labels), np.asarray(probabilities)
    wrong = found.argmax(1) != right
    wrong = wrong if only is None else wrong & np.asarray(only)
    order = [i for i in np.argsort(-found.max(1), kind="stable") if wrong[i]][:most]
    if not order:
        return "no picture was taken for something else"
    said = [f"{names[found[i].argmax()]}? {100 * found[i].max():.0f} %" for i in order]
    alt = f"{len(order)} of {int(wrong.sum())} pictures taken for something else: " + "; ".join(
        f"a {names[right[i]]}, taken for a {names[found[i].argmax()]} with {100 * found[i].max():.0f} %" for i in order
    )
    return sheet([pictures[i] for i in order], captions=said, alt=alt)


def changed(pictures: Sequence[Any], labels: Any, before: Any, after: Any, most: int = 8) -> Picture:
    """Two rows: pictures that `after` mends (wrong before, right now), and those that it breaks."""
    right = np.asarray(labels)
    was, now = (np.asarray(values).argmax(1) == right for values in (before, after))
    mended, broken = np.flatnonzero(~was & now), np.flatnonzero(was & ~now)
    chosen = [(i, "mended") for i in mended[:most]] + [(i, "broken") for i in broken[:most]]
    alt = f"{len(mended)} pictures mended, {len(broken)} broken; shown are {min(most, len(mended))} and "
    alt += f"{min(most, len(broken))} of them."
    return sheet([pictures[i] for i, _ in chosen], most, captions=[said for _, said in chosen], alt=alt)


_LAYERS = {
    "base": "base: Python, C libraries",
    "packages": "packages: NumPy, gRPC, ...",
    "app": "app: our server, the kernel",
    "model": "model: weights, contents list",
}


def layers(image: ImageInfo) -> Picture:
    """An image's layers as bars, the lowest one at the bottom."""
    drawn, axes = _axes(2.4)
    for row, layer in enumerate(image.layers):
        size = layer.size / 1e6
        axes.barh(row, size, color=NPU if layer.kind == "model" else HOST, height=0.6)
        axes.annotate(f"{size:.1f}", (size, row), (5, 0), textcoords="offset points", va="center")
    names = [_LAYERS[layer.kind] for layer in image.layers]
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="megabytes, compressed")
    said = ", ".join(f"{layer.kind} {layer.size / 1e6:.1f}" for layer in image.layers)
    return figure(drawn, f"The image's layers from the bottom up, in megabytes: {said}.")


def load(measured: Sequence[Load]) -> Picture:
    """Latency against the number of clients: median, 95th percentile, and how many requests were refused."""
    drawn, axes = _axes(3.2, ("top", "right"))
    clients = [found.clients for found in measured]
    axes.plot(clients, [found.slow_ms for found in measured], "o:", color=QUIET, label="one in twenty is slower")
    axes.plot(clients, [found.median_ms for found in measured], "o-", color=HOST, label="median of the answers")
    top = 1.25 * max((found.slow_ms for found in measured if len(found.milliseconds)), default=1.0)
    for found in measured:
        if found.refused:
            share = 100 * found.refused / (found.refused + len(found.milliseconds))
            axes.axvline(found.clients, color=NPU, linestyle="--", linewidth=1)
            axes.annotate(f"{share:.0f} % refused ", (found.clients, top), color=NPU, ha="right", va="top")
    axes.set(xscale="log", xticks=clients, xticklabels=clients, ylim=(0, top), ylabel="milliseconds")
    axes.set_xlabel("clients that ask at the same time")
    axes.minorticks_off()
    axes.legend(loc="upper left", frameon=False)
    said = "; ".join(f"{m.clients}: {m.median_ms:.0f} ms, {m.refused} refused" for m in measured)
    return figure(drawn, f"Median latency by number of clients. {said}.")


def _axes(inches: float, open_sides: Sequence[str] = ("top", "right", "left")) -> tuple[Any, Any]:
    """A matplotlib figure of that height and its axes, without a frame on some sides."""
    with extras_named():
        from matplotlib import pyplot

    drawn, axes = pyplot.subplots(figsize=(6.4, inches))
    axes.spines[list(open_sides)].set_visible(False)
    return drawn, axes
