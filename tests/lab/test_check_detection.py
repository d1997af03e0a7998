"""The checks of 04_ObjectDetection: right answers in every form, common wrong ones with their true reasons."""

import numpy as np
import pytest

from amlrealtimeai.lab import check
from amlrealtimeai.lab.images import Box
from tests.lab.detected import CAR, CAT, DOG, outputs


def parts(a, b):
    high = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    wide = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return high * wide, (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])


def overlap(a, b):
    shared, one, other = parts(a, b)
    return shared / (one + other - shared)


def by_arrays(a, b):
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def unclipped(a, b):
    shared = (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))
    return shared / (parts(a, b)[1] + parts(a, b)[2] - shared)


def pixels(a, b):
    high, wide = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1) for i in (0, 1))
    sizes = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return high * wide / (sizes - high * wide)


def sized(a, b):
    return overlap(*((c[0], c[1], c[0] + c[2], c[1] + c[3]) for c in (a, b)))


@pytest.mark.parametrize("form", [float, np.float32, np.array, lambda share: [share]])
def test_an_overlap_passes_in_every_form(form):
    assert check.overlap(lambda a, b: form(overlap(a, b))).passed
    assert check.overlap(by_arrays).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (unclipped, "Minus times minus"),
        (lambda a, b: parts(a, b)[0] / sum(parts(a, b)[1:]), "subtract it once"),
        (lambda a, b: parts(a, b)[0] / min(parts(a, b)[1:]), "not by the smaller"),
        (lambda a, b: parts(a, b)[0] / max(parts(a, b)[1:]), "not by the larger"),
        (lambda a, b: parts(a, b)[0] / parts(a, b)[1], "not by the first"),
        (lambda a, b: parts(a, b)[0] / parts(a, b)[2], "not by the second"),
        (lambda a, b: 2 * parts(a, b)[0] / sum(parts(a, b)[1:]), "Dice"),
        (lambda a, b: parts(a, b)[0], "divide it by the area"),
        (pixels, "without 1 more"),
        (lambda a, b: 100 * overlap(a, b), "per cent"),
        (lambda a, b: 1 - overlap(a, b), "distance"),
        (lambda a, b: overlap(a, b) // 1, "divide by /"),
        (lambda a, b: round(overlap(a, b), 2), "without rounding"),
        (lambda a, b: round(overlap(a, b), 4), "expected 0.14285714, got 0.1429. Give it as it is, without rounding"),
        (lambda a, b: round(overlap(a, b), 1), "without rounding"),
        (lambda a, b: float("nan"), "got nan"),
        (lambda a, b: [overlap(a, b)] * 4, "expected a share"),
        (lambda a, b: a.sort(), "returned None"),
        (sized, "lower right corner"),
        (lambda a, b: 0.5, "expected 0.1429, got 0.5. 1 is shared, and 4 + 4 - 1 = 7 is covered."),
        (lambda a, b: overlap(a, b) or None, "returned None for ((0, 0, 2, 1), (0, 2, 2, 3))"),
        (lambda a, b: overlap(a, b) > 0.5, "yes-or-no"),
        (lambda a, b: "1/7", "leave the quotes out"),
        (lambda a, b: parts(a, b)[1] / parts(a, b)[0], "divides by 0"),
        (lambda a: 1, "has to take 2 values"),
        (lambda a, b: ..., "in place of None"),
        (0.5, "Give the function itself"),
    ],
)
def test_wrong_overlaps_are_diagnosed(function, said):
    verdict = check.overlap(function)
    assert not verdict.passed and said in verdict.text, verdict


LEFT, RIGHT, TOP = (0.3, 0.1, 0.9, 0.4), (0.3, 0.6, 0.9, 0.9), (0.0, 0.4, 0.2, 0.6)
TRUTH = [Box(CAT, *LEFT), Box(DOG, *RIGHT)]
FAINT = outputs((CAT, 0.9, LEFT), (DOG, 0.37, RIGHT), (CAR, 0.45, TOP))


@pytest.mark.parametrize("form", [float, np.float32, np.array, lambda share: [share]])
def test_the_highest_threshold_that_misses_nothing(form):
    verdict = check.missed(form(0.35), FAINT, TRUTH)
    assert verdict.passed and "At 0.35 all 2 are found; the price is 1 box where" in verdict.text
    assert check.missed(0.36, FAINT, TRUTH).passed


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.4, "At 0.40 this is still missed: dog. Go lower."),
        (0.95, "still missed: cat, dog"),
        (0.3, "All are found at 0.30, but at 0.35 too"),
        (0.05, "All are found at 0.05"),
        (35, "0.35 instead of 35"),
        (0, "more than 0"),
        (-1, "more than 0"),
        (float("nan"), "more than 0"),
        ("0.35", "leave the quotes out"),
        (None, "in place of None"),
        (..., "in place of None"),
        ([0.3, 0.4], "expected a share"),
        (True, "yes-or-no"),
    ],
)
def test_wrong_thresholds_are_diagnosed(answer, said):
    verdict = check.missed(answer, FAINT, TRUTH)
    assert not verdict.passed and said in verdict.text, verdict


# the second cat box overlaps the first by 0.25 / 0.35 = 0.714
TWICE = outputs((CAT, 0.9, LEFT), (CAT, 0.8, (0.3, 0.15, 0.9, 0.45)), (DOG, 0.7, RIGHT))


@pytest.mark.parametrize("form", [float, np.float32, np.array, lambda share: [share]])
def test_the_highest_threshold_that_doubles_nothing(form):
    assert check.doubled(form(0.7), TWICE, TRUTH).passed
    assert check.doubled(0.71, TWICE, TRUTH).passed


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.75, "At 0.75 boxes too many are left: 1, of: cat. Go lower."),
        (1.0, "too many are left: 1"),
        (0.45, "none at 0.50 either"),
        (70, "0.7 instead of 70"),
        (-0.5, "more than 0"),
        (None, "in place of None"),
    ],
)
def test_wrong_nms_thresholds_are_diagnosed(answer, said):
    verdict = check.doubled(answer, TWICE, TRUTH)
    assert not verdict.passed and said in verdict.text, verdict
