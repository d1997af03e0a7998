"""What a server and a replica say to each other: frames of a JSON head and, behind it, arrays as a protobuf message.

A replica decodes pictures of strangers, so nothing that it says is ever unpickled, and memory is taken only for what
has arrived.
"""

import json
import math
import select
import socket
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from amlrealtimeai.artifact.watch import Check, unchecked
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import protos, tensors

_SIZES = struct.Struct("<IQ")
_LONGEST_HEAD = 1 << 20
_MOST_BYTES = (1 << 31) - 1  # of a protobuf message
_PART = 1 << 20
_ANY = 1 << 62  # the server has looked at its limits
Head = dict[str, Any]


def send(peer: socket.socket, head: Head, arrays: bytes = b"", check: Check = unchecked) -> None:
    """Write one frame; raises OSError when nobody reads it any more.

    `check` is called whenever nothing has moved for the socket's timeout; what it raises leaves half a frame behind.
    """
    text = json.dumps(head).encode()
    head_bytes = _SIZES.pack(len(text), len(arrays)) + text
    # Small frames in one piece: whoever waits for them wakes up once.
    for part in (head_bytes + arrays,) if len(arrays) <= _PART else (head_bytes, arrays):
        rest = memoryview(part)
        while rest:
            try:
                rest = rest[peer.send(rest) :]
            except TimeoutError:
                check()


def receive(peer: socket.socket, check: Check = unchecked) -> tuple[Head, bytes] | None:
    """The next frame; None when the other side has ended. Raises ValueError for what is no frame. check: see send."""
    sizes = _read(peer, _SIZES.size, check)
    if sizes is None:
        return None
    size, more = _SIZES.unpack(sizes)
    if size > _LONGEST_HEAD or more > _MOST_BYTES:
        raise ValueError(f"no frame: a head of {size} bytes and arrays of {more}")
    text = _read(peer, size, check)
    arrays = None if text is None else _read(peer, more, check)
    if text is None or arrays is None:
        return None
    try:
        head = json.loads(text)
    except RecursionError:
        head = None
    if not isinstance(head, dict):
        raise ValueError("no frame: its head is no object")
    return head, arrays


def is_waiting(peer: socket.socket, seconds: float) -> bool:
    """Whether something can be read, or the other side has ended."""
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name, as bytes; numbers as they lie in memory."""
    message = protos.PredictRequest()
    for name, array in arrays.items():
        proto = message.inputs[name]
        if array.dtype.kind in "OSU":
            tensors.fill_proto(proto, array)
            continue
        proto.dtype = tensors.DATA_TYPES[array.dtype.name]
        proto.tensor_shape.SetInParent()
        for size in array.shape:
            proto.tensor_shape.dim.add(size=size)
        proto.tensor_content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    data: bytes = message.SerializeToString()
    return data


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """The arrays that `packed` made bytes of; raises ValueError for other bytes."""
    try:
        inputs = protos.PredictRequest.FromString(data).inputs
        return {name: _unpacked(proto) for name, proto in inputs.items()}
    except (DecodeError, InvalidInputError) as error:
        raise ValueError(f"no arrays: {error}") from None


def _unpacked(proto: Any) -> np.ndarray:
    name, shape = tensors.declared(proto, _ANY, _ANY)
    if not proto.tensor_content and len(proto.string_val) != math.prod(shape):
        raise ValueError(f"an array of shape {list(shape)} without its values")
    return tensors.values_of(proto, name, shape)


def _read(peer: socket.socket, size: int, check: Check) -> bytes | None:
    parts: list[bytes] = []
    while size:
        try:
            part = peer.recv(min(size, _PART))
        except TimeoutError:
            check()
            continue
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
