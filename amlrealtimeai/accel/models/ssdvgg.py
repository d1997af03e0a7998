"""What SSD-VGG's twelve outputs mean: anchors, boxes, and the few detections that remain; NumPy only.

Anchors, variances and overlaps are those of SSD300 (W. Liu et al. 2016) as published with its code: the smallest boxes
have 30 pixels, the others 20 to 88 % of the image in even steps.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from amlrealtimeai.errors import InvalidInputError

IMAGE = 300
CLASSES = 21
BLOCKS = ("block4", "block7", "block8", "block9", "block10", "block11")
SITES = dict(zip(BLOCKS, (37, 19, 10, 5, 3, 1), strict=True))
ANCHORS = dict(zip(BLOCKS, (4, 6, 6, 6, 4, 4), strict=True))

_STRIDES = (8, 16, 32, 64, 100, 300)
_SIZES = (30, 60, 111, 162, 213, 264, 315)
_RATIOS = {4: (2.0, 1 / 2), 6: (2.0, 1 / 2, 3.0, 1 / 3)}
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_MOST = 400
"""Candidates of one class that non-maximum suppression looks at."""
_KEPT = 200


@cache
def anchors() -> tuple[np.ndarray, ...]:
    """Each block's default boxes as float32 [s, s, a, 4]: centre y, centre x, height, width, in 0..1 of the image.

    Of a site: a square of the block's size, one between it and the next block's size, then the ratios 2, 1/2, 3, 1/3.
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
    return tuple(found)


def decode(offsets: np.ndarray, block: int) -> np.ndarray:
    """Boxes [..., s, s, a, 4] as (y1, x1, y2, x2) of what the network says about the anchors of BLOCKS[block].

    offsets: (x, y, w, h) per anchor, as in the paper: the centre moves by 0.1 * offset of the anchor's size, the size
    is multiplied by exp(0.2 * offset).
    """
    base = anchors()[block]
    centre = base[..., :2] + offsets[..., 1::-1] * (_CENTRE_VARIANCE * base[..., 2:])
    half = base[..., 2:] * np.exp(offsets[..., :1:-1] * _SIZE_VARIANCE) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def encode(boxes: np.ndarray, block: int) -> np.ndarray:
    """The inverse of decode: what the network has to say for boxes [..., 4] (broadcast to the block's anchors)."""
    base = anchors()[block]
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = boxes[..., 2:] - boxes[..., :2]
    moved = (centre - base[..., :2]) / (_CENTRE_VARIANCE * base[..., 2:])
    grown = np.log(size / base[..., 2:]) / _SIZE_VARIANCE
    return np.concatenate([moved[..., ::-1], grown[..., ::-1]], axis=-1)


def postprocess(
    result: Sequence[np.ndarray], select_threshold: float = 0.5, nms_threshold: float = 0.45
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The objects in one image: classes int64 [k] (1..20), scores float32 [k], boxes float32 [k, 4], best first.

    result: the network's twelve outputs, class scores before the softmax first, with or without a batch axis of one.
    select_threshold: smallest probability of an object. nms_threshold: of two boxes of a class that overlap by more
    than this (intersection over union), the less probable one is dropped. Boxes are (y1, x1, y2, x2) in 0..1.
    At most 200 objects. Raises InvalidInputError for other outputs or thresholds.
    """
    for name, value in (("select_threshold", select_threshold), ("nms_threshold", nms_threshold)):
        if not 0 <= value <= 1:
            raise InvalidInputError(f"{name} is a share: expected 0 to 1, got {value}")
    scores, offsets = _checked(result)
    probabilities = np.concatenate([_softmax(values).reshape(-1, CLASSES) for values in scores])
    boxes = np.concatenate([decode(values, i).reshape(-1, 4) for i, values in enumerate(offsets)])
    boxes = np.clip(boxes, 0, 1)
    found: list[tuple[float, int, int]] = []
    for label in range(1, CLASSES):
        candidates = np.flatnonzero(probabilities[:, label] > select_threshold)
        order = candidates[np.argsort(-probabilities[candidates, label], kind="stable")][:_MOST]
        kept = _suppress(boxes[order], nms_threshold)
        found += [(float(probabilities[i, label]), label, int(i)) for i in order[kept]]
    found.sort(key=lambda item: -item[0])
    best = found[:_KEPT]
    return (
        np.array([label for _, label, _ in best], np.int64),
        np.array([score for score, _, _ in best], np.float32),
        boxes[[i for _, _, i in best]].astype(np.float32).reshape(-1, 4),
    )


def _checked(result: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The six class scores [s, s, a, 21] and the six boxes [s, s, a, 4]."""
    sizes = [(SITES[block], SITES[block], ANCHORS[block], size) for size in (CLASSES, 4) for block in BLOCKS]
    if len(result) != len(sizes):
        raise InvalidInputError(
            f"expected the network's {len(sizes)} outputs, got {len(result)}. Ask for all of output_tensor_list"
        )
    arrays = []
    for number, (value, size) in enumerate(zip(result, sizes, strict=True)):
        array = np.asarray(value, np.float32)
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


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _suppress(boxes: np.ndarray, threshold: float) -> list[int]:
    """Indices of `boxes`, best first, that overlap no better kept one by more than `threshold`."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if kept:
            rest = boxes[kept]
            sides = np.minimum(rest[:, 2:], box[2:]) - np.maximum(rest[:, :2], box[:2])
            shared = np.prod(np.maximum(sides, 0), axis=1)
            union = areas[kept] + areas[i] - shared
            if (shared > threshold * union).any():
                continue
        kept.append(i)
    return kept
