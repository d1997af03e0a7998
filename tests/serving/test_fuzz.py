"""Hostile bytes: whatever is sent, the server answers with a status and then answers the next good request."""

import socket
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import channel_to, predict, request_of
from tests.serving.models import encode, picture

JPEG = encode(picture(60, 40), "JPEG")
PNG = encode(picture(30, 20), "PNG")
GOOD = request_of("means", images=np.array([JPEG], object)).SerializeToString()
EXPECTED_CODES = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def fuzzed(server: Server) -> Iterator[grpc.Channel]:
    with channel_to(server) as channel:
        expected = predict(channel, GOOD).SerializeToString(deterministic=True)
        yield channel
        assert predict(channel, GOOD).SerializeToString(deterministic=True) == expected


def code_of(channel: grpc.Channel, data: bytes) -> str:
    try:
        predict(channel, data, timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """Some bytes flipped, removed or inserted."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == 1:
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == 2:
            data[place:place] = draw(st.binary(max_size=20))
        else:
            del data[place:]
    return bytes(data)


@FUZZ
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=b"\x12\xff\xff\xff\xff\x0f")
def test_random_bytes(fuzzed: grpc.Channel, data: bytes) -> None:
    assert code_of(fuzzed, data) in EXPECTED_CODES


@FUZZ
@given(data=mutated(GOOD))
def test_mutated_requests(fuzzed: grpc.Channel, data: bytes) -> None:
    assert code_of(fuzzed, data) in EXPECTED_CODES


@FUZZ
@given(image=mutated(JPEG) | mutated(PNG))
def test_mutated_images(fuzzed: grpc.Channel, image: bytes) -> None:
    assert code_of(fuzzed, request_of("means", images=np.array([image], object)).SerializeToString()) in EXPECTED_CODES


@FUZZ
@given(
    dtype=st.integers(-5, 30),
    shape=st.lists(st.sampled_from([-(2**63), -1, 0, 1, 2, 65, 2**31, 2**62]), max_size=5),
    content=st.binary(max_size=32),
    floats=st.lists(st.floats(width=32), max_size=4),
    integers=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
    strings=st.lists(st.binary(max_size=8), max_size=3),
)
def test_tensors_that_contradict_themselves(
    fuzzed: grpc.Channel,
    dtype: int,
    shape: list[int],
    content: bytes,
    floats: list[float],
    integers: list[int],
    strings: list[bytes],
) -> None:
    tensor = protos.TensorProto(
        dtype=dtype, tensor_content=content, float_val=floats, int_val=integers, half_val=integers, string_val=strings
    )
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    for request in (request_of("means", images=tensor), request_of("arithmetic", a=tensor, b=tensor)):
        assert code_of(fuzzed, request.SerializeToString()) in EXPECTED_CODES


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000, b"\0" * 9]
)
def test_bytes_that_are_not_http2(fuzzed: grpc.Channel, server: Server, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        plain.sendall(data)
    assert code_of(fuzzed, GOOD) == "OK"
