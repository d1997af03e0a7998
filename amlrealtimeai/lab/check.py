"""Checks of the exercises: each knows the right answer and what the common wrong ones come from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from amlrealtimeai import npu
from amlrealtimeai.lab.pictures import Top
from amlrealtimeai.lab.transfer import Confusion


@dataclass(frozen=True)
class Verdict:
    """What a check says; a notebook shows the text."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return ("Right. " if self.passed else "Not yet. ") + self.text

    __repr__ = __str__


def _open() -> Verdict:
    return Verdict(False, "Put your answer in place of None (or ...), then run the cell again.")


def zebra(answer: Top | None) -> Verdict:
    """Exercise 1 of QuickStart: the service's answer for zebra.jpg."""
    if answer is None:
        return _open()
    if not isinstance(answer, Top):
        return Verdict(False, "Give lab.top(...) of what client.score_file returned for lab.sample('zebra').")
    if answer.label == "red fox":
        return Verdict(False, "That is still the fox: score_file wants the path of the other picture.")
    if answer.label != "zebra":
        return Verdict(False, f"The service said {answer.label}; was the picture lab.sample('zebra')?")
    return Verdict(True, f"A zebra, with {100 * answer.probability:.1f} %. Nothing was deployed anew for it.")


_BLOCKS = ([6.5, 2.5, -1.5, 0.25], [0.1, -0.2, 0.05, 0.0], [-8.0, 1.0, 2.0, 3.0], [7.9999995, 1.0, 0.0, 0.0])


def shared_exponent(function: Callable[[list[float]], int]) -> Verdict:
    """Exercise 2 of QuickStart: a function that finds a block's shared exponent."""
    right = [int(npu.quantize(np.array(block, np.float32), npu.BlockFormat(4, 5, 8))[1][0]) for block in _BLOCKS]
    try:
        answers = [function(list(block)) for block in _BLOCKS]
    except Exception as error:  # a learner's function may raise anything
        return Verdict(False, f"It raised {type(error).__name__}: {error}")
    if any(answer is None or answer is Ellipsis for answer in answers):
        return _open()
    if answers == right:
        return Verdict(True, "The largest magnitude decides: its floor(log2), whatever its sign.")
    for block, answer, expected in zip(_BLOCKS, answers, right, strict=True):
        if answer == expected:
            continue
        hint = "Which e gives 2**e <= largest < 2**(e+1)?"
        if answer == expected + 1:
            hint = "Round down, not to the nearest or up (2**e may not exceed the largest)."
        elif -min(block) > max(block):
            hint = f"{min(block)} has the largest magnitude: take abs()."
        return Verdict(False, f"{block}: expected {expected}, got {answer}. {hint}")
    return Verdict(False, f"expected {right}, got {answers}; give whole numbers (int), please.")


_STEPS = ("define", "register", "convert", "containerize", "deploy", "consume")


def steps_to_repeat(answer: Iterable[str] | None) -> Verdict:
    """Exercise 3 of QuickStart: which steps a new classifier needs again."""
    if answer is None:
        return _open()
    given = {step.strip().lower() for step in ([answer] if isinstance(answer, str) else answer)}
    unknown = given - set(_STEPS)
    if unknown:
        return Verdict(False, f"{', '.join(sorted(unknown))}: the steps are called {', '.join(_STEPS)}.")
    if "consume" in given:
        return Verdict(False, "The client stays as it is: names of inputs and outputs did not change.")
    missing = [step for step in _STEPS[:5] if step not in given]
    if "convert" in missing:
        return Verdict(
            False, "The classifier is a stage of the converted model too (it runs on the host), so: convert."
        )
    if missing:
        return Verdict(False, f"What about {missing[0]}? Each step works on what the one before it made.")
    return Verdict(
        True, "All but consume: a client only knows a name, an address, and the names of inputs and outputs."
    )


def certificate_names(answer: str | None) -> Verdict:
    """Exercise 1 of SSL: PEM of a certificate that is valid for localhost and 127.0.0.1."""
    from amlrealtimeai.core.certificates import names_in

    if answer is None:
        return _open()
    if not isinstance(answer, str) or "BEGIN CERTIFICATE" not in answer:
        return Verdict(False, "Give the PEM text: development_certificate([...]).certificate")
    names = names_in(answer)
    missing = [name for name in ("localhost", "127.0.0.1") if name not in names]
    if missing:
        return Verdict(False, f"It is valid for {', '.join(names)}, but not for {missing[0]}; names is a list.")
    return Verdict(True, "A client may come by either: what it typed is what it compares.")


def small_training_set(answer: Confusion | None, held_out: int) -> Verdict:
    """Exercise 1 of ModelBuild: a classifier trained on few pictures, judged on the `held_out` ones."""
    if answer is None:
        return _open()
    if not isinstance(answer, Confusion):
        return Verdict(False, "Give lab.transfer.confusion(...) of the held-out pictures.")
    judged = int(answer.counts.sum())
    if judged != held_out:
        return Verdict(False, f"That table counts {judged} pictures; judge it on the {held_out} that it never saw.")
    return Verdict(True, f"{answer.accuracy:.1f} %: features that know much leave little to learn.")


