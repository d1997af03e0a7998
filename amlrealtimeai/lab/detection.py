"""Object detection to look at: boxes on pictures, the twelve outputs as a table, what was found and what was missed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.images import Box, voc_labels
from amlrealtimeai.lab.pictures import Picture, opened, rgb
from amlrealtimeai.lab.style import NPU, OBJECTS, PAPER

_SAME = 0.5
"""Overlap with an object (intersection over union) from which PASCAL VOC counts a box as its own."""
_WIDEST = 2000  # pixels
_TALLEST = 40  # heights of a drawn picture, in widths

Pictured = Path | str | np.ndarray | Image.Image
Patch = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Comparison:
    """What became of the objects in a picture. hits: (box, object); the others number boxes, missed objects."""

    hits: tuple[tuple[int, int], ...]
    doubled: tuple[int, ...]
    extra: tuple[int, ...]
    missed: tuple[int, ...]
    names: tuple[str, ...]
    """Of the boxes, then of the objects."""

    def __str__(self) -> str:
        boxes = len(self.hits) + len(self.doubled) + len(self.extra)
        objects = len(self.hits) + len(self.missed)
        said = [f"{len(self.hits)} of {objects} objects found"]
        for word, numbers, start in (
            ("missed", self.missed, boxes),
            ("found twice", self.doubled, 0),
            ("where none of that kind is", self.extra, 0),
        ):
            if numbers:
                said.append(f"{word}: {', '.join(self.names[start + number] for number in numbers)}")
        return "; ".join(said)

    __repr__ = __str__


def compare(truth: Sequence[Box], classes: Any, boxes: Any, overlap: float = _SAME) -> Comparison:
    """Boxes [k, 4] of classes [k], best first, against a picture's objects, as PASCAL VOC does it.

    A box belongs to the object of its class that it overlaps most, if by `overlap` or more; the first box of an object
    has found it, further ones are doubled, and what belongs to none is extra. Raises InvalidInputError for what does
    not fit together.
    """
    ssdvgg.check_share("overlap", overlap)
    found, _, corners = _checked(classes, None, boxes)
    shared = ssdvgg.overlaps(corners, np.array([box[1:] for box in truth], float).reshape(-1, 4))
    hits: dict[int, int] = {}
    doubled, extra = [], []
    for number, label in enumerate(found):
        own = [(shared[number, i], i) for i, box in enumerate(truth) if box.label == label]
        most, place = max(own, default=(0.0, -1))
        if most < overlap:
            extra.append(number)
        elif place in hits:
            doubled.append(number)
        else:
            hits[place] = number
    missed = tuple(i for i in range(len(truth)) if i not in hits)
    names = tuple(voc_labels()[label] for label in [*found, *(box.label for box in truth)])
    return Comparison(tuple((box, i) for i, box in hits.items()), tuple(doubled), tuple(extra), missed, names)


def draw(
    picture: Pictured, classes: Any, scores: Any, boxes: Any, *, truth: Sequence[Box] = (), width: int = 420
) -> Picture:
    """The picture with its detections: a box, the VOC class and the probability of each; what postprocess returns.

    picture: a path, an image, or uint8 [h, w] or [h, w, 3]; it is made `width` pixels wide, or less
    where it is very high. classes int [k] (1..20), scores [k], boxes [k, 4]: y1, x1, y2, x2 in 0..1. truth: the objects
    that are there; those that no box has found are drawn dashed.
    Raises InvalidInputError for what does not fit together, NotFoundError for a file that is not there.
    """
    _check_pixels("width", width)
    labels, found, corners = _checked(classes, scores, boxes)
    canvas = _rgb(picture)
    scale = min(width / canvas.width, _TALLEST * width / canvas.height)
    canvas = canvas.resize((max(1, round(canvas.width * scale)), max(1, round(canvas.height * scale))))
    missed = [truth[number] for number in compare(truth, labels, corners).missed]
    pen = ImageDraw.Draw(canvas)
    for box in missed:
        _dashed(pen, _pixels(box[1:], canvas.size), NPU)
    for number in reversed(range(len(labels))):  # the surest last, on top
        _outline(pen, _pixels(corners[number], canvas.size), OBJECTS[number % len(OBJECTS)])
    tags = [f"{voc_labels()[label]} {100 * score:.0f} %" for label, score in zip(labels, found, strict=True)]
    patches: list[Patch] = []
    for number, tag in enumerate(tags):  # the surest first, at its place
        patches.append(_tag(pen, _pixels(corners[number], canvas.size), OBJECTS[number % len(OBJECTS)], tag, patches))
    for box in missed:
        patches.append(_tag(pen, _pixels(box[1:], canvas.size), NPU, f"missed: {voc_labels()[box.label]}", patches))
    said = [f"{tag} {_where(box)}" for tag, box in zip(tags, corners, strict=True)]
    said += [f"a missed {voc_labels()[box.label]} {_where(np.array(box[1:]))}" for box in missed]
    return Picture.of(canvas, f"Boxes on a picture: {'; '.join(said)}." if said else "A picture without a box on it.")


def draw_anchors(picture: Pictured, side: int = 230) -> Picture:
    """The picture once for each of the six blocks: a dot at every site, and all anchors of the site in the middle."""
    _check_pixels("side", side)
    small = _rgb(picture).resize((side, side))
    pale = Image.blend(small, Image.new("RGB", small.size, PAPER), 0.6)
    canvas = Image.new("RGB", (3 * (side + 8), 2 * (side + 26)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for number, (block, base) in enumerate(zip(ssdvgg.BLOCKS, ssdvgg.anchors(), strict=True)):
        panel = pale.copy()
        inside = ImageDraw.Draw(panel)
        for y, x in base[:, :, 0, :2].reshape(-1, 2) * side:
            inside.ellipse((x - 1, y - 1, x + 1, y + 1), fill="black")
        middle = base[base.shape[0] // 2, base.shape[1] // 2]
        for shape, anchor in enumerate(middle):
            corners = np.concatenate([anchor[:2] - anchor[2:] / 2, anchor[:2] + anchor[2:] / 2])
            inside.rectangle(_pixels(corners, panel.size), outline=OBJECTS[shape % len(OBJECTS)], width=2)
        left, top = number % 3 * (side + 8), number // 3 * (side + 26)
        canvas.paste(panel, (left, top + 22))
        words = f"{block}: {base.shape[0]} x {base.shape[1]} sites, {len(middle)} anchors each"
        pen.text((left + 2, top + 4), words, fill="black", font=_font(12))
    sizes = "; ".join(
        f"{block}: {base.shape[0]} x {base.shape[1]} sites with {base.shape[2]} anchors, the smallest square of "
        f"{100 * base[0, 0, 0, 2]:.0f} % of the side"
        for block, base in zip(ssdvgg.BLOCKS, ssdvgg.anchors(), strict=True)
    )
    return Picture.of(canvas, f"Anchors of six blocks. {sizes}.")


@dataclass(frozen=True)
class Table:
    """Rows of texts below a heading; a notebook shows them as a table."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        lines = [self.heading, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heading))]
        return "\n".join(
            "  ".join(text.ljust(wide) for text, wide in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [("th", self.heading), *(("td", row) for row in self.rows)]
        lines = (
            "".join(f"<{tag} style='text-align:left'>{escape(text)}</{tag}>" for text in row) for tag, row in cells
        )
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def outputs_table(outputs: Mapping[str, Any]) -> Table:
    """The network's outputs by name: their shapes, and what each number of them is."""
    rows = []
    for name, values in outputs.items():
        if np.ndim(values) < 4:
            raise InvalidInputError(
                f"{name}: expected an output [..., sites, sites, anchors, numbers], got {np.shape(values)}"
            )
        *_, sites, _, anchors, size = np.shape(values)
        what = f"{size} class scores" if size == ssdvgg.CLASSES else "x, y, w, h: how to move and stretch"
        number = sites * sites * anchors
        rows.append((name, str(np.shape(values)), f"{what} of {number:,} anchor{'s' * (number > 1)}"))
    return Table(("output", "shape", "what it says"), tuple(rows))


def thresholds(
    outputs: Sequence[np.ndarray], truth: Sequence[Box], shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
) -> Table:
    """The static twin of widgets.threshold_slider: what is found at each select_threshold."""
    rows = []
    for share in shares:
        classes, _, boxes = ssdvgg.postprocess(outputs, select_threshold=share)
        seen = compare(truth, classes, boxes)
        counts = (len(classes), len(seen.hits), len(seen.missed), len(seen.doubled), len(seen.extra))
        rows.append((f"{share:.2f}", *map(str, counts)))
    return Table(("threshold", "boxes", "found", "missed", "doubled", "extra"), tuple(rows))


def _checked(classes: Any, scores: Any, boxes: Any) -> tuple[list[int], np.ndarray, np.ndarray]:
    try:
        labels, corners = np.asarray(classes), np.asarray(boxes)
        found = np.zeros(labels.shape) if scores is None else np.asarray(scores)
    except ValueError as error:  # lists of different lengths
        raise InvalidInputError(f"expected classes [k], scores [k] and boxes [k, 4]: {error}") from None
    if labels.size == found.size == corners.size == 0:
        return [], np.empty(0), np.empty((0, 4))
    if labels.ndim != 1 or found.shape != labels.shape or corners.shape != (len(labels), 4):
        raise InvalidInputError(
            f"expected classes [k], scores [k] and boxes [k, 4], as postprocess returns them; got the shapes "
            f"{labels.shape}, {found.shape} and {corners.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 1 or labels.max() >= len(voc_labels()):
        raise InvalidInputError(f"expected classes of PASCAL VOC, whole numbers 1 to 20; got {labels.tolist()}")
    if not all(array.dtype.kind in "fiu" and np.isfinite(array).all() for array in (found, corners)):
        raise InvalidInputError("scores and boxes have to be finite numbers; got some that are not")
    return labels.tolist(), found, corners


def _rgb(picture: Pictured) -> Image.Image:
    if isinstance(picture, Image.Image):
        return rgb(picture)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.size == 0 or not _is_picture(picture.shape):
            raise InvalidInputError(
                f"expected a picture uint8 [h, w, 3] or [h, w], got {picture.dtype} {picture.shape}"
            )
        return Image.fromarray(picture).convert("RGB")
    if not isinstance(picture, str | Path):
        raise InvalidInputError(f"expected a path, an image or an array as picture, got {picture!r:.60}")
    return opened(picture)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)


def _check_pixels(name: str, value: Any) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 1 <= value <= _WIDEST:
        raise InvalidInputError(f"{name}: expected 1 to {_WIDEST} pixels, got {value!r:.60}")


def _pixels(box: Any, size: tuple[int, int]) -> Patch:
    """(y1, x1, y2, x2) in shares as (left, top, right, bottom) in pixels."""
    y1, x1, y2, x2 = (float(value) for value in box)
    width, height = size[0] - 1, size[1] - 1
    return min(x1, x2) * width, min(y1, y2) * height, max(x1, x2) * width, max(y1, y2) * height


def _outline(pen: ImageDraw.ImageDraw, box: Patch, colour: str) -> None:
    left, top, right, bottom = box
    # a pale edge around it: legible on any background
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=PAPER, width=5)
    pen.rectangle(box, outline=colour, width=3)


def _dashed(pen: ImageDraw.ImageDraw, box: Patch, colour: str, dash: int = 9) -> None:
    left, top, right, bottom = box
    for fill, width in ((PAPER, 5), (colour, 3)):
        for x in np.arange(left, right, 2 * dash):
            end = min(x + dash, right)
            pen.line((x, top, end, top), fill, width)
            pen.line((x, bottom, end, bottom), fill, width)
        for y in np.arange(top, bottom, 2 * dash):
            end = min(y + dash, bottom)
            pen.line((left, y, left, end), fill, width)
            pen.line((right, y, right, end), fill, width)


def _tag(pen: ImageDraw.ImageDraw, box: Patch, colour: str, words: str, others: Sequence[Patch]) -> Patch:
    """Words on a patch above the box's upper left corner, else down the box, else nearest to it, where no other is."""
    font = _font(14)
    _, _, wide, high = pen.textbbox((0, 0), words, font=font)
    wide, high = wide + 7, high + 4
    left = min(max(0.0, box[0] - 1), max(0.0, pen.im.size[0] - wide - 1))
    first = box[1] - high - 1 if box[1] > high + 1 else box[1]
    rows = np.arange(first % (high + 2), pen.im.size[1] - high, high + 2)
    tops = sorted(rows, key=lambda top: (not first <= top < box[3], abs(top - first)))
    places = [(left, top, left + wide, top + high) for top in tops]
    free = (place for place in places if not any(_meet(place, other) for other in others))
    patch = next(free, (left, first, left + wide, first + high))
    pen.rectangle(patch, fill=PAPER, outline=colour, width=2)
    pen.text((patch[0] + 4, patch[1] + 1), words, fill="black", font=font)
    return patch


def _meet(one: Patch, other: Patch) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _where(box: np.ndarray) -> str:
    y, x = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
    high = ("at the top", "halfway down", "at the bottom")[min(2, max(0, int(3 * y)))]
    return f"{high}, {('left', 'in the middle', 'right')[min(2, max(0, int(3 * x)))]}"
