"""Mean average precision of detections, as COCO defines it at one overlap; NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from amlrealtimeai.accel.models.ssdvgg import check_share, overlaps
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.images import Box

_RECALLS = np.linspace(0, 1, 101)
_MOST = 100  # of a class in a picture; COCO looks at no more

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of a picture: classes [k], scores [k], boxes [k, 4], as ssdvgg.postprocess returns them."""


def average_precisions(
    found: Sequence[Found], truth: Sequence[Sequence[Box]], overlap: float = 0.5
) -> dict[int, float]:
    """Average precision, 0..1, of every class that `truth` has.

    found: detections of each picture. truth: its objects. A detection is right where it overlaps an object of its class
    by `overlap` or more (intersection over union) that no more probable one has taken; precision is averaged over 101
    recalls, at each the best that any larger recall has. Raises InvalidInputError where pictures are missing, and for
    detections that do not fit together.
    """
    check_share("overlap", overlap)
    if len(found) != len(truth):
        raise InvalidInputError(f"expected detections of all {len(truth)} pictures, got those of {len(found)}")
    found = [_checked(*detections) for detections in found]
    labels = sorted({box.label for boxes in truth for box in boxes})
    return {label: _average(*_matched(label, found, truth, overlap)) for label in labels}


def mean_average_precision(found: Sequence[Found], truth: Sequence[Sequence[Box]], overlap: float = 0.5) -> float:
    """The mean over all classes that `truth` has; NaN where it has no object."""
    values = list(average_precisions(found, truth, overlap).values())
    return float(np.mean(values)) if values else float("nan")


def _checked(classes: Any, scores: Any, boxes: Any) -> Found:
    labels, confidences, corners = (
        np.asarray(classes),
        np.asarray(scores, float),
        np.asarray(boxes, float).reshape(-1, 4),
    )
    if not labels.shape == confidences.shape == (len(corners),):
        raise InvalidInputError(
            f"expected classes [k], scores [k] and boxes [k, 4] of each picture, got {labels.shape}, "
            f"{confidences.shape} and {corners.shape}"
        )
    if not (np.isfinite(confidences).all() and np.isfinite(corners).all()):
        raise InvalidInputError("scores and boxes have to be finite numbers; got some that are not")
    return labels, confidences, corners


def _matched(
    label: int, found: Sequence[Found], truth: Sequence[Sequence[Box]], overlap: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Of a class: scores [k] of its detections, whether each is right [k], the number of its objects."""
    scores, right, objects = [np.zeros(0)], [np.zeros(0, bool)], 0
    for (classes, confidences, boxes), known in zip(found, truth, strict=True):
        corners = np.array([box[1:] for box in known if box.label == label], float).reshape(-1, 4)
        chosen = np.flatnonzero(classes == label)
        chosen = chosen[np.argsort(-confidences[chosen], kind="stable")][:_MOST]
        scores.append(confidences[chosen])
        right.append(_right(overlaps(boxes[chosen], corners), overlap))
        objects += len(corners)
    return np.concatenate(scores), np.concatenate(right), objects


def _right(shared: np.ndarray, overlap: float) -> np.ndarray:
    """Which detections, best first, find an object that is still free. shared: overlaps [detections, objects]."""
    free = np.ones(shared.shape[1], bool)
    right = np.zeros(len(shared), bool)
    for number, row in enumerate(shared):
        candidates = np.where(free, row, -1.0)
        if candidates.size and candidates.max() >= overlap:
            free[candidates.argmax()] = False
            right[number] = True
    return right


def _average(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    recall = hits / objects
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())
