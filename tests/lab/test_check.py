import math

import numpy as np
import pytest

from amlrealtimeai import lab
from amlrealtimeai.lab import check
from amlrealtimeai.lab.transfer import Confusion


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


def test_a_small_training_set_is_judged_on_what_it_never_saw():
    table = Confusion(np.array([[45, 5], [3, 47]]), ("cat", "dog"))
    assert check.small_training_set(table, held_out=100).passed
    assert "92.0 %" in str(check.small_training_set(table, held_out=100))
    for held_out in (20, 160):
        verdict = check.small_training_set(table, held_out=held_out)
        assert not verdict.passed and f"counts 100 pictures; judge it on the {held_out}" in str(verdict)
    assert "confusion" in str(check.small_training_set(92.0, held_out=100))
    assert not check.small_training_set(None, held_out=100).passed


def test_the_solution_of_what_was_won_back_passes():
    def won_back(in_float, narrow, tuned):
        lost = in_float - narrow
        return 100 * (tuned - narrow) / lost if lost > 0 else None

    assert check.won_back(won_back).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda f, n, t: ..., "in place of"),
        (lambda f, n, t: (t - n) / (f - n), "in percent"),
        (lambda f, n, t: t - n, "points gained"),
        (lambda f, n, t: 100 * (t - n) / (f - n), "return None"),
        (lambda f, n, t: 100 * (t - n) / (f - n) if f > n else 0.0, "expected None, got 0.0"),
        (lambda f, n, t: 100 * t / f, "Points gained"),
        (lambda f, n, t: t.share, "AttributeError"),
    ],
)
def test_wrong_shares_are_diagnosed(function, said):
    verdict = check.won_back(function)
    assert not verdict.passed and said in str(verdict)


@pytest.mark.parametrize(
    ("sets", "passed", "said"),
    [
        (("taught", "looked at", "held out"), True, "looked at once"),
        (("Taught ", "looked at", "held out"), True, "looked at once"),
        (("taught", "held out", "held out"), False, "best of ten"),
        (("taught", "taught", "held out"), False, "larger rate"),
        (("taught", "looked at", "looked at"), False, "flatters"),
        (("taught", "looked at", "all"), False, "Give each of"),
    ],
)
def test_which_set(sets, passed, said):
    tasks = ("fit the classifier", "choose the learning rate", "report")
    verdict = check.which_set(dict(zip(tasks, sets, strict=True)))
    assert verdict.passed == passed and said in str(verdict)


def test_an_unanswered_exercise_of_model_building_is_open():
    assert "None" in str(check.which_set(None)) and "Give each" in str(check.which_set({}))
