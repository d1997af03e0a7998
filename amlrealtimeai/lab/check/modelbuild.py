"""The exercises of 01_ModelBuild."""

import math
from typing import Any

import numpy as np

from amlrealtimeai.lab.check.verdict import (
    DividesByZero,
    Verdict,
    Wrong,
    apart,
    ask,
    by_task,
    check,
    is_open,
    number,
    plain,
    returned_nothing,
    right,
    shown,
)
from amlrealtimeai.lab.transfer import Confusion


@check
def small_training_set(answer: Any, held_out: int, in_float: Any = None) -> Verdict:
    """Exercise 1: a classifier trained on few pictures, judged on the `held_out` ones.

    in_float: the table of the classifier that was trained on all pictures, which is not the answer.
    """
    counts = _counts(answer)
    judged, known = int(counts.sum()), None if in_float is None else np.asarray(in_float.counts)
    if judged != held_out:
        raise Wrong(f"That table counts {judged} pictures; judge it on the {held_out} that it never saw.")
    if answer is in_float or (known is not None and np.array_equal(counts, known)):
        raise Wrong("That is the table of the classifier that saw all pictures; train again, on the first 20 only.")
    if known is not None and known.shape == counts.shape and not np.array_equal(counts.sum(1), known.sum(1)):
        raise Wrong(
            f"Its rows count {' and '.join(map(str, counts.sum(1)))} pictures, and there are "
            f"{' and '.join(map(str, known.sum(1)))}: lab.transfer.confusion takes the true labels first."
        )
    if (counts.sum(0) == 0).any():
        raise Wrong(
            "Every picture was taken for the same kind, so it has not learnt: did the training run, with these labels?"
        )
    accuracy = 100 * float(np.trace(counts) / judged)
    if accuracy < 60:
        raise Wrong(f"{accuracy:.1f} % is what a coin reaches: are features and labels cut at the same place ([:20])?")
    return right(f"{accuracy:.1f} %: features that know much leave little to learn.")


def _counts(answer: Any) -> np.ndarray:
    try:
        counts = np.asarray(answer.counts if isinstance(answer, Confusion) else answer)
    except Exception:  # rows of unequal lengths, or something that only looks like an array
        counts = np.empty(0)
    if counts.shape == (2, 2) and counts.dtype.kind in "iuf" and _whole(counts) and counts.sum() > 2:
        return counts.astype(int)
    if counts.ndim == 2 and counts.shape[1] == 2 and counts.dtype.kind == "f":
        raise Wrong("Those are probabilities: give lab.transfer.confusion(held_labels, them, ('cat', 'dog')).")
    if counts.size == 1 and counts.dtype.kind in "iuf":
        raise Wrong("Give the whole table, lab.transfer.confusion(...), not its percentage alone.")
    raise Wrong(f"Give lab.transfer.confusion(...) of the held-out pictures; this is {shown(answer)}")


def _whole(counts: np.ndarray) -> bool:
    return bool(((counts >= 0) & (counts < 1e9) & (counts == np.rint(counts))).all())


_CASES: tuple[tuple[tuple[float, float, float], float | None], ...] = (
    ((98.0, 90.0, 96.0), 75.0),
    ((98.0, 90.0, 90.0), 0.0),
    ((80.0, 60.0, 82.0), 110.0),
    ((90.0, 80.0, 75.0), -50.0),
    ((95.0, 95.0, 96.0), None),
    ((90.0, 92.0, 95.0), None),
)


@check
def won_back(function: Any) -> Verdict:
    """Exercise 2: the share of a loss of accuracy that fine-tuning recovered, in percent."""
    for accuracies, expected in _CASES:
        try:
            answer = ask(function, *accuracies)
        except DividesByZero:
            if expected is not None:
                raise
            raise Wrong(f"{accuracies}: nothing was lost, so there is nothing to divide by: return None.") from None
        if expected is None:
            if answer is not None:
                raise Wrong(f"{accuracies}: nothing was lost, so no share of it: expected None, got {shown(answer)}.")
            continue
        if is_open(answer):
            raise returned_nothing(accuracies)
        found = number(answer, f"{expected:g}")
        if not math.isclose(found, expected, abs_tol=1e-6):
            raise Wrong(f"{accuracies}: {apart(expected, found)}. {_share_hint(*accuracies, found)}")
    return right("More than 100 is possible: fine-tuning saw pictures that the float network never learnt from.")


def _share_hint(in_float: float, narrow: float, tuned: float, found: float) -> str:
    gained, lost = tuned - narrow, in_float - narrow
    for mistake, text in (
        (gained / lost, "That is a fraction: in percent, please."),
        (gained, "Those are the points gained; divide them by the points lost."),
        (lost, "Those are the points lost; the points gained, divided by them, are the share."),
        (100 * lost / gained if gained else math.nan, "The other way round: gained over lost."),
        (100 * (in_float - tuned) / lost, "That is the share which is still missing."),
        (100 * abs(gained) / lost, "Fine-tuning may make it worse: below 0 is possible, do not take abs()."),
        (-100 * gained / lost, "The sign: gained is tuned - narrow, lost is in_float - narrow."),
        (100 * gained / in_float, "Divide by the points that were lost, not by the float accuracy."),
        (100 * tuned / in_float, "Take narrow off both: points gained over points lost."),
        (min(100.0, 100 * gained / lost), "More than 100 % is possible (tuned above float): do not cut it off."),
        (max(0.0, 100 * gained / lost), "Fine-tuning may make it worse: below 0 is possible, do not cut it off."),
    ):
        if math.isclose(found, mistake, abs_tol=1e-6):
            return text
    return "Points gained (tuned - narrow) over points lost (in_float - narrow)."


_SETS = {"fit the classifier": "taught", "choose the learning rate": "looked at", "report": "held out"}
_WHY_NOT = {
    ("report", "taught"): "It knows those by heart, so that report flatters: report on what it never met.",
    ("report", "looked at"): "The rate was chosen to please those, so that report flatters: take what nothing was "
    "chosen by.",
    ("fit the classifier", "held out"): "Then nothing is left that it has never met, and the report flatters.",
    ("fit the classifier", "looked at"): "Then nothing is left to choose the rate by: fit to the set that is there to "
    "learn from.",
    ("choose the learning rate", "held out"): "Whoever picks the best of ten by the held-out pictures has learnt from "
    "them, and the report flatters.",
    ("choose the learning rate", "taught"): "They tell which rate learns them by heart best, not which serves new "
    "pictures best.",
}


@check
def which_set(answer: Any) -> Verdict:
    """Exercise 3: which pictures may be used for what; a dictionary, or the three sets in the order of the tasks."""
    said = {task: plain(name) for task, name in by_task(answer, tuple(_SETS)).items()}
    if not set(said.values()) <= set(_SETS.values()):
        raise Wrong(f"Give each of {', '.join(_SETS)} one of the sets {', '.join(_SETS.values())}.")
    for task in ("choose the learning rate", "report", "fit the classifier"):
        if said[task] != _SETS[task]:
            raise Wrong(f"{task.capitalize()} by {said[task]!r}? {_WHY_NOT[task, said[task]]}")
    return right("Three uses, three sets: the last one is looked at once.")
