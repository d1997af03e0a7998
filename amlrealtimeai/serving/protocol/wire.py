"""Messages from their bytes, with a bound on how many parts they have.

Two bytes on the wire can be an empty message, a string or a dimension, of up to a hundred bytes in memory: 64 MiB of
them would be gigabytes. So the parts are counted on the bytes first; a real request has few, whatever its size.
"""

import re
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from amlrealtimeai.errors import InvalidInputError

MAX_PARTS = 1 << 17

_VARINT = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]")
_LENGTH_DELIMITED = 2
_BEGINNING = 64  # fields
_SIZES = {1: 8, 5: 4}

# Field number -> the same for the message in that field; a field that is no message is left out.
_Messages = dict[int, "_Messages"]


class _NotWholeError(Exception):
    """The bytes end early, or hold what no request has."""


def parse(kind: Any, data: bytes, max_parts: int = MAX_PARTS) -> Any:
    """A message of this class. Raises InvalidInputError for bytes that are none, or one of too many parts."""
    try:
        if _parts(data, 0, len(data), _messages(kind.DESCRIPTOR), max_parts) > max_parts:
            raise InvalidInputError(
                f"the request has more than {max_parts} values, each by itself (max_parts = {max_parts}); "
                "pack numbers, as protobuf's libraries do, and send fewer strings"
            )
        return kind.FromString(data)
    except (DecodeError, _NotWholeError):
        raise InvalidInputError(f"the request of {len(data)} bytes is not a {kind.DESCRIPTOR.full_name}") from None


def first(data: bytes, number: int) -> bytes:
    """The bytes of the first field of this number, a message or a string; b"" when there is none at the beginning.

    Raises InvalidInputError for what is no message.
    """
    start = 0
    try:
        for _ in range(_BEGINNING):
            if start >= len(data):
                break
            tag, start = _varint(data, start)
            if tag & 7 != _LENGTH_DELIMITED:
                break
            size, start = _varint(data, start)
            if tag >> 3 == number:
                return data[start : start + size]
            start += size
    except _NotWholeError:
        raise InvalidInputError("not a message") from None
    return b""


@cache
def _messages(descriptor: Any) -> _Messages:
    return {field.number: _messages(field.message_type) for field in descriptor.fields if field.message_type}


def _parts(data: bytes, start: int, end: int, messages: _Messages, most: int) -> int:
    """The fields in data[start:end], with those of the messages in them; counting stops beyond `most`."""
    count = 0
    while start < end and count <= most:
        tag, start = _varint(data, start)
        count += 1
        wire = tag & 7
        if wire == 0:
            _, start = _varint(data, start)
        elif wire == _LENGTH_DELIMITED:
            size, start = _varint(data, start)
            inner = messages.get(tag >> 3)
            if inner is not None and size <= end - start:
                count += _parts(data, start, start + size, inner, most - count)
            start += size
        elif wire in _SIZES:
            start += _SIZES[wire]
        else:  # groups: nothing here has any
            raise _NotWholeError
    if start > end:
        raise _NotWholeError
    return count


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """The number that begins here, and the place behind it."""
    first = data[start : start + 1]
    if first and first < b"\x80":
        return first[0], start + 1
    found = _VARINT.match(data, start)
    if found is None:
        raise _NotWholeError
    value = 0
    for index, byte in enumerate(found.group()):
        value |= (byte & 0x7F) << 7 * index
    return value, found.end()
