"""The checks of the exercises: right answers in every form, common wrong ones with their true reasons, no traceback."""

import contextlib
import inspect
import math
import re
import signal
from asyncio import CancelledError
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import nbformat
import numpy as np
import pytest

from amlrealtimeai import lab
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.lab import check
from amlrealtimeai.lab.check import verdict
from amlrealtimeai.lab.transfer import Confusion
from tests.lab.test_security import RIGHT, diagnose

ROOT = Path(__file__).parents[2]
CHECKS = [name for name in check.__all__ if name != "Verdict"]


def probabilities(index, value=0.9):
    values = np.full(1000, (1 - value) / 999)
    values[index] = value
    return values


def judged(name, answer):
    more = {"held_out": 100} if name == "small_training_set" else {}
    return getattr(check, name)(answer, **more)


def loop(values):
    yield values


class Hostile:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __iter__(self):
        raise RuntimeError("no iteration")

    def __len__(self):
        raise RuntimeError("no length")

    def __array__(self, *_):
        raise RuntimeError("no array")


def raises(error):
    def function(*_):
        raise error

    return function


RUBBISH = [
    None,
    ...,
    "",
    "abc",
    "2",
    b"bytes",
    b"\xff",
    0,
    1.5,
    -3,
    True,
    math.nan,
    10**400,
    1j,
    [],
    [None],
    [...],
    [[]],
    (),
    {},
    set(),
    {"a": 1},
    {1: ...},
    [1, 2],
    ["define", ...],
    [["define"]],
    np.zeros(0),
    np.zeros(3),
    np.zeros((2, 2)),
    np.zeros((100, 2)),
    np.array(["define"]),
    np.array([None]),
    np.zeros(1000),
    np.ones((3, 1000)),
    np.eye(2, dtype=int),
    object(),
    Hostile(),
    int,
    print,
    len,
    lambda: 1,
    lambda *_: None,
    lambda *_: ...,
    lambda *_: "text",
    lambda *_: b"2",
    lambda *_: [],
    lambda *_: [1, 2],
    lambda *_: {},
    lambda *_: np.zeros(3),
    lambda *_: True,
    lambda *_: math.nan,
    lambda *_: math.inf,
    lambda *_: Hostile(),
    lambda *_: 1j,
    lambda *_: object(),
    lambda *_: 10**400,
    loop,
    lambda a, b, c, d, e: 1,
    raises(ValueError("no")),
    raises(SystemExit(3)),
    raises(ZeroDivisionError("0")),
    raises(RecursionError("deep")),
    raises(StopIteration()),
    raises(NotImplementedError()),
    Confusion(np.zeros((2, 2), int), ("cat", "dog")),
    Confusion(np.zeros((0, 0), int), ()),
    lab.top(probabilities(3)),
    np.array("define"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_whatever_is_handed_over_the_answer_is_a_verdict(name):
    for number, rubbish in enumerate(RUBBISH):
        verdict = judged(name, rubbish)
        assert isinstance(verdict, check.Verdict) and not verdict.passed, (number, verdict)
        assert str(verdict).startswith("Not yet. ") and len(str(verdict)) < 500, verdict


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_not_answered_is_open(name):
    def stub(values): ...

    def with_words(values):
        """What it shall do."""

    for answer in (None, ...):
        assert "in place of None" in judged(name, answer).text
    if name in ("shared_exponent", "diagnosis"):
        assert all("in place of None" in judged(name, f).text for f in (stub, with_words))


def test_a_verdict_is_green_or_red_with_a_mark_and_its_text_escaped():
    good, bad = check.Verdict(True, "2 < 3"), check.Verdict(False, "<script>")
    assert "#2e7d32" in good._repr_html_() and "&#10003; Right.</b> 2 &lt; 3" in good._repr_html_()
    assert "#c62828" in bad._repr_html_() and "&#10007; Not yet.</b> &lt;script&gt;" in bad._repr_html_()


def test_the_cat_passes_in_every_form():
    values = probabilities(285)
    for answer in (lab.top(values), values, values[None], list(values), [lab.top(values)], values.astype(np.float32)):
        assert check.chelsea(answer).passed, type(answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lab.top(probabilities(967)), "still the coffee"),
        (probabilities(340), "said zebra"),
        (lab.sample("chelsea"), "the picture's path"),
        ("Egyptian cat", "lab.top"),
        (np.zeros(1000), "lab.top"),
        (lab.top(100 * probabilities(285)), "as it came"),
    ],
)
def test_other_answers_about_the_cat(answer, said):
    verdict = check.chelsea(answer)
    assert not verdict.passed and said in verdict.text


