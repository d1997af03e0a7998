"""Checks of what callers pass: unknown keywords, keywords without a meaning on this machine, names, tags."""

import contextlib
import functools
import inspect
import math
import operator
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, MissingFileError

P = ParamSpec("P")
R = TypeVar("R")
_SHOWN = 200
_FLAGS = (bool, bool | None)
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, on today's file systems


def known_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Make an unknown keyword a TypeError that lists the known ones; a flag has to be one, and so has a workspace."""
    parameters = inspect.signature(function).parameters
    what = function.__qualname__.removesuffix(".__new__").removesuffix(".__init__")
    known = [name for name in parameters if name not in ("self", "cls")]
    flags = [(place, name) for place, name in enumerate(parameters) if parameters[name].annotation in _FLAGS]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            raise TypeError(f"{what}() has no keyword {', '.join(map(repr, unknown))}; it knows: {', '.join(known)}")
        for place, name in flags:
            check_flag(name, args[place] if place < len(args) else kwargs.get(name))
        if "workspace" in parameters:
            _check_workspace(list(parameters).index("workspace"), args, kwargs)
        return function(*args, **kwargs)

    return checked


def _check_workspace(place: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """InvalidInputError for anything else in the place of a workspace; some old calls have it last."""
    given = args[place : place + 1] or [kwargs[name] for name in ("workspace",) if name in kwargs]
    if given and not any(hasattr(value, "store") for value in (*given, *args)):
        raise InvalidInputError(
            f"workspace: expected a Workspace, such as Workspace.from_config(), got {shown(given[0])}"
        )


def warn_without_meaning(what: str, **keywords: Any) -> None:
    """One warning that names the keywords that were given, but mean nothing for a target on this machine."""
    given = [name for name, value in keywords.items() if value is not None]
    if given:
        warnings.warn(f"{what}: {', '.join(given)} has no meaning on this machine and is ignored.", stacklevel=4)


def caller_level() -> int:
    """How many frames of this package are above `warnings.warn`, so that the warning shows the user's own line."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("amlrealtimeai."):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level


def check_name(what: str, name: Any, pattern: str, expected: str) -> str:
    """`name` if it matches, else InvalidInputError that says what was expected."""
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise InvalidInputError(f"{what}: expected {expected}, got {shown(name)}. Choose a name like that.")
    return name


def check_text(what: str, value: Any) -> str:
    """`value` if it is a text with something in it: None and "" must never mean "any"."""
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what}: expected a name, got {shown(value)}")
    return value


def check_kind(what: str, value: Any, kind: type, expected: str) -> Any:
    """`value` if it is one of that class or protocol, else InvalidInputError that says what was expected."""
    if not isinstance(value, kind):
        raise InvalidInputError(f"{what}: expected {expected}, got {shown(value)}")
    return value


def check_flag(what: str, value: Any) -> bool:
    """A flag as a bool, also one of NumPy, 0, 1 or None. InvalidInputError for others: "False" would be true."""
    plain = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
    if plain is not None and (not isinstance(plain, int) or plain not in (0, 1)):
        raise InvalidInputError(f"{what}: expected True or False, got {shown(value)}")
    return bool(plain)


def check_count(value: Any, least: int = 1) -> int | None:
    """`value` as an int, also of NumPy, if it is a whole number from `least` on, no flag or text; else None."""
    try:
        count = operator.index(value)
    except TypeError:
        return None
    return count if count >= least and not isinstance(value, bool) else None


def check_seconds(what: str, value: Any) -> float | None:
    """Seconds as a float, also of NumPy, or None; InvalidInputError for texts, NaN and what is below 0."""
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not seconds >= 0:
        raise InvalidInputError(f"{what}: expected seconds, a number of at least 0, got {shown(value)}")
    return seconds


def check_path(what: str, value: Any) -> Path:
    """A path that a file may have, with ~ expanded; else InvalidInputError.

    Raises MissingFileError for a relative one where the current folder was deleted.
    """
    try:
        path = Path(value).expanduser()
        data = os.fsencode(path)
        fine = value != "" and b"\0" not in data and len(data) <= _LONGEST_PATH
        fine = fine and all(len(os.fsencode(part)) <= _LONGEST_NAME for part in path.parts)
    except (TypeError, UnicodeEncodeError, RuntimeError):  # RuntimeError: nobody's home
        fine = False
    if not fine:
        raise InvalidInputError(f"{what}: expected a path, got {shown(value)}")
    try:
        path.absolute()
    except FileNotFoundError:
        raise MissingFileError(
            f"{what}: {shown(str(path))} starts from the folder that this program is in, and that was deleted. "
            "Change to another, with os.chdir(folder), or give a whole path."
        ) from None
    return path


@contextlib.contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """InvalidInputError that says why, where the caller's file or folder `path` cannot be written in the body."""
    try:
        yield
    except AmlRealtimeAiError:
        raise
    except OSError as problem:
        raise InvalidInputError(
            f"{what}: {str(path)!r} cannot be written: {problem.strerror or problem}. Choose a place that you may "
            "write to."
        ) from problem


def check_names(what: str, values: Any) -> set[str]:
    """The names in a text (one), or in a list of texts."""
    try:
        names = [values] if isinstance(values, str) else list(values)
    except TypeError:  # nothing that can be listed, such as a single number of NumPy
        names = [None]
    if not all(isinstance(name, str) for name in names):
        raise InvalidInputError(f"{what}: expected a name or a list of names, got {shown(values)}")
    return set(names)


def shown(value: Any) -> str:
    """A value as an error names it: on one line that can be printed and read."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def check_strings(what: str, values: Mapping[str, Any] | None) -> dict[str, str]:
    """Tags or properties as a dict of strings; numbers and flags are written as text, as the original does."""
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise InvalidInputError(f"{what}: expected a dict of names and texts, got {shown(values)}")
    return {key: value if isinstance(value, str) else str(value) for key, value in values.items()}


def matches(wanted: Any, found: Mapping[str, str]) -> bool:
    """Whether tags fit a filter: a list of names or [name, value] pairs, or a dict; None fits all."""
    if wanted is None:
        return True
    if isinstance(wanted, Mapping):
        wanted = list(wanted.items())
    if not isinstance(wanted, list | tuple | set) or not all(
        isinstance(item, str) or (isinstance(item, list | tuple) and len(item) == 2) for item in wanted
    ):
        raise InvalidInputError(f"tags: expected a list of names or [name, value] pairs, got {shown(wanted)}")
    for item in wanted:
        if isinstance(item, str):
            if item not in found:
                return False
        elif found.get(str(item[0])) != str(item[1]):
            return False
    return True
