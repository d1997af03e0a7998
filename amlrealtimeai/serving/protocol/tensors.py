"""TensorProto <-> NumPy, both ways of carrying values: tensor_content, and the field of the type.

Answers use the field of the type, as TensorFlow Serving's do: old clients read float_val. Twenty bytes may declare any
shape and leave its values out, so nothing is allocated before type and shape have been checked.
"""

import math
from typing import Any

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import protos

MAX_ELEMENTS = 1 << 24  # as float32 this is the message limit of 64 MiB
MAX_STRINGS = 1 << 16

# DataType number -> NumPy dtype name and the field that holds its values.
_TYPES: dict[int, tuple[str, str]] = {
    1: ("float32", "float_val"),
    2: ("float64", "double_val"),
    3: ("int32", "int_val"),
    4: ("uint8", "int_val"),
    5: ("int16", "int_val"),
    6: ("int8", "int_val"),
    7: ("string", "string_val"),
    9: ("int64", "int64_val"),
    10: ("bool", "bool_val"),
    19: ("float16", "half_val"),
    22: ("uint32", "uint32_val"),
    23: ("uint64", "uint64_val"),
}
_FIELDS = (*dict.fromkeys(field for _, field in _TYPES.values()), "scomplex_val")
DATA_TYPES: dict[str, int] = {name: number for number, (name, _) in _TYPES.items()}
_PACKED = {"float_val": (5, 4), "double_val": (6, 8)}  # field number, bytes per value: sent as they lie in memory
_FEW = 64
_SOME = 1 << 16  # values that are Python objects at the same time
_MAX_DIMENSIONS = 32  # NumPy's arrays have at most 64, TensorFlow's 254


def to_proto(array: np.ndarray) -> Any:
    """A TensorProto of the array; strings are object arrays of bytes (str is sent as UTF-8).

    Raises InvalidInputError for a dtype that the protocol has no number for.
    """
    proto = protos.TensorProto()
    fill_proto(proto, np.asarray(array))
    return proto


def fill_proto(proto: Any, array: np.ndarray) -> None:
    """Write an array into an empty TensorProto, wherever that is, as to_proto does."""
    name = "string" if array.dtype.kind in "OSU" else array.dtype.name
    if name not in DATA_TYPES:
        raise InvalidInputError(f"expected an array of {', '.join(DATA_TYPES)}, got dtype {array.dtype}")
    number = DATA_TYPES[name]
    field, head = _TYPES[number][1], _head_wire(number, array.shape)
    if field in _PACKED:
        # Merging the wire form copies memory; extend() would make a Python float of every value.
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        proto.MergeFromString(head + bytes([_PACKED[field][0] << 3 | 2]) + _varint(len(data)) + data)
        return
    proto.MergeFromString(head)
    if name == "string":
        proto.string_val.extend(as_bytes(value) for value in array.ravel())
    else:
        values = array.view(np.uint16) if name == "float16" else array
        getattr(proto, field).extend(values.ravel().tolist())


def _head_wire(number: int, shape: tuple[int, ...]) -> bytes:
    """dtype (field 1) and tensor_shape (2: dim 2: size 1) on the wire; a scalar has a shape, too: an empty one."""
    dimensions = b""
    for size in shape:
        dimension = b"\x08" + _varint(size) if size else b""
        dimensions += b"\x12" + _varint(len(dimension)) + dimension
    return bytes([1 << 3, number]) + b"\x12" + _varint(len(dimensions)) + dimensions


def from_proto(proto: Any, max_elements: int = MAX_ELEMENTS, max_strings: int = MAX_STRINGS) -> np.ndarray:
    """The array of a TensorProto; strings become an object array of bytes. May be read-only.

    Too few values: the last one repeats, none: zeros. A non-empty tensor_content wins and must have the exact length.
    Raises InvalidInputError for everything that does not fit together, and for more than `max_elements`.
    """
    return values_of(proto, *declared(proto, max_elements, max_strings))


def declared(
    proto: Any, max_elements: int = MAX_ELEMENTS, max_strings: int = MAX_STRINGS
) -> tuple[str, tuple[int, ...]]:
    """Dtype name and shape of a TensorProto, whose values have the right number; without memory for them."""
    if proto.dtype not in _TYPES:
        raise InvalidInputError(f"dtype {_type_text(proto)} is not served; send one of {', '.join(DATA_TYPES)}")
    name, field = _TYPES[proto.dtype]
    limit, setting = (max_strings, "max_strings") if name == "string" else (max_elements, "max_elements")
    shape = _shape(proto, limit, setting)
    count, sent = math.prod(shape), len(getattr(proto, field))
    if proto.tensor_content:
        _check_content(proto.tensor_content, name, count)
    elif sent > count:
        raise InvalidInputError(f"shape {list(shape)} has {count} elements, but {field} has {sent}")
    elif not sent and (other := next((other for other in _FIELDS if len(getattr(proto, other))), None)):
        raise InvalidInputError(f"the values are in {other}, where {name} has none; send them in {field}")
    return name, shape