def shared(values):
    return math.frexp(max(abs(v) for v in values))[1] - 1


@pytest.mark.parametrize(
    "form",
    [
        int,
        float,
        np.int8,
        np.int64,
        np.float32,
        np.float64,
        np.array,
        lambda e: [e],
        lambda e: (e,),
        lambda e: np.array([e]),
        lambda e: np.array([[float(e)]]),
    ],
)
def test_the_shared_exponent_passes_in_every_form(form):
    assert check.shared_exponent(lambda values: form(shared(values))).passed


@pytest.mark.parametrize(
    "function",
    [
        lambda values: np.floor(np.log2(np.abs(values).max())),
        lambda values: np.frexp(np.abs(values).max())[1] - 1,
        lambda values: math.frexp(abs(values).max())[1] - 1,  # it thinks in arrays
        lambda values, bits=3: shared(values),
        lambda *values: shared(values[0]),
    ],
)
def test_other_ways_to_the_shared_exponent(function):
    assert check.shared_exponent(function).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda values: math.frexp(max(abs(v) for v in values))[1], "take 1 off"),
        (lambda values: math.floor(math.log2(max(values))), "take abs()"),
        (lambda values: math.frexp(max(values))[1] - 1, "take abs()"),
        (lambda values: math.frexp(max(values))[1], "Take abs() of every number, and 1 off"),
        (lambda values: round(math.log2(max(abs(v) for v in values))), "Round down, not to the nearest"),
        (lambda values: math.ceil(math.log2(max(abs(v) for v in values))), "Round down, not up"),
        (lambda values: int(math.log2(max(abs(v) for v in values))), "int() cuts towards zero"),
        (lambda values: math.log2(max(abs(v) for v in values)), "a whole number: round down"),
        (lambda values: shared(values) - 1, "One more is right"),
        (lambda values: math.floor(math.log(max(abs(v) for v in values))), "natural logarithm"),
        (lambda values: math.floor(math.log10(max(abs(v) for v in values))), "powers of ten"),
        (lambda values: math.nan, "got nan"),
        (lambda values: [math.frexp(abs(v))[1] - 1 for v in values], "a whole number"),
        (lambda values: values.sort(), "returned None for [6.5, 2.5, -1.5, 0.25]"),
        (lambda values: shared(values) + 127, "take 127 off"),
        (lambda values: 2 ** shared(values), "give e"),
        (lambda values: max(abs(v) for v in values), "the largest magnitude itself"),
        (lambda values: math.frexp(max(abs(v) for v in values))[0], "second value"),
        (lambda values: math.floor(math.log2(abs(values[0]))), "not only at the first"),
        (lambda values: int(np.floor(np.log2(np.float32(max(abs(v) for v in values))))), "7.9999995 is below 8"),
        (lambda values: "2", "leave the quotes out"),
        (lambda values: str(shared(values)), "got the text '2'"),
        (lambda values: 0, "Which e gives"),
        (lambda values: 1 // 0, "ZeroDivisionError"),
        (lambda values: shared(values) if values[0] > 0 else None, "returned None for [-8.0, 1.0, 2.0, 3.0]"),
        (lambda values: print(end=""), "returned None for [6.5, 2.5, -1.5, 0.25]"),
        (lambda values: undefined, "NameError"),  # noqa: F821
        (lambda: 2, "has to take 1 value"),
        (lambda a, b: 2, "has to take 1 value"),
        (shared([6.5]), "the function itself"),
        ("shared_exponent", "the function itself"),
    ],
)
def test_wrong_shared_exponents_are_diagnosed(function, said):
    verdict = check.shared_exponent(function)
    assert not verdict.passed and said in verdict.text, verdict


STEPS = ["define", "register", "convert", "containerize", "deploy"]


