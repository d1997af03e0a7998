"""What a check says, and the reading of answers in every form in which they are given."""

import dis
import functools
import inspect
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

_COLOURS = {True: "#2e7d32", False: "#c62828"}  # with a mark and words: nobody needs to tell them apart

_IDLE = {"RESUME", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "NOP", "POP_TOP"}  # of a function that does nothing


_SECONDS = 5.0  # every right answer takes far less than one


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
            return Verdict(
                False, f"That could not be read as an answer ({type(error).__name__}: {error}): {shown(answer)}"
            )

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
    except ZeroDivisionError:
        raise
    except _TooLong:
        raise Wrong(f"For {said} it had no answer after {_SECONDS:g} s: is there a loop that never ends?") from None
    except (Exception, SystemExit) as error:
        raise Wrong(f"For {said} it raised {type(error).__name__}: {error}") from None
    if inspect.isgenerator(answer) or inspect.iscoroutine(answer):
        answer.close()
        raise Wrong("It has a yield (or async): let it return its answer.")
    return answer


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
    except (TypeError, ValueError, OverflowError):
        raise Wrong(f"expected {what}, got {shown(value)}") from None


def words(answer: Any, known: Iterable[str] = ()) -> list[str]:
    """A learner's texts, lower case: from a list, tuple, array, set, or one text with commas, arrows or line ends.

    known: words that may hold spaces; Wrong for what is no text at all.
    """
    if isinstance(answer, bytes):
        answer = answer.decode(errors="replace")
    if isinstance(answer, str):
        answer = [answer] if answer.strip().lower() in set(known) else re.split(r"\s*(?:,|;|->|→|\n)\s*", answer)
    if isinstance(answer, Mapping) or not isinstance(answer, Iterable):
        raise Wrong(f'expected a list of texts such as ["...", "..."], got {shown(answer)}')
    found = []
    for entry in answer:
        if is_open(entry):
            raise Wrong("There is still a ... or None in your list; put a text in its place.")
        if not isinstance(entry, str):
            raise Wrong(f"expected a text in every place of the list, got {shown(entry)}")
        if entry.strip():
            found.append(" ".join(entry.lower().split()))
    return found
