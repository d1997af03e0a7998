import math

import numpy as np
import pytest

from amlrealtimeai import lab
from amlrealtimeai.lab import check


def probabilities(index):
    values = np.full(1000, 0.0001)
    values[index] = 0.9
    return lab.top(values)


def test_zebra_passes_and_the_fox_is_recognised():
    assert check.zebra(probabilities(340)).passed
    assert not check.zebra(None).passed
    assert "still the fox" in check.zebra(probabilities(277)).text
    assert "said tabby" in check.zebra(probabilities(281)).text
    assert "lab.top" in check.zebra(np.zeros(1000)).text


def test_the_solution_of_the_shared_exponent_passes():
    assert check.shared_exponent(lambda values: math.frexp(max(abs(v) for v in values))[1] - 1).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda values: ..., "in place of None"),
        (lambda values: None, "in place of None"),
        (lambda values: math.frexp(max(values))[1] - 1, "take abs"),
        (lambda values: math.frexp(max(abs(v) for v in values))[1], "Round down"),
        (lambda values: round(math.log2(max(abs(v) for v in values))), "Round down"),
        (lambda values: 0, "Which e gives"),
        (lambda values: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_wrong_shared_exponents_are_diagnosed(function, said):
    verdict = check.shared_exponent(function)
    assert not verdict.passed
    assert said in verdict.text


def test_log2_in_32_bits_fails_just_below_a_power_of_two():
    verdict = check.shared_exponent(lambda values: int(np.floor(np.log2(np.float32(max(abs(v) for v in values))))))
    assert not verdict.passed
    assert "7.9999995" in verdict.text


@pytest.mark.parametrize(
    ("answer", "passed", "said"),
    [
        (["define", "register", "convert", "containerize", "deploy"], True, "All but consume"),
        (None, False, "in place of None"),
        (["define", "deploy"], False, "so: convert"),
        (["define", "register", "convert", "deploy"], False, "containerize"),
        (["define", "register", "convert", "containerize", "deploy", "consume"], False, "client stays"),
        (["build"], False, "build: the steps are called"),
    ],
)
def test_steps_to_repeat(answer, passed, said):
    verdict = check.steps_to_repeat(answer)
    assert verdict.passed is passed
    assert said in verdict.text
