"""The exercises of 04_ObjectDetection."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.lab import detection
from amlrealtimeai.lab.check.verdict import (
    DividesByZero,
    Verdict,
    Wrong,
    apart,
    ask_in_lists_or_arrays,
    check,
    is_open,
    number,
    returned_nothing,
    right,
)
from amlrealtimeai.lab.images import Box, voc_labels

_STEP = 0.05

_Corners = tuple[float, float, float, float]

# (y1, x1, y2, x2) twice, their intersection over union, and in words what the case is
_PAIRS: tuple[tuple[_Corners, _Corners, float, str], ...] = (
    ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7, "1 is shared, and 4 + 4 - 1 = 7 is covered"),
    ((0, 0, 1, 4), (0, 2, 1, 6), 1 / 3, "2 is shared, and 4 + 4 - 2 = 6 is covered"),
    ((0, 0, 4, 4), (1, 1, 3, 2), 1 / 8, "the small one lies inside: 2 is shared, and 16 + 2 - 2 = 16 is covered"),
    ((0, 0, 1, 2), (0, 0, 2, 2), 1 / 2, "the first lies inside: 2 is shared, and 2 + 4 - 2 = 4 is covered"),
    ((0.25, 0.5, 0.75, 1.0), (0.25, 0.5, 0.75, 1.0), 1.0, "a box and itself"),
    ((0, 0, 2, 1), (0, 2, 2, 3), 0.0, "side by side, they share nothing"),
    ((0, 0, 1, 1), (2, 2, 3, 3), 0.0, "apart in both directions, they share nothing"),
)


def _shared(a: _Corners, b: _Corners, least: float = 0.0, more: float = 0.0) -> float:
    high = max(least, min(a[2], b[2]) - max(a[0], b[0]) + more)
    return high * max(least, min(a[3], b[3]) - max(a[1], b[1]) + more)


def _area(a: _Corners, more: float = 0.0) -> float:
    return (a[2] - a[0] + more) * (a[3] - a[1] + more)


def _ratio(a: _Corners, b: _Corners, least: float = 0.0, more: float = 0.0) -> float:
    shared = _shared(a, b, least, more)
    return shared / (_area(a, more) + _area(b, more) - shared)


def _by_size(a: _Corners, b: _Corners) -> float:
    """As if a box were its upper left corner, its height and its width."""
    c, d = ((box[0], box[1], box[0] + box[2], box[1] + box[3]) for box in (a, b))
    return _ratio(c, d)


# what a learner may compute instead, and what to say to it
_MISTAKES: tuple[tuple[Callable[[_Corners, _Corners], float], str], ...] = (
    (lambda a, b: _ratio(a, b, least=-np.inf), "Minus times minus is plus: a height or width below 0 counts as 0."),
    (lambda a, b: _shared(a, b) / (_area(a) + _area(b)), "What is shared is in both areas: subtract it once."),
    (lambda a, b: _shared(a, b) / min(_area(a), _area(b)), "Divide by all that is covered, not by the smaller box."),
    (lambda a, b: _shared(a, b) / max(_area(a), _area(b)), "Divide by all that is covered, not by the larger box."),
    (lambda a, b: _shared(a, b) / _area(a), "Divide by all that is covered, not by the first box."),
    (lambda a, b: _shared(a, b) / _area(b), "Divide by all that is covered, not by the second box."),
    (
        lambda a, b: 2 * _shared(a, b) / (_area(a) + _area(b)),
        "That is Dice's measure; divide what is shared by what is covered, once.",
    ),
    (_shared, "That is the area that is shared; divide it by the area that is covered."),
    (lambda a, b: _ratio(a, b, more=1.0), "Here a box ends where its numbers say: a side is y2 - y1, without 1 more."),
    (lambda a, b: _ratio(a, b) // 1, "// drops what is behind the point: divide by /."),
    *(
        (lambda a, b, digits=digits: round(_ratio(a, b), digits), "Give it as it is, without rounding.")
        for digits in range(5)
    ),
    (lambda a, b: 100 * _ratio(a, b), "That is in per cent; give a share from 0 to 1."),
    (lambda a, b: 1 - _ratio(a, b), "That is the distance; the overlap is 1 minus it."),
    (_by_size, "The last two numbers are the lower right corner (y2, x2), not height and width."),
)


@check
def overlap(function: Any) -> Verdict:
    """Exercise 1: a function of two boxes (y1, x1, y2, x2), their intersection over union."""
    answers = [_overlap_by(function, a, b) for a, b, _, _ in _PAIRS]
    wrong = [i for i, (*_, expected, _) in enumerate(_PAIRS) if not np.isclose(answers[i], expected, rtol=1e-5)]
    if not wrong:
        return right("Shared by covered: 1 for the same box, 0 for boxes apart, whatever their sizes.")
    a, b, expected, why = _PAIRS[wrong[0]]
    said = f"{a} and {b}: {apart(expected, answers[wrong[0]])}. "
    for mistake, text in _MISTAKES:
        if np.allclose(answers, [_quietly(mistake, a, b) for a, b, *_ in _PAIRS], rtol=1e-5):
            raise Wrong(said + text)
    raise Wrong(f"{said}{why[0].upper()}{why[1:]}.")


def _quietly(mistake: Callable[[_Corners, _Corners], float], a: _Corners, b: _Corners) -> float:
    try:
        return mistake(a, b)
    except ZeroDivisionError:
        return float("nan")


def _overlap_by(function: Any, a: _Corners, b: _Corners) -> float:
    try:
        answer = ask_in_lists_or_arrays(function, a, b)
    except DividesByZero:
        raise Wrong(f"It divides by 0 for {a} and {b}: what is covered by both is never 0 there.") from None
    if is_open(answer):
        raise returned_nothing((a, b))
    return number(answer, "a share from 0 to 1")


@check
def missed(threshold: Any, outputs: Sequence[np.ndarray], truth: Sequence[Box]) -> Verdict:
    """Exercise 2: the highest select_threshold, in steps of 0.05, at which no object of `truth` is missed."""
    share = _share(threshold, "select_threshold")
    seen = _seen(outputs, truth, select=share)
    if seen.missed:
        names = ", ".join(voc_labels()[truth[i].label] for i in seen.missed)
        raise Wrong(f"At {share:.2f} this is still missed: {names}. Go lower.")
    higher = _seen(outputs, truth, select=share + _STEP) if share + _STEP <= 1 else None
    if higher is not None and not higher.missed:
        raise Wrong(f"All are found at {share:.2f}, but at {share + _STEP:.2f} too, with no more wrong boxes.")
    price = f"{len(seen.extra)} box{'es' * (len(seen.extra) != 1)} where nothing of that kind is"
    return right(f"At {share:.2f} all {len(truth)} are found; the price is {price}. There is no threshold for free.")


@check
def doubled(threshold: Any, outputs: Sequence[np.ndarray], truth: Sequence[Box]) -> Verdict:
    """Exercise 3: the highest nms_threshold, in steps of 0.05, at which no object of `truth` has two boxes."""
    share = _share(threshold, "nms_threshold")
    seen = _seen(outputs, truth, nms=share)
    if seen.doubled:
        names = ", ".join(sorted({seen.names[i] for i in seen.doubled}))
        raise Wrong(f"At {share:.2f} boxes too many are left: {len(seen.doubled)}, of: {names}. Go lower.")
    if share + _STEP <= 1 and not _seen(outputs, truth, nms=share + _STEP).doubled:
        raise Wrong(
            f"None is doubled at {share:.2f}, but none at {share + _STEP:.2f} either; the lower the threshold, the "
            "sooner an object is dropped because it stands before another of its kind. Go higher."
        )
    return right(f"At {share:.2f} every object has one box, and neighbours of a kind may overlap as far as that.")


def _seen(
    outputs: Sequence[np.ndarray], truth: Sequence[Box], select: float = 0.5, nms: float = 0.45
) -> detection.Comparison:
    classes, _, boxes = ssdvgg.postprocess(outputs, select_threshold=select, nms_threshold=min(nms, 1.0))
    return detection.compare(truth, classes, boxes)


def _share(answer: Any, name: str) -> float:
    """A threshold in any form; Wrong for what is no share."""
    value = number(answer, "a share from 0 to 1")
    if 1 < value <= 100:
        raise Wrong(f"{name} is a share from 0 to 1: {value / 100:g} instead of {value:g}?")
    if not 0 < value <= 1:
        raise Wrong(f"{name} is a share, more than 0 and at most 1; got {value:g}")
    return value
