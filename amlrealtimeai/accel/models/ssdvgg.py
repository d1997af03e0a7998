"""What SSD-VGG's twelve outputs mean: anchors, boxes, and the few detections that remain; NumPy only.

The anchors are those of the SDK and of the widely used TensorFlow SSD-300-VGG: sizes from 21 to 315 pixels; variances
and overlaps are those of SSD300 (W. Liu et al. 2016).
"""

from collections.abc import Sequence
from functools import cache
from numbers import Real
from typing import Any

import numpy as np

from amlrealtimeai.errors import InvalidInputError

IMAGE = 300
CLASSES = 21
BLOCKS = ("block4", "block7", "block8", "block9", "block10", "block11")
SITES = dict(zip(BLOCKS, (37, 19, 10, 5, 3, 1), strict=True))
ANCHORS = dict(zip(BLOCKS, (4, 6, 6, 6, 4, 4), strict=True))
EXTRA = {"block8": (256, 2, 1), "block9": (128, 2, 1), "block10": (128, 1, 0), "block11": (128, 1, 0)}
"""Block -> filters of its 1x1 convolution; stride and padding of the 3x3 one behind it, which has twice as many."""

_STRIDES = (8, 16, 32, 64, 100, 300)
_SIZES = (21, 45, 99, 153, 207, 261, 315)
_RATIOS = {4: (2.0, 1 / 2), 6: (2.0, 1 / 2, 3.0, 1 / 3)}
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_MOST = 400
"""Candidates of one image that non-maximum suppression looks at."""


@cache
def anchors() -> tuple[np.ndarray, ...]:
    """Each block's default boxes as float32 [s, s, a, 4]: centre y, centre x, height, width, in 0..1 of the image.

    Of a site: a square of the block's size, one between it and the next block's size, then the ratios 2, 1/2, 3, 1/3.
    Shared by all who ask, and so not to be written to.
    """
    found = []
    for number, block in enumerate(BLOCKS):
        size, larger = _SIZES[number], _SIZES[number + 1]
        shapes = [(size, size), (np.sqrt(size * larger),) * 2]
        shapes += [(size / np.sqrt(ratio), size * np.sqrt(ratio)) for ratio in _RATIOS[ANCHORS[block]]]
        sites = (np.arange(SITES[block]) + 0.5) * _STRIDES[number]
        grid = np.empty((SITES[block], SITES[block], ANCHORS[block], 4))
        grid[..., 0], grid[..., 1] = sites[:, None, None], sites[None, :, None]
        grid[..., 2:] = shapes
        found.append((grid / IMAGE).astype(np.float32))
        found[-1].flags.writeable = False
    return tuple(found)


def decode(offsets: np.ndarray, block: int) -> np.ndarray:
    """Boxes [..., s, s, a, 4] as (y1, x1, y2, x2) of what the network says about the anchors of BLOCKS[block].

    offsets: (x, y, w, h) per anchor, as in the paper: the centre moves by 0.1 * offset of the anchor's size, the size
    is multiplied by exp(0.2 * offset). Raises InvalidInputError for offsets of another shape, or another block.
    """
    base = _anchors_of(block)
    if np.shape(offsets)[-4:] != base.shape:
        raise InvalidInputError(f"expected offsets [..., {', '.join(map(str, base.shape))}], got {np.shape(offsets)}")
    return _boxes(np.asarray(offsets), base)


def encode(boxes: np.ndarray, block: int) -> np.ndarray:
    """The inverse of decode: what the network has to say for boxes [..., 4] (broadcast to the block's anchors)."""
    return offsets_from(boxes, _anchors_of(block))


def offsets_from(boxes: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The same for any anchors `base` [..., 4], centre y, centre x, height, width."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = boxes[..., 2:] - boxes[..., :2]
    moved = (centre - base[..., :2]) / (_CENTRE_VARIANCE * base[..., 2:])
    grown = np.log(size / base[..., 2:]) / _SIZE_VARIANCE
    return np.concatenate([moved[..., ::-1], grown[..., ::-1]], axis=-1)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4]; 1 for two boxes without an area."""
    boxes, others = _corners(boxes), _corners(others)
    top, left, bottom, right = boxes.T[:, :, None]
    tops, lefts, bottoms, rights = others.T[:, None, :]
    high = np.maximum(np.minimum(bottom, bottoms) - np.maximum(top, tops), 0)
    wide = np.maximum(np.minimum(right, rights) - np.maximum(left, lefts), 0)
    shared = high * wide
    union = (bottom - top) * (right - left) + (bottoms - tops) * (rights - lefts) - shared
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)


def suppress(classes: np.ndarray, boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Which of the boxes [n, 4], best first, remain: bool [n].

    One goes where a better one of its class [n] remains that it overlaps by `threshold` or more.
    """
    classes, boxes = np.asarray(classes), _corners(boxes)
    kept = np.ones(len(boxes), bool)
    for label in np.unique(classes):
        group = np.flatnonzero(classes == label)
        remains = np.ones(len(group), bool)
        for number, apart in enumerate(overlaps(boxes[group], boxes[group]) < threshold):
            if remains[number]:
                remains[number + 1 :] &= apart[number + 1 :]
        kept[group] = remains
    return kept


