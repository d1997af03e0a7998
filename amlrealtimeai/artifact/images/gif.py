"""GIF: the only frame of a picture, as TensorFlow's decoder draws it; films have several."""

import struct
from dataclasses import dataclass

import numpy as np

from amlrealtimeai.artifact.images.errors import DamagedError, RefusedError

MAGIC = b"GIF8"

_MAX_BLOCKS = 1 << 18
_EXTENSION, _IMAGE = 0x21, 0x2C
_GRAPHIC_CONTROL = 0xF9
_TABLE, _TABLE_SIZE, _INTERLACED = 0x80, 0x07, 0x40
_GREYS = bytes(value for value in range(256) for _ in range(3))


@dataclass(frozen=True)
class Gif:
    """One frame.

    data        a GIF of the frame's size, whose grey values are the indices of its colours
    left, top   where the frame lies in a picture of its own size: what sticks out is cut off, the rest is black
    colours     uint8 [256, 3], black for the transparent one
    allowed     bool [256]: which of them may occur
    """

    data: bytes
    width: int
    height: int
    left: int
    top: int
    colours: np.ndarray
    allowed: np.ndarray


def read(data: bytes) -> Gif:
    """Take a GIF file apart. Raises DamagedError, or RefusedError for one that has several frames."""
    reader = _Reader(data)
    table = reader.colours(reader.at(10), 13)
    frame: Gif | None = None
    transparent: int | None = None
    while reader.place < len(data):
        kind = reader.byte()
        if kind == _EXTENSION:
            label, start = reader.byte(), reader.place
            reader.skip_blocks()
            if label == _GRAPHIC_CONTROL and reader.at(start) >= 4:
                transparent = reader.at(start + 4) if reader.at(start + 1) & 1 else None
        elif kind == _IMAGE and frame is None:
            frame = reader.frame(table, transparent)
        elif kind == _IMAGE:
            raise RefusedError("it moves, with several frames; send one of them as a picture")
        else:  # the trailer, or rubbish after a whole frame
            break
    if frame is None:
        raise DamagedError("it has no frame")
    return frame


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.place = 13
        self._data = data
        self._blocks = 0

    def at(self, place: int) -> int:
        if place >= len(self._data):
            raise DamagedError("it is cut off")
        return self._data[place]

    def byte(self) -> int:
        self.place += 1
        return self.at(self.place - 1)

    def colours(self, flags: int, place: int) -> bytes | None:
        """The colour table that `flags` announce; the place moves behind it."""
        self.place = place
        if not flags & _TABLE:
            return None
        self.place += 3 << (flags & _TABLE_SIZE) + 1
        self.at(self.place - 1)
        return self._data[place : self.place]

    def skip_blocks(self) -> None:
        """Go behind a chain of blocks, each with its length in front, and an empty one at the end."""
        size = -1
        while size:
            size = self.byte()
            self.place += size
            self._blocks += 1
            if self._blocks > _MAX_BLOCKS:
                raise RefusedError(f"it has more than {_MAX_BLOCKS} blocks")

    def frame(self, table: bytes | None, transparent: int | None) -> Gif:
        start = self.place
        self.at(start + 8)
        left, top, width, height, flags = struct.unpack("<HHHHB", self._data[start : start + 9])
        table = self.colours(flags, start + 9) or table
        if table is None:
            raise DamagedError("it has no colour table")
        coded = self.place
        self.byte()
        self.skip_blocks()
        colours, allowed = np.zeros((256, 3), np.uint8), np.zeros(256, bool)
        colours[: len(table) // 3] = np.frombuffer(table, np.uint8).reshape(-1, 3)
        allowed[: len(table) // 3] = True
        if transparent is not None:
            colours[transparent], allowed[transparent] = 0, True
        head = struct.pack("<6sHHBBB", b"GIF87a", width, height, 0xF7, 0, 0) + _GREYS
        image = struct.pack("<BHHHHB", _IMAGE, 0, 0, width, height, flags & _INTERLACED)
        data = b"".join([head, image, self._data[coded : self.place], b";"])
        return Gif(data, width, height, left, top, colours, allowed)
