"""What a server and a replica say to each other arrives as it was, and what is no frame takes no memory."""

import socket
import struct
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.replicas import frames

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.mark.parametrize(
    "array",
    [
        np.array(value, dtype)
        for dtype in ("float32", "float64", "int32", "uint8", "int8", "int16", "int64", "uint32", "bool")
        for value in ([[0, 1], [1, 0]], [], 1)
    ]
    + [
        np.array([1.5, -2.0], np.float16),
        np.array([2**63], np.uint64),
        np.array([b"", b"\x00\xff"], object),
        np.array(b"one", object),
        np.array([], object),
        np.zeros((2, 0, 3), np.float32),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(3, dtype=">i4"),
    ],
)
def test_arrays_arrive_as_they_were(array: np.ndarray) -> None:
    (there,) = frames.unpacked(frames.packed({"x": array})).values()
    assert there.dtype == array.dtype.newbyteorder("=") and there.shape == array.shape
    np.testing.assert_array_equal(there, array)


def test_frames_arrive_one_after_the_other(pair: Pair) -> None:
    here, there = pair
    frames.send(here, {"outputs": ["ä"]}, b"abc")
    frames.send(here, {"unwanted": True})
    assert frames.receive(there) == ({"outputs": ["ä"]}, b"abc")
    assert frames.receive(there) == ({"unwanted": True}, b"")
    here.close()
    assert frames.receive(there) is None


def frame(head: bytes, size: int | None = None, arrays: bytes = b"") -> bytes:
    return struct.pack("<IQ", len(head) if size is None else size, len(arrays)) + head + arrays


@pytest.mark.parametrize("cut", [1, 11, 12, 20, -1])
def test_half_a_frame_is_the_end(pair: Pair, cut: int) -> None:
    here, there = pair
    here.sendall(frame(b'{"outputs": null}', arrays=b"abcdef")[:cut])
    here.close()
    assert frames.receive(there) is None


@pytest.mark.parametrize(
    "data",
    [
        frame(b"", size=1 << 31),
        struct.pack("<IQ", 2, 1 << 60) + b"{}",
        frame(b"[]"),
        frame(b"\xff\xff"),
        frame(b"[" * 100_000),
    ],
    ids=["head", "arrays", "list", "text", "deep"],
)
def test_what_is_no_frame(pair: Pair, data: bytes) -> None:
    here, there = pair
    here.sendall(data)
    with pytest.raises(ValueError):
        frames.receive(there)


def test_memory_is_taken_for_what_has_arrived_only(pair: Pair) -> None:
    here, there = pair
    here.sendall(struct.pack("<IQ", 2, (1 << 31) - 1) + b"{}" + bytes(1000))
    here.close()
    tracemalloc.start()
    try:
        assert frames.receive(there) is None
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_arrays_that_only_declare_their_size(pair: Pair) -> None:
    message = protos.PredictRequest()
    message.inputs["x"].dtype = 1
    message.inputs["x"].tensor_shape.dim.add(size=1 << 40)
    with pytest.raises(ValueError, match="without its values"):
        frames.unpacked(message.SerializeToString())
    for bad in (b"\xff", b"\x12\x05\x0a\x01x\x12\x00"):
        with pytest.raises(ValueError, match="no arrays"):
            frames.unpacked(bad)


def test_whoever_waits_in_vain_is_asked_whether_to_go_on(pair: Pair) -> None:
    here, there = pair

    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    for one in pair:
        one.settimeout(0.01)
    with pytest.raises(Enough):
        frames.receive(there, check)
    with pytest.raises(Enough):
        frames.send(here, {}, bytes(64 << 20), check)
