"""Which part of an NPU tensor each axis of an ONNX value holds.

Layout operations cost nothing on the NPU, so they become bookkeeping. A tensor has the letters h, w and c. An axis of
an ONNX value is a sequence of parts, outer first; a part (letter, size, stride) counts `size` positions of a letter,
`stride` apart: ("c", 12, 1) is all of 12 channels, and split into 3 x 4 they are ("c", 3, 4) and ("c", 4, 1). Parts
of size 1 are left out and neighbours that belong together are joined, so that equal values have equal axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from amlrealtimeai.npu.instructions import Shape

Part = tuple[str, int, int]
Axis = tuple[Part, ...]
Axes = tuple[Axis, ...]
Pads = tuple[int, int, int, int]

# The batch's size is unknown; 0 stands for it.
BATCH: Axis = (("n", 0, 1),)
NO_PADS: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class View:
    """An ONNX value: the NPU tensor that holds it, the parts on each axis, and zeros still to be added around it.

    pads: (top, left, bottom, right) from a Pad node; the window that reads the value takes them over.
    """

    tensor: str
    axes: Axes
    pads: Pads = NO_PADS


def joined(parts: Sequence[Part]) -> Axis:
    """`parts` without those of size 1, neighbours joined."""
    axis: list[Part] = []
    for part in parts:
        letter, size, stride = part
        if size == 1:
            continue
        if axis and axis[-1][0] == letter and axis[-1][2] == size * stride:
            axis[-1] = (letter, axis[-1][1] * size, stride)
        else:
            axis.append(part)
    return tuple(axis)


def axes_of(letters: str, shape: Shape) -> Axes:
    """The axes of a whole tensor in the order of `letters` (such as "nchw", or "nc" for a single pixel)."""
    sizes = dict(zip("hwc", shape, strict=True))
    return (BATCH, *(joined([(letter, sizes[letter], 1)]) for letter in letters[1:]))


def extent(axis: Axis) -> int:
    """How many positions an axis has; the batch counts as 1, because a program runs one image at a time."""
    return prod(size or 1 for _, size, _ in axis)


def extents(axes: Axes) -> list[int]:
    """The extent of every axis."""
    return [extent(axis) for axis in axes]


def described(axes: Axes) -> str:
    """Axes for people: [n, c, h*w]; a part of a letter is written c:4."""
    parts = [part for axis in axes for part in axis]
    whole = {part for part in parts if [other[0] for other in parts].count(part[0]) == 1}
    words = [[part[0] if part in whole else f"{part[0]}:{part[1]}" for part in axis] for axis in axes]
    return f"[{', '.join('*'.join(axis) or '1' for axis in words)}]"


def split(parts: Sequence[Part], sizes: Sequence[int]) -> Axes | None:
    """`parts` dealt to axes of `sizes` in order; None where a part would have to be cut unevenly."""
    rest = list(parts)
    axes = []
    for size in sizes:
        group: list[Part] = []
        left = size
        while left > 1:
            if not rest:
                return None
            letter, count, stride = rest.pop(0)
            if left % count == 0:
                group.append((letter, count, stride))
                left //= count
            elif count % left == 0:
                inner = count // left
                group.append((letter, left, stride * inner))
                rest.insert(0, (letter, inner, stride))
                left = 1
            else:
                return None
        axes.append(joined(group))
    return tuple(axes) if not rest else None


def reshaped(axes: Axes, target: Sequence[int]) -> Axes | None:
    """`axes` after an ONNX Reshape to `target` (0 keeps an axis, -1 is the rest); None where it cannot be followed."""
    sizes = extents(axes)
    wanted = [sizes[i] if size == 0 and i < len(sizes) else size for i, size in enumerate(target)]
    if not wanted or axes[0] != BATCH or wanted[0] not in (-1, 1) or wanted.count(-1) > 1:
        return None
    total, behind = prod(sizes), wanted[1:]
    if -1 in behind:
        known = -prod(behind)
        if known == 0 or total % known:
            return None
        behind[behind.index(-1)] = total // known
    if prod(behind) != total:
        return None
    parts = split([part for axis in axes[1:] for part in axis], behind)
    return None if parts is None else (BATCH, *parts)


def letters_of(axes: Axes, shape: Shape) -> list[str | None]:
    """The one letter of each axis, also for axes of size 1; None where an axis holds parts of several letters."""
    letters: list[str | None] = []
    for axis in axes:
        names = {letter for letter, _, _ in axis}
        letters.append(names.pop() if len(names) == 1 else None)
    empty = [i for i, axis in enumerate(axes) if not axis]
    sizes = dict(zip("hwc", shape, strict=True))
    for layout in ("nchw", "nhwc"):
        fits = len(axes) == 4 and all(letters[i] in (None, layout[i]) for i in range(4))
        if fits and all(sizes[layout[i]] == 1 for i in empty):
            return [layout[i] if i in empty else letter for i, letter in enumerate(letters)]
    free = [letter for letter in "chw" if sizes[letter] == 1]
    for i, letter in zip(empty, free, strict=False):
        letters[i] = letter
    return letters


def positions(axis: Axis) -> np.ndarray:
    """The position in its letter of every index of an axis that holds one letter; int64."""
    found = np.zeros(1, np.int64)
    for _, size, stride in axis:
        found = (found[:, None] + np.arange(size) * stride).reshape(-1)
    return found


def offsets(axis: Axis, shape: Shape) -> np.ndarray:
    """Where in the tensor's memory (rows, columns, channels) every index of the axis begins; int64."""
    strides = {"h": shape[1] * shape[2], "w": shape[2], "c": 1}
    return positions(tuple((letter, size, stride * strides[letter]) for letter, size, stride in axis))