@pytest.mark.parametrize(
    "answer",
    [
        STEPS,
        tuple(STEPS),
        set(STEPS),
        np.array(STEPS),
        STEPS[::-1],
        dict.fromkeys(STEPS).keys(),
        [s.upper() for s in STEPS],
        "define, register, convert, containerize, deploy",
        "define register convert containerize deploy",
        "define -> register -> convert -> containerize -> deploy",
        [f" {s} " for s in STEPS],
        [np.str_(s) for s in STEPS],
        (s for s in STEPS),
    ],
)
def test_the_steps_in_every_form(answer):
    assert check.steps_to_repeat(answer).passed


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (["define", "deploy"], "so: convert"),
        ([s for s in STEPS if s != "containerize"], "so: containerize"),
        ([s for s in STEPS if s != "define"], "so: define"),
        (STEPS[:4], "so: deploy"),
        ("convert", "so: define"),
        ([*STEPS, "consume"], "client stays"),
        (["build"], "build: the steps are called"),
        (["define", ...], "still a ..."),
        ([1, 2], "a text in every place"),
        ([], "at least one"),
        (5, "a list of texts"),
    ],
)
def test_wrong_steps_are_diagnosed(answer, said):
    verdict = check.steps_to_repeat(answer)
    assert not verdict.passed and said in verdict.text, verdict


def table(*rows):
    return Confusion(np.array(rows), ("cat", "dog"))


def test_a_small_training_set_is_judged_on_what_it_never_saw():
    few, all_pictures = table([45, 5], [3, 47]), table([49, 1], [2, 48])
    for answer in (few, few.counts, few.counts.tolist(), few.counts.astype(float)):
        assert "92.0 %" in str(check.small_training_set(answer, held_out=100, in_float=all_pictures))
        assert check.small_training_set(answer, held_out=100).passed
    for held_out in (20, 160):
        verdict = check.small_training_set(few, held_out=held_out)
        assert not verdict.passed and f"counts 100 pictures; judge it on the {held_out}" in str(verdict)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (table([49, 1], [2, 48]), "the classifier that saw all pictures"),
        (table([50, 0], [50, 0]), "taken for the same kind"),
        (table([0, 50], [0, 50]), "taken for the same kind"),
        (table([25, 25], [24, 26]), "what a coin reaches"),
        (table([10, 0], [1, 9]), "counts 20 pictures"),
        (
            table([45, 3], [5, 47]),
            "rows count 48 and 52 pictures, and there are 50 and 50: lab.transfer.confusion takes",
        ),
        (table([45, 3], [5, 47]).counts.astype(float), "the true labels first"),
        (np.eye(2)[[0, 1] * 50].argmax(1), "Give lab.transfer.confusion"),
        (np.array([[math.nan, 1], [1, 1]]), "Those are probabilities"),
        (str(table([45, 5], [3, 47])), "Give lab.transfer.confusion"),
        (92.0, "confusion"),
        (np.float32(0.92), "confusion"),
        (np.full((100, 2), 0.5), "Those are probabilities"),
        ([0.7, 0.3, 0.1], "confusion"),
        ("92 %", "confusion"),
    ],
)
def test_other_tables(answer, said):
    verdict = check.small_training_set(answer, held_out=100, in_float=table([49, 1], [2, 48]))
    assert not verdict.passed and said in verdict.text, verdict


def share(in_float, narrow, tuned):
    lost = in_float - narrow
    return 100 * (tuned - narrow) / lost if lost > 0 else None


@pytest.mark.parametrize("form", [float, np.float32, np.float64, np.array, lambda s: [s], lambda s: np.array([s])])
def test_the_share_passes_in_every_form(form):
    assert check.won_back(lambda *accuracies: None if (s := share(*accuracies)) is None else form(s)).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda f, n, t: ..., "in place of"),
        (lambda f, n, t: (t - n) / (f - n), "in percent"),
        (lambda f, n, t: t - n, "points gained"),
        (lambda f, n, t: f - n, "points lost"),
        (lambda f, n, t: 100 * (f - n) / (t - n), "The other way round"),
        (lambda f, n, t: 100 * (f - t) / (f - n), "still missing"),
        (lambda f, n, t: 100 * (n - t) / (f - n), "The sign"),
        (lambda f, n, t: 100 * t / f, "Take narrow off both"),
        (lambda f, n, t: 100 * (t - n) / f, "by the points that were lost"),
        (lambda f, n, t: min(100, 100 * (t - n) / (f - n)), "do not cut it off"),
        (lambda f, n, t: max(0, 100 * (t - n) / (f - n)), "below 0 is possible"),
        (lambda f, n, t: 100 * (t - n) / (f - n), "return None"),
        (lambda f, n, t: 100 * (t - n) / (f - n) if f > n else 0.0, "expected None, got 0.0"),
        (lambda f, n, t: 100 * (t - n) / (f - n) if f != n else None, "(90.0, 92.0, 95.0): nothing was lost"),
        (lambda f, n, t: float(np.float64(t - n) / np.float64(f - n)) * 100 if f > n else math.nan, "got nan"),
        (lambda f, n, t: f"{100 * (t - n) / (f - n)} %", "leave the quotes out"),
        (lambda f, n, t: None if t == n else share(f, n, t), "returned None for (98.0, 90.0, 90.0)"),
        (lambda f, n, t: t.share, "AttributeError"),
        (lambda f, n, t: 100 * abs(t - n) / (f - n), "do not take abs()"),
        (lambda f, n, t: share(f, n, t) or math.nan, "got nan"),
        (lambda f, n, t: [share(f, n, t), "%"], "expected 75"),
        (lambda f, n, t: math.floor(100 * (t - n) / f) if f > n else None, "expected 75, got 6"),
        (lambda accuracies: 75.0, "has to take 3 values"),
        (75.0, "the function itself"),
    ],
)
def test_wrong_shares_are_diagnosed(function, said):
    verdict = check.won_back(function)
    assert not verdict.passed and said in str(verdict), verdict


