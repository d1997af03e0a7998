"""The checks of 02_Convert: right answers in every form, common wrong ones with their true reasons."""

import math

import numpy as np
import pytest

from amlrealtimeai.lab import check


def rounded(values, bits):
    step = 2.0 ** (math.frexp(max(abs(v) for v in values))[1] - bits)
    return [max(1 - 2**bits, min(2**bits - 1, round(v / step))) * step for v in values]


def variant(values, bits, to_whole=round, most=None, unit=0):
    step, most = 2.0 ** (math.frexp(max(abs(v) for v in values))[1] - bits + unit), most or 2**bits - 1
    return [max(-most, min(most, to_whole(v / step))) * step for v in values]


def by_arrays(values, bits):
    step = 2.0 ** (np.frexp(np.abs(values).max())[1] - bits)
    return np.clip(np.round(values / step), 1 - 2**bits, 2**bits - 1) * step  # a list divided: TypeError, then an array


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        iter,
        lambda kept: (k for k in kept),
        np.array,
        np.float32,
        lambda kept: np.array(kept).reshape(-1, 1),
    ],
)
def test_a_block_passes_in_every_form(form):
    assert check.rounded_block(lambda values, bits: form(rounded(values, bits))).passed
    assert check.rounded_block(by_arrays).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda v, b: variant(v, b, most=99), "count to 7 only"),
        (lambda v, b: variant(v, b, to_whole=int), "do not cut off"),
        (lambda v, b: variant(v, b, to_whole=math.floor), "not down"),
        (lambda v, b: variant(v, b, to_whole=lambda x: math.copysign(int(abs(x) + 0.5), x)), "even neighbour"),
        (lambda v, b: variant(v, b, unit=-1), "The step is twice that"),
        (lambda v, b: variant(v, b, unit=b - 1), "it is 2**(e - (bits - 1))"),
        (lambda v, b: list(v), "as they were"),
        (lambda v, b: [x / 2.0 ** (math.frexp(max(map(abs, v)))[1] - b) for x in rounded(v, b)], "times the step"),
        (lambda v, b: rounded(v, b)[:2], "expected 4 numbers"),
        (lambda v, b: 6.0, "expected 4 numbers"),
        (lambda v, b: "6, 2, -2, 0", "expected 4 numbers"),
        (lambda v, b: {}, "expected 4 numbers"),
        (lambda v, b: [str(x) for x in rounded(v, b)], "leave the quotes out"),
        (lambda v, b: print(end=""), "returned None for [6.5, 2.5, -1.5, 0.25]"),
        (lambda v, b: variant(v, b, unit=1), "frexp's e"),
        (lambda v, b: variant(v, b, most=2 ** (b - 1) - 1), "a bit of its own"),
        (lambda v, b: v.__setitem__(slice(None), rounded(v, b)), "changes the list that it was given"),
        (lambda v, b: np.array(rounded(v, b)).astype(np.int8), "expected [0.1015625"),
        (lambda v, b: [math.nan] * 4, "got [nan, nan, nan, nan]"),
        (lambda v, b: [0.0] * 4, "of the largest magnitude; step"),
        (lambda v: v, "has to take 2 values"),
        (lambda v, b: ..., "in place of None"),
    ],
)
def test_wrong_blocks_are_diagnosed(function, said):
    verdict = check.rounded_block(function)
    assert not verdict.passed and said in verdict.text, verdict


STAGES = {
    "decode the JPEG": "first host stage",
    "subtract the mean": "first host stage",
    "multiply with 3 x 3 filters": "npu",
    "add the shortcut": "npu",
    "make probabilities (softmax)": "second host stage",
}


def test_the_stages_in_every_form():
    shouted = {step: stage.upper() for step, stage in STAGES.items()}
    other = {step.title(): stage.replace(" ", "_") for step, stage in STAGES.items()}
    for answer in (
        STAGES,
        shouted,
        other,
        list(STAGES.items()),
        list(STAGES.values()),
        np.array(list(STAGES.values())),
    ):
        assert check.which_stage(answer).passed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decode the JPEG": "npu"}, "multiplies matrices"),
        ({"subtract the mean": "npu"}, "before anything is a block"),
        ({"multiply with 3 x 3 filters": "second host stage"}, "mv_mul"),
        ({"add the shortcut": "second host stage"}, "over PCIe"),
        ({"make probabilities (softmax)": "npu"}, "exponentials"),
        ({"add the shortcut": ...}, "still a ..."),
        ({"add the shortcut": "gpu"}, "Give each of"),
        ({"something else": "npu"}, "Give each of"),
        ({"add the shortcut": ["npu"]}, "Give each of"),
        ({"add the shortcut": math.nan}, "Give each of"),
    ],
)
def test_wrong_stages_are_diagnosed(change, said):
    verdict = check.which_stage(STAGES | change)
    assert not verdict.passed and said in verdict.text, verdict


@pytest.mark.parametrize("answer", [["npu"], "npu", list(STAGES), ("first host stage",) * 4])
def test_stages_that_are_no_dictionary(answer):
    said = check.which_stage(answer)
    assert not said.passed and ("Give a dictionary" in said.text or "Give each of" in said.text), said


def fewest(in_float, table, points):
    return min((bits for bits, accuracy in table.items() if in_float - accuracy <= points), default=None)


@pytest.mark.parametrize("form", [int, float, np.int64, np.array, lambda bits: [bits]])
def test_the_fewest_bits_in_every_form(form):
    assert check.fewest_bits(lambda *given: None if (bits := fewest(*given)) is None else form(bits)).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda f, t, p: max(t, key=t.get), "the best accuracy"),
        (lambda f, t, p: min(t), "whatever they lose"),
        (lambda f, t, p: max(b for b in t if f - t[b] <= p), "the best accuracy"),
        (
            lambda f, t, p: min(b for b in t if f - t[b] < p),
            "expected 3, got 5. Fewer are good enough: 1 points less are allowed (<=)",
        ),
        (lambda f, t, p: min((b for b in t if abs(f - t[b]) <= p), default=None), "no abs()"),
        (lambda f, t, p: next(b for b in t if f - t[b] <= p), "need not be in order"),
        (lambda f, t, p: next((b for b in sorted(t) if f - t[b] <= p), 0), "expected None, got 0"),
        (lambda f, t, p: max(t.values()), "That is an accuracy"),
        (lambda f, t, p: fewest(f, t, p) + 2, "The table has no 6 bits"),
        (lambda f, t, p: sorted(b for b in t if f - t[b] <= p), "expected 4 bits, got [4, 5, 7]"),
        (lambda f, t, p: math.nan, "The table has no nan bits"),
        (lambda f, t, p: t.clear(), "returned None"),
        (lambda f, t, p: None, "in place of None"),
        (lambda f, t, p: print(end=""), "returned None"),
        (lambda f, t, p: "4", "leave the quotes out"),
        (lambda f, t, p: 1 // 0, "ZeroDivisionError"),
        (lambda t: 4, "has to take 3 values"),
    ],
)
def test_wrong_choices_of_bits_are_diagnosed(function, said):
    verdict = check.fewest_bits(function)
    assert not verdict.passed and said in verdict.text, verdict
