"""What a check says, and the reading of answers in every form in which they are given."""

import dis
import functools
import inspect
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from itertools import islice
from typing import Any

import numpy as np

_COLOURS = {True: "#2e7d32", False: "#c62828"}  # with a mark and words: nobody needs to tell them apart

_IDLE = {"RESUME", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "NOP", "POP_TOP"}  # of a function that does nothing


_SECONDS = 5.0  # every right answer takes far less than one
_MOST = 1000  # entries of an answer that are looked at: itertools.repeat has no end


@dataclass(frozen=True)
class Verdict:
    """What a check says; a notebook shows the text, beside a green or red bar."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return ("Right. " if self.passed else "Not yet. ") + self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        mark, colour = ("&#10003;", "&#10007;")[not self.passed], _COLOURS[self.passed]
        word, rest = str(self).split(". ", 1)
        look = f"border-left:6px solid {colour};padding:0.3em 0.8em;background:#fff;color:#1a1a1a"
        return f"<div style='{look}'><b style='color:{colour}'>{mark} {word}.</b> {escape(rest)}</div>"


class Wrong(Exception):
    """An answer that the check has understood well enough to say what is wrong; the text is the verdict's."""


class DividesByZero(Wrong):
    """A function that divides by 0; some checks know what it means."""


def right(text: str) -> Verdict:
    """The verdict on a right answer."""
    return Verdict(True, text)


OPEN = "Put your answer in place of None (or ...), then run the cell again."