TASKS = ("fit the classifier", "choose the learning rate", "report")
SETS = ("taught", "looked at", "held out")


@pytest.mark.parametrize(
    "answer",
    [
        dict(zip(TASKS, SETS, strict=True)),
        {t.upper(): f" {s} " for t, s in zip(TASKS, SETS, strict=True)},
        list(SETS),
        SETS,
        np.array(SETS),
        "taught, looked at, held out",
        {task.replace(" ", "_"): name.replace(" ", "_") for task, name in zip(TASKS, SETS, strict=True)},
        list(zip(TASKS, SETS, strict=True)),
    ],
)
def test_the_three_sets_in_every_form(answer):
    assert "looked at once" in check.which_set(answer).text and check.which_set(answer).passed


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("taught", "held out", "held out"), "best of ten"),
        (("taught", "taught", "held out"), "learns them by heart best"),
        (("taught", "looked at", "looked at"), "that report flatters"),
        (("taught", "looked at", "taught"), "that report flatters"),
        (("held out", "looked at", "held out"), "nothing is left that it has never met"),
        (("looked at", "looked at", "held out"), "nothing is left to choose the rate by"),
        (("taught", "looked at", "all"), "Give each of"),
        (("taught", ..., "held out"), "still a ..."),
    ],
)
def test_wrong_sets_are_diagnosed(sets, said):
    verdict = check.which_set(dict(zip(TASKS, sets, strict=True)))
    assert not verdict.passed and said in str(verdict)


def test_sets_for_too_few_tasks():
    assert "Give each" in str(check.which_set({})) and "Give each" in str(check.which_set({"report": "held out"}))


@pytest.fixture(scope="module")
def both():
    return development_certificate(["localhost", "127.0.0.1"])


def test_the_certificate_in_every_form(both):
    for answer in (both.certificate, both.certificate.encode(), both, np.str_(both.certificate)):
        assert check.certificate_names(answer).passed
    assert check.certificate_names(development_certificate().certificate).passed


def test_other_certificates(both):
    only = development_certificate(["localhost"])
    for answer, said in (
        (["localhost", "127.0.0.1"], "PEM text"),
        (only.certificate, "valid for localhost, but not for 127.0.0.1"),
        (development_certificate(["127.0.0.1"]).certificate, "not for localhost"),
        (development_certificate(["example.org"]), "not for localhost and 127.0.0.1"),
        (both.ca, "it is the CA's"),
        (both.key, "private key"),
        (both.certificate[:200], "cannot be read"),
    ):
        verdict = check.certificate_names(answer)
        assert not verdict.passed and said in verdict.text, verdict


