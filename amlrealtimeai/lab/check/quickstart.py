"""The exercises of 00_QuickStart."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai.lab.check.verdict import (
    Verdict,
    Wrong,
    apart,
    ask_in_lists_or_arrays,
    check,
    is_open,
    number,
    returned_nothing,
    right,
    shown,
    words,
)
from amlrealtimeai.lab.pictures import Top, top

_CATS = ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat")


@check
def chelsea(answer: Any) -> Verdict:
    """Exercise 1: the service's answer for chelsea.jpg, as lab.top(...) or as its 1000 probabilities."""
    found = answer if isinstance(answer, Top) and answer.rows else _top_of(answer)
    if found.label == "espresso":
        raise Wrong("That is still the coffee: score_file wants the path of the other picture.")
    if found.label not in _CATS:
        raise Wrong(f"The service said {found.label}; was the picture lab.sample('chelsea')?")
    if not 0.3 < found.probability <= 1:
        raise Wrong(
            f"{found.probability:.3g} is not what the service says of it; give its answer to lab.top as it came."
        )
    return right(f"A cat, with {100 * found.probability:.1f} % {found.label}. Nothing was deployed anew for it.")


def _top_of(answer: Any) -> Top:
    if isinstance(answer, Path) or (isinstance(answer, str) and answer.endswith(".jpg")):
        raise Wrong("That is the picture's path: send it, lab.top(client.score_file(...)).")
    if isinstance(answer, list | tuple) and len(answer) == 1 and isinstance(answer[0], Top):
        return answer[0]
    try:
        values = np.asarray(answer)
        if values.dtype.kind == "f" and abs(values.sum(dtype=np.float64) - 1) < 0.01:
            return top(values)
    except Exception:  # something that only looks like an array, or of another length
        pass
    raise Wrong("Give lab.top(...) of what client.score_file returned for lab.sample('chelsea').")


_BLOCKS: tuple[tuple[list[float], int], ...] = (
    ([6.5, 2.5, -1.5, 0.25], 2),
    ([0.1, -0.2, 0.05, 0.0], -3),
    ([-8.0, 1.0, 2.0, 3.0], 3),
    ([5.0, -2.0, 1.0, 1.0], 2),
    ([7.9999995, 1.0, 0.0, 0.0], 2),
)
_DEFINITION = "Which e gives 2**e <= largest < 2**(e+1)?"


def _log2(block: list[float]) -> float:
    return math.log2(max(abs(v) for v in block))


# what a learner may compute instead, and what to say to it
_MISTAKES: tuple[tuple[Callable[[list[float]], float], str], ...] = (
    (
        lambda block: math.frexp(max(abs(v) for v in block))[1],
        "frexp's m is below 1 (0.5 <= m < 1), so its e is one more than the shared exponent: take 1 off.",
    ),
    (lambda block: math.frexp(max(abs(v) for v in block))[0], "That is frexp's m; the exponent is its second value."),
    (lambda block: math.floor(math.log2(max(block))), "-8.0 has the largest magnitude in its block: take abs()."),
    (lambda block: math.frexp(max(block))[1], "Take abs() of every number, and 1 off frexp's e (its m is below 1)."),
    (lambda block: math.floor(math.log2(abs(block[0]))), "Look at all numbers of the block, not only at the first."),
    (lambda block: round(_log2(block)), "Round down, not to the nearest: 2**e may not exceed the largest magnitude."),
    (lambda block: math.ceil(_log2(block)), "Round down, not up: 2**e may not exceed the largest magnitude."),
    (lambda block: int(_log2(block)), "int() cuts towards zero, so -2.3 becomes -2: math.floor rounds down."),
    (_log2, "That is log2 itself; the exponent is a whole number: round down."),
    (
        lambda block: math.floor(_log2(block)) - 1,
        "One more is right: 2**(e+1) is not above the largest magnitude either.",
    ),
    (lambda block: math.floor(_log2(block) * math.log(2)), "math.log is the natural logarithm; exponents are of 2."),
    (lambda block: math.floor(_log2(block) * math.log10(2)), "log10 counts powers of ten; exponents are of 2."),
    (lambda block: math.floor(_log2(block)) + 127, "That is the exponent as float32 stores it: take 127 off."),
    (lambda block: 2.0 ** math.floor(_log2(block)), "That is 2**e; give e."),
    (lambda block: max(abs(v) for v in block), "That is the largest magnitude itself. " + _DEFINITION),
    (
        lambda block: round(_log2(block)) if block[0] == 7.9999995 else math.floor(_log2(block)),
        "7.9999995 is below 8, but log2 in 32-bit floats rounds up to 3. math.frexp reads the exponent's bits.",
    ),
)


@check
def shared_exponent(function: Any) -> Verdict:
    """Exercise 2: a function that finds a block's shared exponent."""
    answers = [_exponent_by(function, block) for block, _ in _BLOCKS]
    expected = [float(e) for _, e in _BLOCKS]
    if answers == expected:
        return right("The largest magnitude decides: its floor(log2), whatever its sign.")
    for mistake, text in _MISTAKES:
        if np.allclose(answers, [mistake(block) for block, _ in _BLOCKS], rtol=1e-6, atol=1e-9):
            raise Wrong(_difference(answers) + text)
    raise Wrong(_difference(answers) + _DEFINITION)


def _exponent_by(function: Any, block: list[float]) -> float:
    answer = ask_in_lists_or_arrays(function, list(block))
    if is_open(answer):
        raise returned_nothing(block)
    return number(answer, "a whole number")


def _difference(answers: list[float]) -> str:
    block, expected, got = next((b, e, a) for (b, e), a in zip(_BLOCKS, answers, strict=True) if a != e)
    return f"{block}: {apart(expected, got)}. "


_STEPS = ("define", "register", "convert", "containerize", "deploy", "consume")
_WHY = {
    "define": "the new classifier is a part of the graph",
    "register": "the workspace keeps copies, and its copy has the old classifier",
    "convert": "the classifier is a stage of the converted model too (it runs on the host)",
    "containerize": "the image holds the converted model, and that is a new one",
    "deploy": "the service runs the image that it was given, until it is given another",
}


@check
def steps_to_repeat(answer: Any) -> Verdict:
    """Exercise 3: which steps a new classifier needs again, in any order and form."""
    if isinstance(answer, set | frozenset):
        answer = list(answer)
    given = set(words(answer.split() if isinstance(answer, str) and "," not in answer else answer)) - {"->", "→", "and"}
    if not given:
        raise Wrong(f"Name at least one of {', '.join(_STEPS)}.")
    unknown = given - set(_STEPS)
    if unknown:
        said = ", ".join(step if len(step) < 40 else shown(step) for step in sorted(unknown)[:3])
        raise Wrong(f"{said}: the steps are called {', '.join(_STEPS)}.")
    if "consume" in given:
        raise Wrong("The client stays as it is: names of inputs and outputs did not change.")
    missing = [step for step in ("convert", *_STEPS[:5]) if step not in given]
    if missing:
        raise Wrong(f"What about one more? {_WHY[missing[0]].capitalize()}, so: {missing[0]}.")
    return right("All but consume: a client only knows a name, an address, and the names of inputs and outputs.")
