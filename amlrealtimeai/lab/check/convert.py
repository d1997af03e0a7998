"""The exercises of 02_Convert."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from amlrealtimeai.lab.check.verdict import (
    Verdict,
    Wrong,
    apart,
    ask,
    ask_in_lists_or_arrays,
    by_task,
    check,
    entries,
    is_open,
    number,
    plain,
    returned_nothing,
    right,
    shown,
)

_BLOCKS: tuple[tuple[list[float], int, list[float]], ...] = (
    ([6.5, 2.5, -1.5, 0.25], 3, [6.0, 2.0, -2.0, 0.0]),
    ([-7.9, 0.3, 1.0, 3.0], 3, [-7.0, 0.0, 1.0, 3.0]),
    ([0.1, -0.2, 0.05, 0.0], 5, [0.1015625, -0.203125, 0.046875, 0.0]),
    ([1.0, 0.75, -0.3, 0.1], 2, [1.0, 1.0, -0.5, 0.0]),
)


def _rounded(
    values: list[float],
    bits: int,
    to_whole: Callable[[float], float] = round,
    unit: Callable[[int, int], int] = lambda e, bits: e - (bits - 1),
    most: Callable[[int], float] = lambda bits: 2**bits - 1,
    magnitude: Callable[[float], float] = abs,
) -> list[float]:
    exponent = math.frexp(max(magnitude(v) for v in values))[1] - 1
    step = 2.0 ** unit(exponent, bits)
    return [max(-most(bits), min(most(bits), to_whole(v / step))) * step for v in values]


# what a learner may compute instead, and what to say to it
_MISTAKES: tuple[tuple[Callable[[list[float], int], list[float]], str], ...] = (
    (
        lambda v, bits: _rounded(v, bits, most=lambda _: math.inf),
        "-7.9 is nearest to -8, but three bits count to 7 only: keep every whole number within 2**bits - 1.",
    ),
    (lambda v, bits: _rounded(v, bits, to_whole=math.trunc), "Round to the nearest, do not cut off (2.6 is 3)."),
    (lambda v, bits: _rounded(v, bits, to_whole=math.floor), "Round to the nearest, not down (2.6 is 3)."),
    (
        lambda v, bits: _rounded(v, bits, to_whole=lambda x: math.copysign(math.floor(abs(x) + 0.5), x)),
        "Halves go to the even neighbour (2.5 becomes 2): round() of Python and NumPy does it.",
    ),
    (lambda v, bits: _rounded(v, bits, unit=lambda e, _: e), "The step is not 2**e, it is 2**(e - (bits - 1))."),
    (lambda v, bits: _rounded(v, bits, unit=lambda e, b: e - b), "The step is twice that: 2**(e - (bits - 1))."),
    (
        lambda v, bits: _rounded(v, bits, unit=lambda e, b: e - b + 2),
        "The step is half of that. Take 1 off frexp's e (its m is below 1).",
    ),
    (
        lambda v, bits: _rounded(v, bits, most=lambda b: 2 ** (b - 1) - 1),
        "The sign has a bit of its own: bits of mantissa count to 2**bits - 1.",
    ),
    (lambda v, bits: _rounded(v, bits, magnitude=float), "-7.9 has the largest magnitude in its block: take abs()."),
    (
        lambda v, bits: [x / 2.0 ** (math.frexp(max(map(abs, v)))[1] - bits) for x in _rounded(v, bits)],
        "Those are the whole numbers; give the values, times the step.",
    ),
    (lambda v, bits: list(v), "Those are the values as they were."),
)


@check
def rounded_block(function: Any) -> Verdict:
    """Exercise 1: a function from a block and a number of bits to what block floating point leaves of the block."""
    answers = [_block_by(function, values, bits) for values, bits, _ in _BLOCKS]
    wrong = [i for i, (_, _, kept) in enumerate(_BLOCKS) if answers[i] != kept]
    if not wrong:
        return right("Rounded, kept within its bits, times the step: the NPU does this to every number it multiplies.")
    values, bits, kept = _BLOCKS[wrong[0]]
    said = f"{values} in {bits} bits: expected {kept}, got {[float(f'{v:.6g}') for v in answers[wrong[0]]]}. "
    for mistake, text in _MISTAKES:
        if np.allclose(answers, [mistake(list(block), b) for block, b, _ in _BLOCKS], rtol=1e-9, atol=0):
            raise Wrong(said + text)
    raise Wrong(said + "Exponent e of the largest magnitude; step 2**(e - (bits - 1)); round; at most 2**bits - 1.")


def _block_by(function: Any, values: list[float], bits: int) -> list[float]:
    block = list(values)
    answer = ask_in_lists_or_arrays(function, block, bits)
    if is_open(answer):
        if block != values:
            raise Wrong("It changes the list that it was given, and returns None: return what is left of it.")
        raise returned_nothing(values)
    kept = entries(answer)
    if kept is None or len(kept) != len(values):
        raise Wrong(f"{values}: expected {len(values)} numbers, got {shown(answer)}")
    return [number(value) for value in kept]


_STAGES = {
    "decode the JPEG": "first host stage",
    "subtract the mean": "first host stage",
    "multiply with 3 x 3 filters": "npu",
    "add the shortcut": "npu",
    "make probabilities (softmax)": "second host stage",
}
_NAMES = {"first host stage", "npu", "second host stage"}
_WHY = {
    "decode the JPEG": "A JPEG is bytes that depend on each other; the NPU multiplies matrices of numbers.",
    "subtract the mean": "It belongs to the preprocessing, before anything is a block.",
    "multiply with 3 x 3 filters": "That is mv_mul, what the NPU is there for.",
    "add the shortcut": "It lies between convolutions: there and back over PCIe would cost more than the network.",
    "make probabilities (softmax)": "The NPU ends with the 2048 features; exponentials of 1000 numbers are the host's.",
}


@check
def which_stage(answer: Any) -> Verdict:
    """Exercise 2: where each step of the network runs; a dictionary, or the stages in the order of the steps."""
    said = {step: plain(stage) for step, stage in by_task(answer, tuple(_STAGES)).items()}
    if not set(said.values()) <= _NAMES:
        raise Wrong(f"Give each of {', '.join(_STAGES)} one of the stages {', '.join(sorted(_NAMES))}.")
    for step, stage in _STAGES.items():
        if said[step] != stage:
            raise Wrong(f"{step.capitalize()} in the {said[step]}? {_WHY[step]}")
    return right("What multiplies runs on the NPU; what reads files or needs functions stays with the host.")


_TABLES: tuple[tuple[float, dict[int, float], float, int | None], ...] = (
    (97.0, {1: 40.0, 2: 80.0, 3: 95.5, 4: 96.5, 5: 96.9, 7: 97.1}, 1.0, 4),
    (97.0, {5: 96.9, 7: 97.1, 3: 96.0, 2: 80.0}, 1.0, 3),
    (97.0, {2: 80.0, 3: 90.0}, 1.0, None),
    (90.0, {1: 91.0, 5: 90.0}, 0.0, 1),
)


@check
def fewest_bits(function: Any) -> Verdict:
    """Exercise 3: a function (float accuracy, {bits: accuracy}, points) to the fewest bits that lose no more points."""
    for in_float, table, points, expected in _TABLES:
        answer = ask(function, in_float, dict(table), points)
        case = f"float {in_float}, {table}, at most {points} points less"
        if expected is None:
            if answer is not None:
                raise Wrong(f"{case}: no format is good enough: expected None, got {shown(answer)}")
            continue
        if is_open(answer):
            raise returned_nothing((in_float, table, points))
        found = number(answer, f"{expected} bits")
        if found != expected:
            raise Wrong(f"{case}: {apart(expected, found)}. {_bits_hint(in_float, table, points, found)}")
    return right("A format is chosen by what the task may lose, not by its bits.")


def _bits_hint(in_float: float, table: dict[int, float], points: float, found: float) -> str:
    good = [bits for bits, accuracy in table.items() if in_float - accuracy <= points]
    better = [bits for bits in good if table[bits] > in_float]
    if found in good and better and found == min(set(good) - set(better), default=None):
        return f"{better[0]} bits are better than the floats, which is no loss: take the difference as it is, no abs()."
    if found == max(table, key=lambda bits: table[bits]):
        return "Those are the bits of the best accuracy; fewer are good enough."
    if found in good and found == max(good):
        return "That is the most of the good ones; take the fewest (min)."
    if found in good:
        return f"Fewer are good enough: {points:g} points less are allowed (<=), and the table need not be in order."
    if found == min(table):
        return "Those are the fewest of all, whatever they lose."
    if found in table:
        return f"{found:g} bits lose {in_float - table[int(found)]:.1f} points, more than may be lost."
    if found in table.values():
        return "That is an accuracy; give its number of bits."
    return f"The table has no {found:g} bits; give one of its numbers of bits."