def check(function: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """A check that never raises: Wrong becomes its text, anything unforeseen a sentence about the answer."""

    @functools.wraps(function)
    def checked(answer: Any, *others: Any, **named: Any) -> Verdict:
        try:
            if isinstance(answer, np.ndarray) and answer.ndim == 0:
                answer = answer.item()
            if is_open(answer):
                return Verdict(False, OPEN)
            return function(answer, *others, **named)
        except Wrong as wrong:
            return Verdict(False, str(wrong))
        except Exception as error:
            return Verdict(False, f"That could not be read as an answer ({_raised(error)}): {shown(answer)}")

    return checked


def is_open(answer: Any) -> bool:
    """Whether the learner has not answered yet."""
    return answer is None or answer is Ellipsis


def shown(value: Any, most: int = 80) -> str:
    """repr of a learner's value in one short line; a repr that fails is no harm."""
    try:
        text = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    except Exception:
        text = f"something of type {type(value).__name__}"
    return text if len(text) <= most else text[: most - 3] + "..."


def ask(function: Any, *arguments: Any) -> Any:
    """Call a learner's function; Wrong says what kept it from answering. It may raise, and return, anything."""
    _check_callable(function, len(arguments))
    said = ", ".join(shown(argument) for argument in arguments)
    try:
        with _interrupted_after(_SECONDS):
            answer = function(*arguments)
            if inspect.isgenerator(answer) and not inspect.isgeneratorfunction(function):
                answer = list(islice(answer, _MOST))  # (x for x in ...), a list but for its brackets
    except KeyboardInterrupt:
        raise
    except _TooLong:
        raise Wrong(f"For {said} it had no answer after {_SECONDS:g} s: is there a loop that never ends?") from None
    except ZeroDivisionError as error:
        raise DividesByZero(f"For {said} it raised {_raised(error)}") from None
    except BaseException as error:  # SystemExit, CancelledError: a learner's function is no reason to stop
        raise Wrong(f"For {said} it raised {_raised(error)}") from None
    if inspect.isgenerator(answer) or inspect.iscoroutine(answer):
        answer.close()
        raise Wrong("It has a yield (or async): let it return its answer.")
    return answer


def ask_in_lists_or_arrays(function: Any, *arguments: Any) -> Any:
    """`ask`; where a function cannot take lists, whoever wrote it thinks in arrays: values.max(), b[2:] - b[:2]."""
    try:
        return ask(function, *arguments)
    except DividesByZero:
        raise
    except Wrong as wrong:
        try:
            return ask(function, *(np.array(a, float) if isinstance(a, list | tuple) else a for a in arguments))
        except Wrong:
            raise wrong from None


def _raised(error: BaseException) -> str:
    """The kind and the text of an error in one short line; a text that fails is left out."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error without a text"
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:197] + '...'}"


class _TooLong(BaseException):
    """Not an Exception: a learner's own `except Exception` shall not catch it."""


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raise _TooLong in the block after `seconds`; only where the system has timers, and in the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def _check_callable(function: Any, count: int) -> None:
    if not callable(function):
        raise Wrong(f"Give the function itself, by its name and without calling it; this is {shown(function)}")
    if _is_stub(function):
        raise Wrong(OPEN)
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError as error:
        raise Wrong(f"Your function has to take {count} value{'s' * (count > 1)}: {error}") from None
    except ValueError:  # a builtin without a signature
        return


def _is_stub(function: Any) -> bool:
    """Whether a function's body is only ..., pass, None or a docstring."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_names or set(code.co_consts) - {None, Ellipsis, function.__doc__}:
        return False
    return all(step.opname in _IDLE for step in dis.get_instructions(code))


def returned_nothing(said: Any) -> Wrong:
    """A function that forgot its answer for one input, `said`."""
    return Wrong(f"Your function returned None for {shown(said)}: is there a return on every way through it?")


def number(value: Any, what: str = "a number") -> float:
    """A learner's number in any form: int, float, NumPy's, an array or list of one. Wrong for anything else."""
    if isinstance(value, str | bytes):
        raise Wrong(f"expected {what}, got the text {shown(value)}: leave the quotes out.")
    if isinstance(value, bool | np.bool_):
        raise Wrong(f"expected {what}, got {bool(value)}, the answer to a yes-or-no question.")
    try:
        array = np.asarray(value)
        if array.dtype == object:
            array = array.astype(np.float64)
        if array.size != 1 or array.dtype.kind not in "iuf":
            raise TypeError
        return float(array.reshape(-1)[0])
    except Exception:
        raise Wrong(f"expected {what}, got {shown(value)}") from None


def apart(expected: float, got: float) -> str:
    """ "expected 2, got 2.0000001": in as many digits as it takes to see that they differ."""
    for digits in (4, 8, 12, 17):
        texts = f"{expected:.{digits}g}", f"{got:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return f"expected {texts[0]}, got {texts[1]}"


def entries(answer: Any) -> list[Any] | None:
    """What a list, tuple, array or iterator holds, in its order; None for a text, a dictionary, or one thing alone."""
    if isinstance(answer, str | bytes | bytearray | Mapping | type) or not isinstance(answer, Iterable):
        return None
    if isinstance(answer, set | frozenset):
        raise Wrong("A set has no order, so what stands first? Give a list.")
    try:
        return list(islice(answer, _MOST))
    except Exception:  # an array without dimensions
        return None


def by_task(answer: Any, tasks: Sequence[str]) -> dict[str, Any]:
    """A learner's answers by task, in plain lower case: from a dictionary, pairs, or the answers in the tasks' order.

    Wrong where they are not the answers to just these tasks, or one of them is open.
    """
    listed: list[Any] | None = answer.split(",") if isinstance(answer, str) else entries(answer)
    if isinstance(answer, Mapping):
        given = dict(answer)
    elif listed is not None and len(listed) == len(tasks):
        pairs = all(isinstance(entry, tuple | list) and len(entry) == 2 for entry in listed)
        given = dict(listed) if pairs else dict(zip(tasks, listed, strict=True))
    else:
        raise Wrong(f"Give a dictionary that has an answer for each of {', '.join(tasks)}, not {shown(answer)}")
    if any(is_open(value) for value in given.values()):
        raise Wrong("There is still a ... or None in it; put an answer in its place.")
    said = {plain(task): value for task, value in given.items()}
    if set(said) != {plain(task) for task in tasks}:
        raise Wrong(f"Give each of {', '.join(tasks)} its answer.")
    return {task: said[plain(task)] for task in tasks}


def plain(text: Any) -> str:
    """A learner's name for something: lower case, one space where there were spaces, dashes or underscores."""
    return " ".join(re.split(r"[\s_-]+", str(text).lower().strip()))


def words(answer: Any, known: Iterable[str] = ()) -> list[str]:
    """A learner's texts, lower case: from a list, tuple, array, or one text with commas, arrows, "and" or line ends.

    known: words that may hold spaces; Wrong for what is no text at all.
    """
    if isinstance(answer, bytes):
        answer = answer.decode(errors="replace")
    if isinstance(answer, str):
        answer = (
            [answer] if answer.strip().lower() in set(known) else re.split(r"\s*(?:,|;|->|→|\n|\band\b)\s*", answer)
        )
    listed = entries(answer)
    if listed is None:
        raise Wrong(f'expected a list of texts such as ["...", "..."], got {shown(answer)}')
    found = []
    for entry in listed:
        if is_open(entry):
            raise Wrong("There is still a ... or None in your list; put a text in its place.")
        if not isinstance(entry, str):
            raise Wrong(f"expected a text in every place of the list, got {shown(entry)}")
        if entry.strip():
            found.append(" ".join(entry.lower().split()))
    return found
