"""PNG: the chunks that pixels are made of, and their size."""

import struct

from amlrealtimeai.artifact.images.errors import DamagedError, RefusedError

MAGIC = b"\x89PNG\r\n\x1a\n"

_MAX_CHUNKS = 1 << 16
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def read(data: bytes) -> tuple[bytes, int, int]:
    """The file without what its pixels do not need, width and height.

    Dropped are texts, profiles, transparency (as decode_jpeg(channels=3) drops it) and further frames of an animation.
    Raises DamagedError or RefusedError for a file that is cut off or not understood.
    """
    kept, place, copied = [], len(MAGIC), 0
    for _ in range(_MAX_CHUNKS):
        head = data[place : place + 8]
        end = place + 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or end > len(data):
            raise DamagedError("it is cut off")
        kind = head[4:]
        if (kind == b"IHDR") != (place == len(MAGIC)) or (kind == b"IHDR" and end != place + 25):
            raise DamagedError("its header is damaged")
        if kind not in _NEEDED:
            if not kind[0] & 0x20:
                raise DamagedError(f"it has a chunk {kind!r}, without which it cannot be understood")
            kept.append(data[copied:place])
            copied = end
        place = end
        if kind == b"IEND":
            width, height = struct.unpack(">II", data[16:24])
            return b"".join([*kept, data[copied:place]]), width, height
    raise RefusedError(f"it has more than {_MAX_CHUNKS} chunks")