def postprocess(
    network_output: Sequence[np.ndarray],
    ssd_anchors: Sequence[Any] | None = None,
    select_threshold: float | None = 0.5,
    nms_threshold: float = 0.45,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The objects in one image: classes int64 [k] (1..20), scores float32 [k], boxes float32 [k, 4], best first.

    network_output: the network's twelve outputs, class scores before the softmax first, with or without a batch axis of
    one. ssd_anchors: of each block, as anchors() gives them or as the original's compute_anchors does, (y, x, height,
    width); None for the network's own.
    select_threshold: what the probability of an object exceeds; None or 0: every anchor whose best class is not the
    background. nms_threshold: of two boxes of a class that overlap by this much or more (intersection over union), the
    less probable one is dropped; the 400 most probable ones are looked at. Boxes are (y1, x1, y2, x2) in 0..1.
    Raises InvalidInputError for other outputs, anchors or thresholds.
    """
    check_share("nms_threshold", nms_threshold)
    if select_threshold is not None:
        check_share("select_threshold", select_threshold)
    scores, offsets = _checked(network_output)
    powers = np.concatenate([values.reshape(-1, CLASSES).T for values in scores], axis=1)  # classes first: faster
    with np.errstate(over="ignore"):  # so much less than the largest is nothing
        powers = np.exp(powers - powers.max(axis=0))
    sums = powers.sum(axis=0)
    places, labels = _selected(powers, sums, select_threshold)
    found = powers[labels, places] / sums[places]
    best = np.argsort(-found, kind="stable")[:_MOST]
    places, labels, found = places[best], labels[best], found[best]
    moves = np.concatenate([values.reshape(-1, 4) for values in offsets])[places]
    boxes = np.clip(_boxes(moves.astype(np.float64), _flat(ssd_anchors)[places]), 0, 1).astype(np.float32)
    kept = suppress(labels, boxes, nms_threshold)
    return labels[kept].astype(np.int64), found[kept], boxes[kept]


def check_share(name: str, value: Any) -> None:
    """InvalidInputError for what is no number from 0 to 1."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise InvalidInputError(f"{name} is a share: expected 0 to 1, got {value!r:.60}")


def _selected(powers: np.ndarray, sums: np.ndarray, threshold: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and classes [k] that may be objects. powers / sums: the probabilities [21, n]."""
    if not threshold:
        best = powers.argmax(axis=0)
        places = np.flatnonzero(best)
        return places, best[places]
    labels, places = np.nonzero(powers[1:] > np.float32(threshold) * sums)
    return places, labels + 1


def _anchors_of(block: int) -> np.ndarray:
    if block not in range(len(BLOCKS)):
        raise InvalidInputError(
            f"block: expected 0 to {len(BLOCKS) - 1}, for one of {', '.join(BLOCKS)}; got {block!r}"
        )
    return anchors()[block]


def _corners(boxes: Any) -> np.ndarray:
    """Boxes [n, 4] in a floating-point type that can hold them: unsigned corners must not wrap around."""
    array = np.asarray(boxes)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] != 4:
        raise InvalidInputError(f"expected boxes [n, 4], (y1, x1, y2, x2); got {array.dtype} {array.shape}")
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _boxes(offsets: np.ndarray, base: np.ndarray) -> np.ndarray:
    centre = base[..., :2] + offsets[..., 1::-1] * (_CENTRE_VARIANCE * base[..., 2:])
    with np.errstate(over="ignore"):  # a box without end is cut at the image's edges
        half = base[..., 2:] * np.exp(offsets[..., :1:-1] * _SIZE_VARIANCE) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def _flat(given: Sequence[Any] | None) -> np.ndarray:
    """All anchors [8432, 4]."""
    sizes = [(SITES[block], SITES[block], ANCHORS[block]) for block in BLOCKS]
    blocks = anchors() if given is None else given
    try:
        made = [np.stack(np.broadcast_arrays(*b), axis=-1) if isinstance(b, tuple | list) else b for b in blocks]
        return np.concatenate(
            [np.asarray(b).reshape((*size, 4)).reshape(-1, 4) for b, size in zip(made, sizes, strict=True)]
        )
    except (ValueError, TypeError) as error:
        raise InvalidInputError(
            f"ssd_anchors: expected (y, x, height, width) of each of the {len(BLOCKS)} blocks, as compute_anchors() "
            f"gives them ({error})"
        ) from None


def _checked(result: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The six class scores [s, s, a, 21] and the six boxes [s, s, a, 4]."""
    sizes = [(SITES[block], SITES[block], ANCHORS[block], size) for size in (CLASSES, 4) for block in BLOCKS]
    listed = isinstance(result, Sequence | np.ndarray) and not isinstance(result, str | bytes)
    if not listed or len(result) != len(sizes):
        got = len(result) if listed else type(result).__name__
        raise InvalidInputError(
            f"expected the network's {len(sizes)} outputs, got {got}. Ask for all of output_tensor_list"
        )
    arrays = []
    for number, (value, size) in enumerate(zip(result, sizes, strict=True)):
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise InvalidInputError(f"output {number} of SSD-VGG: expected numbers, got {array.dtype}")
        array = array.astype(np.float32, copy=False)
        if array.shape not in (size, (1, *size)):
            raise InvalidInputError(
                f"output {number} of SSD-VGG: expected the shape {size} of one image, got {array.shape}. Give the "
                "outputs in the order of output_tensor_list: six class scores, then six boxes; one image at a time"
            )
        if not np.isfinite(array).all():
            raise InvalidInputError(f"output {number} of SSD-VGG has numbers that are not finite")
        arrays.append(array.reshape(size))
    half = len(BLOCKS)
    return arrays[:half], arrays[half:]