@pytest.mark.parametrize("form", [str, str.upper, np.str_, lambda name: f" {name}\n"])
def test_the_diagnosis_in_every_form(form):
    assert check.diagnosis(lambda text: form(diagnose(text))).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda text: None, "in place of None"),
        (
            lambda text: diagnose(text) if "TLS" not in text else None,
            "returned None for 'localhost:1: the service wants TLS",
        ),
        (lambda text: "broken", "the failures are called untrusted, wrong name"),
        (lambda text: 3, "It said 3; the failures are called"),
        (lambda text: "untrusted", "is 'wrong name', not 'untrusted'"),
        (lambda text: "wrong key" if "key" in text else "untrusted", "is 'wrong name', not 'untrusted'"),
        (lambda text: "client without TLS" if "TLS" in text else diagnose(text), "is 'server without TLS'"),
        (lambda text: text[99999], "IndexError"),
        (lambda text: diagnose(text) == "untrusted", "It said True"),
        (lambda text: [diagnose(text)], "It said ['untrusted']"),
        (lambda text: diagnose(text).replace(" ", "_"), "It said 'wrong_name'"),
        (lambda text: math.nan, "It said nan"),
        (lambda text: ("untrusted", "wrong name", "expired").index(diagnose(text)), "It said 0"),
    ],
)
def test_wrong_diagnoses(function, said):
    verdict = check.diagnosis(function)
    assert not verdict.passed and said in verdict.text, verdict


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        tuple(RIGHT),
        np.array(RIGHT),
        ", ".join(RIGHT),
        " -> ".join(RIGHT),
        "\n".join(RIGHT),
        [s.title() for s in RIGHT],
    ],
)
def test_the_order_in_every_form(answer):
    assert "both are new" in check.rotation(answer).text and check.rotation(answer).passed


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RIGHT[:3], "each of these once"),
        ([*RIGHT, RIGHT[0]], "each of these once"),
        ([*RIGHT[:3], "wait"], "What is 'wait'?"),
        (["regenerate primary", *RIGHT[:1], *RIGHT[2:]], "clients still use the primary key"),
        ([RIGHT[0], RIGHT[1], RIGHT[3], RIGHT[2]], "clients still use the secondary key"),
        ([RIGHT[0], RIGHT[2], RIGHT[1], RIGHT[3]], "clients still use the primary key"),
        ([RIGHT[3], RIGHT[2], RIGHT[0], RIGHT[1]], "hand out is the old one"),
        ([RIGHT[0], ..., RIGHT[2], RIGHT[3]], "still a ..."),
        ("hand out secondary", "each of these once"),
        ([1, 2, 3, 4], "expected a text in every place"),
        (dict(enumerate(RIGHT)), "expected a list of texts"),
        ([[step] for step in RIGHT], "expected a text in every place"),
        ([step.split()[-1] for step in RIGHT], "What is 'secondary'?"),
    ],
)
def test_wrong_orders_are_diagnosed(answer, said):
    verdict = check.rotation(answer)
    assert not verdict.passed and said in verdict.text, verdict


def test_every_word_of_the_lessons_errors_tells_them_apart():
    """What a learner has seen above the exercise is what the check asks about, to the last word."""
    lesson = nbformat.read(ROOT / "notebooks" / "05_SSL.ipynb", as_version=4)
    shown = "".join(output.get("text", "") for cell in lesson.cells for output in cell.get("outputs", ()))
    lines = {re.sub(r":\d+:", ":1:", line) for line in shown.splitlines() if line.endswith(")")}
    seen = {line: diagnose(line) for line in lines if re.search(r"\((UNAVAILABLE|UNAUTHENTICATED)\)$", line)}
    assert len(seen) == 7
    verdict = check.diagnosis(lambda text: seen[text])
    assert verdict.passed, verdict


class Series:
    """What pandas and TensorFlow give: an array that is none, without a truth value."""

    def __init__(self, values):
        self.values = np.array(values)

    def __array__(self, *_, **__):
        return self.values

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values)

    def __eq__(self, other):
        return Series(self.values == other)

    def __bool__(self):
        raise ValueError("the truth value of a Series is ambiguous")


def test_right_answers_as_a_table_or_a_tensor_has_them():
    assert check.shared_exponent(lambda values: Series([shared(values)])).passed
    assert check.chelsea(Series(probabilities(281))).passed
    assert check.small_training_set(Series([[45, 5], [3, 47]]), held_out=100).passed
    assert check.won_back(lambda *a: None if share(*a) is None else Series(share(*a))).passed
    for form in (Decimal, Fraction, np.float16, np.longdouble):
        assert check.shared_exponent(lambda values, form=form: form(shared(values))).passed, form
        assert check.won_back(lambda *a, form=form: None if share(*a) is None else form(share(*a))).passed, form
    assert check.rotation(iter(RIGHT)).passed and check.which_set(Series(SETS)).passed
    assert check.steps_to_repeat("define, register, convert, containerize and deploy").passed


