"""Hostile requests by the thousand, from one seed: real ones with bytes changed, and images that lie."""

import random
import struct
import zlib

import numpy as np

from amlrealtimeai.serving.protocol import protos
from tests.serving.conftest import request_of
from tests.serving.models import encode, picture

EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
JPEG = encode(picture(60, 40), "JPEG")
IMAGES = [
    JPEG,
    encode(picture(60, 40), "JPEG", progressive=True),
    encode(picture(48, 32, "CMYK"), "JPEG"),
    encode(picture(30, 20), "PNG"),
    encode(picture(30, 20, "L"), "PNG"),
    encode(picture(30, 20, "RGBA"), "PNG"),
    encode(picture(30, 20).quantize(16), "PNG"),
]
GOOD = request_of("means", images=np.array([JPEG], object)).SerializeToString()
PAIR = np.ones((2, 2), np.float32)
REQUESTS = [
    GOOD,
    request_of("means", ("output_alias",), images=np.array(IMAGES[:3], object)).SerializeToString(),
    request_of("arithmetic", a=PAIR, b=PAIR).SerializeToString(),
    request_of("heads", ("head1:0",), x=PAIR).SerializeToString(),
]
_STRING = 7  # DataType
_SIZES = [-(2**63), -1, 0, 1, 2, 3, 64, 65, 2**24, 2**31, 2**62]


def mutated(source: random.Random, whole: bytes) -> bytes:
    """Some bytes changed, removed, doubled or inserted, or the end cut off."""
    data = bytearray(whole)
    for _ in range(source.choice((1, 1, 2, 3, 8, 30))):
        if not data:
            break
        place, kind = source.randrange(len(data)), source.randrange(6)
        if kind == 0:
            data[place] = source.randrange(256)
        elif kind == 1:
            data[place] ^= 1 << source.randrange(8)
        elif kind == 2:
            del data[place : place + source.randrange(1, 40)]
        elif kind == 3:
            data[place:place] = source.randbytes(source.randrange(20))
        elif kind == 4:
            data[place:place] = data[place : place + source.randrange(200)]
        elif source.random() < 0.3:
            del data[place:]
    return bytes(data)


def png_header(width: int, height: int, depth: int, color: int) -> bytes:
    """A PNG that claims this size, with next to no data."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(100))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, body, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bomb(side: int) -> bytes:
    """A real black-and-white PNG of side x side pixels in some kilobytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, body, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def lying_tensor(source: random.Random) -> object:
    tensor = protos.TensorProto(
        dtype=source.randrange(-2, 30),
        tensor_content=source.randbytes(source.choice((0, 0, 4, 8, 16))),
        float_val=[1.5] * source.randrange(4),
        int_val=[source.randrange(-(2**31), 2**31) for _ in range(source.randrange(3))],
        string_val=[source.randbytes(5)] * source.randrange(3),
    )
    for _ in range(source.randrange(5)):
        tensor.tensor_shape.dim.add(size=source.choice(_SIZES))
    tensor.tensor_shape.unknown_rank = source.random() < 0.05
    return tensor


def image_request(image: bytes) -> bytes:
    """A request with one image; without NumPy, whose share would be half of what making it costs."""
    message = protos.PredictRequest()
    message.model_spec.name = "means"
    tensor = message.inputs["images"]
    tensor.dtype = _STRING
    tensor.tensor_shape.dim.add(size=1)
    tensor.string_val.append(image)
    data: bytes = message.SerializeToString()
    return data


def request(source: random.Random) -> bytes:
    """One hostile request."""
    kind = source.random()
    if kind < 0.4:
        return image_request(mutated(source, source.choice(IMAGES)))
    if kind < 0.7:
        return mutated(source, source.choice(REQUESTS))
    if kind < 0.8:
        return source.randbytes(source.randrange(300))
    if kind < 0.95:
        model, names = source.choice((("means", ["images"]), ("arithmetic", ["a", "b"]), ("heads", ["x"]), ("", ["x"])))
        return request_of(model, **{name: lying_tensor(source) for name in names}).SerializeToString()
    size = source.choice((0, 1, 1000, 9459, 9460, 30_000, 2**31 - 1))
    image = png_header(
        size, source.choice((1, size, 2**31 - 1)), source.choice((1, 8, 16, 7)), source.choice((0, 2, 3, 6, 9))
    )
    return image_request(image)