_ACCURACIES = ((98.0, 90.0, 96.0), (98.0, 90.0, 90.0), (80.0, 60.0, 82.0), (95.0, 95.0, 96.0))


def won_back(function: Callable[[float, float, float], float | None]) -> Verdict:
    """Exercise 2 of ModelBuild: the share of a loss of accuracy that fine-tuning recovered, in percent."""
    right = [75.0, 0.0, 110.0, None]
    for accuracies, expected in zip(_ACCURACIES, right, strict=True):
        try:
            answer = function(*accuracies)
        except ZeroDivisionError:
            return Verdict(False, f"{accuracies}: nothing was lost, so there is nothing to divide by: return None.")
        except Exception as error:  # a learner's function may raise anything
            return Verdict(False, f"It raised {type(error).__name__}: {error}")
        if answer is Ellipsis or (answer is None and expected is not None):
            return _open()
        if (answer is None) != (expected is None):
            return Verdict(False, f"{accuracies}: nothing was lost, so no share of it: expected None, got {answer}.")
        if answer is not None and expected is not None and abs(answer - expected) > 1e-6:
            return Verdict(
                False, f"{accuracies}: expected {expected:g}, got {answer:g}. {_share_hint(*accuracies, answer)}"
            )
    return Verdict(
        True, "More than 100 is possible: fine-tuning saw pictures that the float network never learnt from."
    )


def _share_hint(in_float: float, narrow: float, tuned: float, answer: float) -> str:
    share = (tuned - narrow) / (in_float - narrow)
    if abs(answer - share) < 1e-6:
        return "That is a fraction: in percent, please."
    if abs(answer - (tuned - narrow)) < 1e-6:
        return "Those are the points gained; divide them by the points lost."
    return "Points gained (tuned - narrow) over points lost (float - narrow)."


_SETS = {"fit the classifier": "taught", "choose the learning rate": "looked at", "report": "held out"}


def which_set(answer: Mapping[str, str] | None) -> Verdict:
    """Exercise 3 of ModelBuild: which pictures may be used for what."""
    if answer is None:
        return _open()
    given = {task: str(name).strip().lower() for task, name in answer.items()}
    wrong = [name for name in given.values() if name not in _SETS.values()]
    if set(given) != set(_SETS) or wrong:
        return Verdict(False, f"Give each of {', '.join(_SETS)} one of the sets {', '.join(_SETS.values())}.")
    if given["choose the learning rate"] == "held out":
        return Verdict(False, "Whoever picks the best of ten by the held-out pictures has learnt from them.")
    if given["report"] != "held out":
        return Verdict(False, "What was used before flatters: report what nothing was fitted to or chosen by.")
    if given != _SETS:
        return Verdict(False, "On the pictures that it learns from, a larger rate always looks better.")
    return Verdict(True, "Three uses, three sets: the last one is looked at once.")


_FAILURES = {
    "localhost:1: the service's certificate is not trusted; for a self-signed one pass root_certificates": "untrusted",
    "127.0.0.1:1: the service's certificate is for another name than '127.0.0.1'": "wrong name",
    "localhost:1: the service wants TLS and this client does not use it; pass use_ssl=True": "client without TLS",
    "localhost:1: the service does not speak TLS; pass use_ssl=False": "server without TLS",
    "this service needs a key: send it as metadata (UNAUTHENTICATED)": "wrong key",
    "the key is not one of this service's keys; it may have been regenerated (UNAUTHENTICATED)": "wrong key",
}


def diagnosis(function: Callable[[str], str]) -> Verdict:
    """Exercise 2 of SSL: a function from an error's text to the name of the failure."""
    for text, right in _FAILURES.items():
        try:
            answer = function(text)
        except Exception as error:  # a learner's function may raise anything
            return Verdict(False, f"It raised {type(error).__name__}: {error}")
        if answer is None or answer is Ellipsis:
            return _open()
        if answer not in _FAILURES.values():
            names = ", ".join(dict.fromkeys(_FAILURES.values()))
            return Verdict(False, f"It said {answer!r}; the failures are called {names}.")
        if answer != right:
            return Verdict(False, f"{text!r} is {right!r}, not {answer!r}.")
    return Verdict(
        True, "Four of them are UNAVAILABLE, so only the words tell them apart; a key has a code of its own."
    )


_ROTATION = ("hand out secondary", "regenerate primary", "hand out primary", "regenerate secondary")


def rotation(answer: Iterable[str] | None) -> Verdict:
    """Exercise 3 of SSL: the order of four steps, when all clients use the primary key at first."""
    if answer is None:
        return _open()
    steps = [step.strip().lower() for step in answer]
    if sorted(steps) != sorted(_ROTATION):
        return Verdict(False, f"Use each of these once: {', '.join(sorted(_ROTATION))}.")
    used = "primary"
    for step in steps:
        action, _, key = step.partition(" ")
        if action == "regenerate" and key == used:
            return Verdict(False, f"At {step!r} the clients still use the {key} key: they would be refused.")
        if action == "hand":
            used = step.rpartition(" ")[2]
    if steps.index("hand out primary") < steps.index("regenerate primary"):
        return Verdict(False, "The primary key that you hand out is the old one; regenerate it before.")
    return Verdict(True, "At every moment the key that clients use is valid; both are new at the end.")
