"""The text of a JSON list of numbers -> array, in memory in proportion to the text.

Python objects for all of [[1],[1],...] would take thirty times the memory of the text. So the numbers go into the array
piece by piece, and their nesting is checked as text: what remains without the digits has to be what is left of a
regular array of its shape. Strings, objects, null, and true among numbers have no place at all.

Which numbers fit which dtype follows TensorFlow Serving (util/json_tensor.cc): no fractions for integers, nothing out
of range, and for floats no integer that they cannot hold exactly; NaN, Infinity and -Infinity are numbers.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_LETTERS = {"f": b"0123456789+-.eENaInfity", "b": b"truefals", "i": b"0123456789-", "u": b"0123456789-"}
_SHOWN = 20  # bytes of what came instead
_BEFORE = re.compile(rb"[^ \t\r\n,\[\]]*\Z")  # of a value, before its first foreign letter
_LONGEST = 1000  # characters of one number; no type can tell more of them apart
_PIECE = 1 << 16  # bytes of text whose numbers are Python objects at the same time


def _classes(letters: bytes) -> bytes:
    """A table for bytes.translate: n for what a value may hold, ? for what it may not."""
    return bytes(code if code in b"[]," else ord("n") if code in letters else ord("?") for code in range(256))


_CLASSES = {kind: _classes(letters) for kind, letters in _LETTERS.items()}
_FOREIGN = {kind: re.compile(rb"[^ \t\r\n,\[\]" + re.escape(letters) + rb"]") for kind, letters in _LETTERS.items()}
_BRACKETS_TO_SPACES = bytes.maketrans(b"[]", b"  ")


def array_of(text: bytes, dtype: np.dtype[Any], levels: int, most: int, check: Callable[[], None]) -> np.ndarray:
    """The array that a list, or lists in lists, of numbers or of true and false describes.

    `levels`: of lists at most; `most`: elements. `check` is called for every piece. Raises ValueError for everything
    else.
    """
    classes = text.translate(_CLASSES[dtype.kind], b" \t\r\n")
    if b"?" in classes:
        foreign = _FOREIGN[dtype.kind].search(text)
        assert foreign is not None
        value = _BEFORE.search(text[max(0, foreign.start() - _SHOWN) : foreign.start()])
        start = foreign.start() - (len(value.group()) if value else 0)
        came = text[start : start + _SHOWN].decode(errors="replace")
        raise ValueError(f"JSON values that are not {dtype.name}: {came!r}")
    if b"n" * (_LONGEST + 1) in classes:
        raise ValueError(f"a number of more than {_LONGEST} characters")
    if b"n[" in classes or b"]n" in classes or b"][" in classes:
        raise ValueError("a comma is missing beside a bracket")
    if b"[]" in classes:
        raise ValueError("expected at least one element in every list")
    count = classes.count(b",") + 1
    if count > most:
        raise too_many(count, most)
    shape = _shape(classes.translate(None, b"n"), levels)
    array = np.empty(count, dtype)
    done = 0
    for piece in _pieces(text.translate(_BRACKETS_TO_SPACES)):
        check()
        values = _values(piece)
        array[done : done + len(values)] = _converted(values, piece.count(b"I"), dtype)
        done += len(values)
    return array.reshape(shape)


def too_many(count: int, most: int) -> ValueError:
    """The error for more elements than one tensor may have."""
    return ValueError(f"{count} numbers are too many (max_elements = {most})")


def _shape(nesting: bytes, levels: int) -> tuple[int, ...]:
    """The shape of a regular array from its brackets and commas: [[,],[,],[,]] is (3, 2)."""
    depth = len(nesting) - len(nesting.lstrip(b"["))
    if depth > levels:
        raise ValueError(f"{depth} levels of lists instead of {levels}")
    inner = nesting.index(b"]") - depth
    shape = [inner + 1]
    regular = b"[" + b"," * inner + b"]"
    for start in range(depth - 1, 0, -1):  # a list of the level above holds `regular`, again and again
        last = nesting.find(regular + b"]", start)
        count = (last - start) // (len(regular) + 1) + 1
        if last < 0:
            break
        shape.append(count)
        regular = b"[" + ((regular + b",") * count)[:-1] + b"]"
    if regular != nesting:
        raise ValueError("lists of different lengths or depths")
    return tuple(reversed(shape))


def _pieces(text: bytes) -> Iterator[bytes]:
    """The text cut at commas."""
    start = 0
    while start <= len(text):
        end = text.rfind(b",", start, start + _PIECE) if len(text) - start > _PIECE else len(text)
        if end < 0:  # a long gap
            end = text.find(b",", start + _PIECE)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def _values(piece: bytes) -> list[Any]:
    try:
        values: list[Any] = json.loads(b"[" + piece + b"]")
    except ValueError as error:
        came = piece[max(getattr(error, "pos", 1) - 1, 0) :].strip()[:20].decode()
        raise ValueError(f"expected a number, got {came!r}") from None
    if not values:
        raise ValueError("expected a number after a comma, got nothing")
    return values


def _converted(values: list[Any], infinities: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The values in this dtype, if each fits; `infinities` of them are called so."""
    if dtype.kind == "f":
        return _floats(values, infinities, dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        for value in (min(values), max(values)):
            if not limits.min <= value <= limits.max:
                raise ValueError(f"{value} is outside {limits.min} .. {limits.max}, the range of {dtype.name}")
    return np.array(values, dtype)


def _floats(values: list[Any], infinities: int, dtype: np.dtype[Any]) -> np.ndarray:
    exact = 1 << (np.finfo(dtype).nmant + 1)
    try:
        wide = np.array(values, np.float64)
    except OverflowError:
        raise ValueError(f"a number is too large for {dtype.name}") from None
    with np.errstate(over="ignore"):
        result = wide.astype(dtype)
    if np.isinf(result).sum() != infinities:
        large = next(value for value, fine in zip(values, np.isfinite(result), strict=True) if not fine)
        raise ValueError(f"{large:g} is too large for {dtype.name}")
    for index in np.flatnonzero(np.abs(wide) >= exact):
        value = values[index]
        if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:  # longer ones are read as fractions are
            raise ValueError(f"{value} cannot be {dtype.name} without loss of precision; write {value}.0 to round it")
    return result
