"""JPEG: the parts that pixels are made of, their size, and how often a progressive file goes over them."""

import re
import struct
from dataclasses import dataclass

from amlrealtimeai.artifact.images.errors import DamagedError, RefusedError

MAGIC = b"\xff\xd8\xff"
MAX_SCANS = 500  # as libjpeg-turbo's own fuzzers; encoders write about ten

_MAX_SEGMENTS = 4096
_FILL = b"\xff" * 4096  # libjpeg begins anew with all that have come, each time when more come
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # the frame's header, by kind of coding
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SOS, _EOI = 0xDA, 0xD9
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
_NO_PIXELS = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})  # applications' data and comments; not JFIF's and Adobe's
_ANY_MARKER = re.compile(rb"\xff[^\x00\xff]")  # 0xff may come several times in front
# among coded data 0xff 0x00 is a byte of theirs, and restarts belong to them
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file without what is not needed for its pixels."""

    data: bytes
    width: int
    height: int
    scans: int


def read(data: bytes) -> Jpeg:
    """Take a JPEG file apart. Raises DamagedError, or RefusedError for one that has too many parts."""
    kept, place, copied = [], 2, 0
    frame: tuple[int, int, int, int] | None = None  # marker, height, width, components
    for _ in range(_MAX_SEGMENTS):
        before, marker, start, end = _segment(data, place, _ANY_MARKER)
        if before > place:  # what stands between segments means nothing, and Pillow goes over it byte by byte
            kept.append(data[copied:place])
            copied = place = before
        if marker in _SOF:
            if min(end, len(data)) - start < 8:
                raise DamagedError("its frame header is cut off")
            frame = (marker, *struct.unpack(">HHB", data[start + 3 : start + 8]))
        elif marker in _NO_PIXELS:
            kept.append(data[copied:place])
            copied = end
        elif marker == _SOS:
            if frame is None:
                raise DamagedError("its frame header is missing")
            several = frame[0] in _PROGRESSIVE or data[start + 2 : start + 3] != bytes([frame[3]])
            if data.find(_FILL, end) >= 0:
                raise RefusedError(f"it has more than {len(_FILL)} fill bytes in a row; save it anew")
            scans = 1 + (_more_scans(data, end) if several else 0)
            rest = data if not kept else b"".join([*kept, data[copied:]])
            return Jpeg(rest, frame[2], frame[1], scans)
        elif marker == _EOI:
            break
        place = end
    raise RefusedError(f"it has no picture in its first {_MAX_SEGMENTS} segments")


def _segment(data: bytes, place: int, pattern: re.Pattern[bytes]) -> tuple[int, int, int, int]:
    """Where the next marker from `place` on stands, which it is, and where its segment begins and ends."""
    found = pattern.search(data, place)
    if found is None:
        raise DamagedError("it is cut off")
    marker, start = found.group()[-1], found.end()
    if marker in _ALONE or marker == _EOI:
        return found.start(), marker, start, start
    if start + 2 > len(data):
        raise DamagedError("it is cut off")
    return found.start(), marker, start, start + max(2, int.from_bytes(data[start : start + 2], "big"))


def _more_scans(data: bytes, place: int) -> int:
    """The scans after the first one, whose coded data begins at `place`."""
    scans = 0
    for _ in range(_MAX_SEGMENTS):
        try:
            _, marker, _, place = _segment(data, place, _MARKER)
        except DamagedError:
            return scans  # the decoder will miss the end
        if marker == _EOI:
            return scans
        scans += marker == _SOS
        if scans > MAX_SCANS:
            break
    raise RefusedError(f"it goes over its pixels more than {MAX_SCANS} times; save it anew, or as baseline JPEG")