@pytest.mark.parametrize("error", [GeneratorExit(), CancelledError(), BaseExceptionGroup("two", [SystemExit()])])
@pytest.mark.parametrize("name", ["shared_exponent", "won_back", "diagnosis", "overlap", "rounded_block"])
def test_a_function_that_stops_everything_stops_nothing_here(name, error):
    verdict = judged(name, raises(error))
    assert not verdict.passed and f"it raised {type(error).__name__}" in verdict.text, verdict


def test_whoever_stops_the_kernel_is_obeyed():
    with pytest.raises(KeyboardInterrupt):
        check.shared_exponent(raises(KeyboardInterrupt()))


def test_an_error_is_said_whatever_its_text_is():
    class Speechless(Exception):
        def __str__(self):
            return 1 / 0

    assert "it raised Speechless: an error without a text" in check.shared_exponent(raises(Speechless())).text
    assert len(check.shared_exponent(raises(ValueError("x" * 10_000))).text) < 400


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (lambda: check.rotation(set(RIGHT)), "A set has no order"),
        (lambda: check.which_set(set(SETS)), "A set has no order"),
        (lambda: check.wrong_probe({"admin", 3}), "A set has no order"),
        (lambda: check.rounded_block(lambda values, bits: set(values)), "A set has no order"),
        (lambda: check.wrong_probe(str), "the port's name and a number"),
        (lambda: check.steps_to_repeat(repeat("consume")), "The client stays"),
        (lambda: check.rotation(repeat("hand out primary")), "each of these once"),
        (lambda: check.rounded_block(lambda values, bits: np.array(1.0)), "expected 4 numbers, got"),
        (lambda: check.rounded_block(lambda values, bits: bits // 0), "it raised ZeroDivisionError"),
        (lambda: check.shared_exponent(lambda values: 2 + 1e-9), "expected 2, got 2.000000001"),
        (lambda: check.won_back(lambda f, n, t: 100 * (t - n) / (f - n + 1e-6)), "expected 75, got 74.999991"),
        (lambda: check.overlap(lambda a, b: 0.1429), "expected 0.14285714, got 0.1429"),
        (lambda: check.won_back(lambda f, n, t: 75 if t == 96 else 1 / (t - n)), "it raised ZeroDivisionError"),
        (lambda: check.chelsea(lab.top(probabilities(281), count=0)), "Give lab.top"),
        (lambda: check.chelsea(np.eye(1000, dtype=complex)[281]), "Give lab.top"),
        (lambda: check.small_training_set(np.full((2, 2), np.inf), held_out=100), "Those are probabilities"),
        (lambda: check.small_training_set(Confusion(None, ()), held_out=100), "Give lab.transfer.confusion"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_answer_that_is_right_by_luck_or_reads_oddly(verdict, said):
    found = verdict()
    assert not found.passed and said in found.text, found


def test_a_loop_that_never_ends_is_said_and_leaves_no_timer(monkeypatch):
    def forever(*_):
        while True:
            with contextlib.suppress(Exception):
                sum(range(1000))

    monkeypatch.setattr(verdict, "_SECONDS", 0.1)
    before = signal.getsignal(signal.SIGALRM)
    for name in (
        "shared_exponent",
        "won_back",
        "rounded_block",
        "fewest_bits",
        "replicas_needed",
        "overlap",
        "diagnosis",
    ):
        said = judged(name, forever)
        assert not said.passed and "no answer after 0.1 s: is there a loop that never ends?" in said.text, said
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with ThreadPoolExecutor(1) as pool:  # where no timer can interrupt it, a right answer is right
        assert pool.submit(check.shared_exponent, shared).result().passed


def test_every_check_says_which_exercise_it_is_of():
    assert all("Exercise" in inspect.getdoc(getattr(check, name)) for name in CHECKS)


@pytest.mark.parametrize("answer", [5, 2.5, True, np.array(5), int, len, {1}, iter([1]), object()])
@pytest.mark.parametrize("name", sorted(set(check.__all__) - {"Verdict", "small_training_set", "missed", "doubled"}))
def test_every_odd_answer_is_read(name, answer):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed
    assert "could not be read" not in str(verdict)


@pytest.mark.parametrize("name", ["rotation", "steps_to_repeat", "which_set", "wrong_probe", "certificate_names"])
def test_a_long_answer_is_not_said_in_full(name):
    assert len(str(getattr(check, name)("a" * 100_000))) < 500
