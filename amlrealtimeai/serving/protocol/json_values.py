"""Reading a JSON text value by value: whoever reads says what has to come, so that nothing else is ever built."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import base64_text, json_numbers

_SPACE = re.compile(rb"[ \t\r\n]*")
_TOKEN = re.compile(rb"[^ \t\r\n,\[\]{}]*")
# possessive: a repeated group that may step back keeps a record of every step
_OPEN_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+', re.DOTALL)
_OBJECT = re.compile(rb'\{(?![ \t\r\n]*"b64"[ \t\r\n]*:)')
_OBJECT_IN_LIST = re.compile(rb"\[[ \t\r\n]*" + _OBJECT.pattern)
_EMPTY_LIST = re.compile(rb"\[[ \t\r\n]*\]")
_FIRST, _LARGEST = 1 << 8, 1 << 16  # bytes that are searched at a time for the end of a list


class Reader:
    """A place in a JSON text. Methods read what comes next, or raise InvalidInputError that says what came instead."""

    def __init__(
        self, data: bytes, max_depth: int, max_elements: int, max_strings: int, check: Callable[[], None]
    ) -> None:
        """`max_elements` of one array, `max_strings` of all.

        `check` is called now and then: what it raises ends the reading.
        """
        self._data = data
        self._place = 3 if data.startswith(b"\xef\xbb\xbf") else 0  # a byte order mark
        self._depth = 0
        self._max_depth = max_depth
        self.max_elements = max_elements
        self._strings_left = self._max_strings = max_strings
        self._check = check

    def comes(self, text: bytes) -> bool:
        """Whether the next value begins so."""
        space = _SPACE.match(self._data, self._place)
        assert space is not None
        self._place = space.end()
        return self._data.startswith(text, self._place)

    def comes_object(self, in_list: bool = False) -> bool:
        """Whether the next value, or the first one in the list that comes next, is an object and not {"b64": ...}."""
        self.comes(b"")
        return (_OBJECT_IN_LIST if in_list else _OBJECT).match(self._data, self._place) is not None

    def comes_empty_list(self) -> bool:
        """Whether the next value is []."""
        self.comes(b"")
        return _EMPTY_LIST.match(self._data, self._place) is not None

    def expect_end(self) -> None:
        """Nothing may follow."""
        self.comes(b"")
        if self._place != len(self._data):
            raise self.error("expected nothing more")

    def members(self) -> Iterator[str]:
        """The keys of an object, each once; its value has to be read before the next key is asked for."""
        seen = set()
        for _ in self._parts(b"{", b"}"):
            key = self.string()
            if key in seen:
                raise self.error(f"the key {key!r:.100} is there twice")
            seen.add(key)
            self._expect(b":")
            yield key

    def items(self) -> Iterator[None]:
        """A step for each value of a list; it has to be read before the next step."""
        return self._parts(b"[", b"]")

    def string(self) -> str:
        """The text of a string."""
        self.comes(b"")
        opened = _OPEN_STRING.match(self._data, self._place)
        if opened is None:
            raise self.error('expected a string in "')
        end = opened.end() + 1
        if self._data[end - 1 : end] in (b"\n", b"\r"):
            raise self.error(f"a string has a line break in it; if it is base64, {base64_text.HOW}")
        if self._data[end - 1 : end] != b'"':
            wanted = 'expected a string that ends in " and has no control characters'
            raise self.error(f"{wanted}; if these are the bytes of a file, {base64_text.HOW}")
        try:
            text: str = json.loads(self._data[self._place : end])
        except UnicodeDecodeError:
            raise self.error(f"a string is not UTF-8; if these are the bytes of a file, {base64_text.HOW}") from None
        except ValueError as error:
            raise self.error(str(error)) from None
        self._place = end
        return text

    def array(self, dtype: np.dtype[Any], levels: int) -> np.ndarray:
        """A value as array: numbers, or bytes for dtype object, or up to so many levels of lists of them.

        Raises ValueError for values that are not of this dtype.
        """
        if dtype.kind == "O":
            return self._strings_array(levels)
        if self.comes(b"["):
            end = self._end_of_list()
            text = self._data[self._place : end]
            array = json_numbers.array_of(text, dtype, levels, self.max_elements, self._check)
        else:
            token = _TOKEN.match(self._data, self._place)
            assert token is not None
            if not token.group():
                raise ValueError(f"JSON values that are not {dtype.name}: {self._coming()!r}")
            end = token.end()
            text = b"[" + token.group() + b"]"
            array = json_numbers.array_of(text, dtype, 1, self.max_elements, self._check).reshape(())
        self._place = end
        return array

    def _parts(self, opening: bytes, closing: bytes) -> Iterator[None]:
        self._expect(opening)
        self._check_depth(self._depth + 1)
        self._depth += 1
        if not self._skip(closing):
            yield
            while self._skip(b","):
                yield
            self._expect(closing)
        self._depth -= 1

    def _skip(self, text: bytes) -> bool:
        found = self.comes(text)
        self._place += len(text) * found
        return found

    def _expect(self, text: bytes) -> None:
        if not self._skip(text):
            raise self.error(f"expected {text.decode()!r}")

    def _check_depth(self, depth: int) -> None:
        if depth > self._max_depth:
            raise InvalidInputError(f"JSON Parse error: nested too deeply (max_json_depth = {self._max_depth})")

    def error(self, text: str) -> InvalidInputError:
        """What was expected, and what comes instead."""
        return InvalidInputError(f"JSON Parse error: {text}; byte {self._place}: {self._coming()!r}")

    def _coming(self) -> str:
        return self._data[self._place : self._place + 20].decode(errors="replace")

    def _end_of_list(self) -> int:
        """The place behind the list that begins here, which has to hold no strings."""
        start, size, depth = self._place, _FIRST, self._depth
        while start < len(self._data):
            piece = np.frombuffer(self._data, np.uint8, min(size, len(self._data) - start), start)
            places = np.flatnonzero((piece == ord("[")) | (piece == ord("]")))
            depths = depth + np.cumsum(np.where(piece[places] == ord("["), 1, -1))
            closed = np.flatnonzero(depths == self._depth)
            if closed.size:
                depths = depths[: closed[0] + 1]
            if depths.size:
                self._check_depth(int(depths.max()))
                depth = int(depths[-1])
            if closed.size:
                return start + int(places[closed[0]]) + 1
            start += size
            size = min(size * 4, _LARGEST)
        raise self.error("expected a list of numbers that is closed")

    def _strings_array(self, levels: int) -> np.ndarray:
        flat: list[bytes] = []
        shape = self._strings(flat, levels)
        array = np.empty(len(flat), object)
        array[:] = flat
        return array.reshape(shape)

    def _strings(self, flat: list[bytes], levels: int) -> tuple[int, ...]:
        """Append the strings that come, in so many levels of lists or fewer; their shape."""
        self._strings_left -= 1
        if self._strings_left < 0:
            raise ValueError(f"more strings and lists of them than are allowed (max_strings = {self._max_strings})")
        if not self.comes(b"["):
            try:
                flat.append(self._bytes())
            except ValueError as error:
                if isinstance(error, InvalidInputError):
                    raise
                raise ValueError(f"item {len(flat)}: {error}") from None
            return ()
        if not levels:
            raise ValueError("too many levels of lists")
        inner: tuple[int, ...] | None = None
        count = 0
        for _ in self.items():
            shape = self._strings(flat, levels - 1)
            if inner not in (None, shape):
                raise ValueError("lists of different lengths or depths")
            inner = shape
            count += 1
        if inner is None:
            raise ValueError("expected at least one element in every list")
        return (count, *inner)

    def _bytes(self) -> bytes:
        self._check()
        if self.comes(b'"'):
            return self.string().encode("utf-8", "surrogatepass")
        if not self.comes(b"{"):
            raise ValueError('expected text, or bytes as {"b64": "..."}')
        text = ""
        for key in self.members():
            if key != "b64":
                raise ValueError(f'expected {{"b64": "..."}}, got an object with {key!r:.100}')
            text = self.string()
        return base64_text.decode(text)
