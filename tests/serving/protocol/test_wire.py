"""Bytes -> messages: what protobuf reads is read, and no message costs more than its bytes."""

import tracemalloc

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import protos, wire
from amlrealtimeai.serving.protocol.tensors import to_proto

REQUEST = protos.PredictRequest(output_filter=["a", "b"])
REQUEST.model_spec.name = "m"
REQUEST.model_spec.version.value = 1 << 40
REQUEST.inputs["images"].CopyFrom(to_proto(np.array([b"x" * 300, b""], object)))
REQUEST.inputs["x"].CopyFrom(to_proto(np.array([[1.5, 2.5]], np.float32)))
DATA = REQUEST.SerializeToString()


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field on the wire."""
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(DATA)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data) - 1))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(data)


@settings(max_examples=500)
@given(st.binary(max_size=40) | mutated())
def test_what_protobuf_reads_is_read_and_nothing_else(data: bytes) -> None:
    groups = any(byte & 7 in (3, 4) for byte in data)  # protobuf steps over unknown groups; no client sends any
    try:
        expected = protos.PredictRequest.FromString(data)
    except DecodeError:
        with pytest.raises(InvalidInputError, match="is not a tensorflow"):
            wire.parse(protos.PredictRequest, data)
        return
    try:
        assert wire.parse(protos.PredictRequest, data) == expected
    except InvalidInputError:
        assert groups


def test_parts_at_and_above_their_limit() -> None:
    request = protos.PredictRequest(output_filter=["a"] * 100)
    assert len(wire.parse(protos.PredictRequest, request.SerializeToString(), 100).output_filter) == 100
    with pytest.raises(InvalidInputError, match="max_parts = 99"):
        wire.parse(protos.PredictRequest, request.SerializeToString(), 99)
    # name, tensor, dtype, shape, 3 dimensions with a size each, values, and the input itself
    request = protos.PredictRequest()
    request.inputs["x"].CopyFrom(to_proto(np.array([[[1.0, 2.0]]], np.float32)))
    assert wire.parse(protos.PredictRequest, request.SerializeToString(), 12) == request
    with pytest.raises(InvalidInputError, match="max_parts = 10"):
        wire.parse(protos.PredictRequest, request.SerializeToString(), 10)


MANY = 400_000
HOSTILE = {
    "inputs": b"\x12\x00" * MANY,
    "inputs with names": b"".join(field(2, field(1, b"%x" % i)) for i in range(MANY // 4)) * 2,
    "outputs": b"\x1a\x00" * MANY,
    "outputs with long tags": b"\x9a\x80\x00\x80\x00" * MANY,
    "dimensions": field(2, field(2, field(2, b"\x12\x00" * MANY))),
    "strings": field(2, field(2, b"\x08\x07" + b"\x42\x00" * MANY)),
    "numbers by themselves": field(2, field(2, b"\x08\x09" + b"\x50\x01" * MANY)),
    "tensors of one input": field(2, b"\x12\x02\x12\x00" * MANY),
    "model specs": b"\x0a\x02\x12\x00" * MANY,
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_many_parts_are_refused_before_they_are_made(name: str) -> None:
    data = HOSTILE[name]
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match="max_parts"):
        wire.parse(protos.PredictRequest, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