def values_of(proto: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a TensorProto that declares this dtype name and shape."""
    if proto.tensor_content:
        return _from_content(proto.tensor_content, name).reshape(shape)
    field = _TYPES[proto.dtype][1]
    return _filled(_from_field(proto, name, field, getattr(proto, field)), math.prod(shape)).reshape(shape)


def as_bytes(value: Any) -> bytes:
    """A text as UTF-8, bytes as they are."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(f"expected texts of Unicode, got {str(value)!a:.200}") from None
    raise InvalidInputError(f"expected bytes or str in an array of objects, got {type(value).__name__}")


def _type_text(proto: Any) -> str:
    known = proto.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
    return known[proto.dtype].name if proto.dtype in known else str(proto.dtype)


def _shape(proto: Any, limit: int, setting: str) -> tuple[int, ...]:
    if proto.tensor_shape.unknown_rank:
        raise InvalidInputError("the shape has an unknown rank; send the size of every dimension")
    dimensions = proto.tensor_shape.dim
    if len(dimensions) > _MAX_DIMENSIONS:
        raise InvalidInputError(f"the shape has {len(dimensions)} dimensions, more than {_MAX_DIMENSIONS}")
    shape = tuple(dimension.size for dimension in dimensions)
    count = math.prod(shape)
    if min(shape, default=0) >= 0 and count > limit:
        raise InvalidInputError(
            f"shape {list(shape)} has {count} elements, more than the limit of {limit} ({setting} = {limit})"
        )
    if any(not 0 <= size <= limit for size in shape):
        raise InvalidInputError(f"shape {list(shape)} has a size outside 0 .. {limit}")
    return shape


def _check_content(content: bytes, name: str, count: int) -> None:
    if name == "string":
        raise InvalidInputError("strings in tensor_content are not served; send them in string_val")
    size = count * np.dtype(name).itemsize
    if len(content) != size:
        raise InvalidInputError(
            f"tensor_content has {len(content)} bytes, expected {size} ({count} elements of {name})"
        )


def _from_content(content: bytes, name: str) -> np.ndarray:
    if name == "bool":
        return np.frombuffer(content, np.uint8) != 0
    return np.frombuffer(content, np.dtype(name).newbyteorder("<")).astype(np.dtype(name), copy=False)


def _from_field(proto: Any, name: str, field: str, values: Any) -> np.ndarray:
    """The values that were sent, one-dimensional, perhaps fewer than the shape asks for."""
    if name == "string":
        strings = np.empty(len(values), object)
        strings[:] = list(values)
        return strings
    if field in _PACKED:
        packed = _packed(proto, field, len(values))
        if packed is not None:
            return packed.astype(np.dtype(name), copy=False)
    dtype = np.dtype(np.uint16 if name == "float16" else name)
    result = np.empty(len(values), dtype)
    for start in range(0, len(values), _SOME):
        narrow = field in ("int_val", "half_val")
        some = np.array(values[start : start + _SOME], np.int64 if narrow else dtype)
        if narrow:
            _check_range(some, dtype, field)
        result[start : start + len(some)] = some
    return result.view(np.float16) if name == "float16" else result


def _packed(proto: Any, field: str, count: int) -> np.ndarray | None:
    """float_val or double_val without a Python float per value; None if the message holds anything else besides."""
    number, width = _PACKED[field]
    if count < _FEW:
        return None
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    header = _head_wire(proto.dtype, shape) + bytes([number << 3 | 2]) + _varint(count * width)
    wire = proto.SerializeToString()
    if len(wire) != len(header) + count * width or not wire.startswith(header):
        return None
    return np.frombuffer(wire, np.dtype(f"<f{width}"), count, len(header))


def _check_range(values: np.ndarray, dtype: np.dtype[Any], field: str) -> None:
    info = np.iinfo(dtype)
    if not (info.min <= values.min() and values.max() <= info.max):
        raise InvalidInputError(f"{field} holds a value outside {info.min} .. {info.max}, the range of {dtype.name}")


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) == count:
        return values
    result = np.full(count, b"", object) if values.dtype == object else np.zeros(count, values.dtype)
    result[: len(values)] = values
    if len(values):
        result[len(values) :] = values[-1]
    return result


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
