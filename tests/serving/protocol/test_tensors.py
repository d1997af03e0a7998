"""TensorProto <-> NumPy."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol.protos import TensorProto
from amlrealtimeai.serving.protocol.tensors import DATA_TYPES, declared, from_proto, to_proto

NUMBERS = [name for name in DATA_TYPES if name != "string"]
arrays = st.sampled_from(NUMBERS).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(max_examples=200)
@given(arrays)
def test_numbers_come_back_as_they_went(array: np.ndarray) -> None:
    wire = to_proto(array).SerializeToString()
    assert same(from_proto(TensorProto.FromString(wire)), array)


@settings(max_examples=100)
@given(arrays)
def test_tensor_content_means_the_same(array: np.ndarray) -> None:
    proto = to_proto(array)
    bare = TensorProto(dtype=proto.dtype, tensor_shape=proto.tensor_shape, tensor_content=array.tobytes())
    assert same(from_proto(bare), array)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=20), max_size=6))
def test_strings_come_back_as_they_went(strings: list[bytes]) -> None:
    array = np.empty(len(strings), object)
    array[:] = strings
    assert from_proto(to_proto(array)).tolist() == strings


def test_wire_bytes_are_those_of_tensorflow_serving() -> None:
    # dtype 1 = 1, shape 2 {dim 2 {size 1 = 2}}, float_val 5 packed 1.5 -2.0
    expected = bytes.fromhex("0801 1204 1202 0802 2a08 0000c03f 000000c0")
    assert to_proto(np.array([1.5, -2.0], np.float32)).SerializeToString(deterministic=True) == expected
    # string_val 8
    assert to_proto(np.array([b"ab"], object)).SerializeToString(deterministic=True) == bytes.fromhex(
        "0807 1204 1202 0801 4202 6162"
    )


def proto(dtype: str, shape: list[int], **fields: object) -> object:
    made = TensorProto(dtype=DATA_TYPES[dtype], **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def test_too_few_values_repeat_the_last_and_none_are_zeros() -> None:
    assert from_proto(proto("float32", [4], float_val=[1, 2])).tolist() == [1, 2, 2, 2]
    assert from_proto(proto("int64", [2, 2])).tolist() == [[0, 0], [0, 0]]
    assert from_proto(proto("string", [2])).tolist() == [b"", b""]
    assert from_proto(proto("string", [3], string_val=[b"a"])).tolist() == [b"a", b"a", b"a"]
    assert from_proto(proto("float16", [2], half_val=[0x3C00])).tolist() == [1.0, 1.0]


def test_content_wins_over_values() -> None:
    got = from_proto(proto("int32", [1], tensor_content=b"\x05\0\0\0", int_val=[7]))
    assert got.tolist() == [5]


def test_fields_of_other_types_do_not_disturb() -> None:
    made = proto("float32", [2], float_val=[1, 2], int_val=[9], uint64_val=[3])
    assert from_proto(made).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("dtype", "field", "values", "own"),
    [
        ("float32", "int_val", [1, 2], "float_val"),
        ("float32", "double_val", [1.0, 2.0], "float_val"),
        ("float16", "float_val", [1.0], "half_val"),
        ("int64", "int_val", [5], "int64_val"),
        ("uint8", "string_val", [b"ab"], "int_val"),
        ("string", "int64_val", [1], "string_val"),
        ("bool", "int_val", [1], "bool_val"),
        ("float64", "scomplex_val", [1.0, 2.0], "double_val"),
    ],
)
def test_values_in_a_field_of_another_type_are_not_lost(dtype: str, field: str, values: list, own: str) -> None:
    with pytest.raises(
        InvalidInputError, match=f"^the values are in {field}, where {dtype} has none; send them in {own}$"
    ):
        from_proto(proto(dtype, [2], **{field: values}))


def test_many_values_are_read_right_whatever_else_the_message_holds() -> None:
    values = np.arange(100, dtype=np.float32)
    plain = proto("float32", [10, 10], float_val=values)
    named = proto("float32", [10, 10], float_val=values, version_number=3)
    named.tensor_shape.dim[0].name = "rows"
    followed = proto("float32", [10, 10], float_val=values, int_val=[1, 2, 3])
    unknown = TensorProto.FromString(plain.SerializeToString() + bytes.fromhex("a006 05"))
    parts = TensorProto.FromString(proto("float32", [10, 10], float_val=values[:50]).SerializeToString())
    parts.MergeFromString(TensorProto(float_val=values[50:]).SerializeToString())
    for made in (plain, named, followed, unknown, parts):
        np.testing.assert_array_equal(from_proto(made), values.reshape(10, 10))


def test_content_of_bool_is_zero_or_not() -> None:
    assert from_proto(proto("bool", [3], tensor_content=b"\x00\x01\x02")).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (proto("float32", [2], tensor_content=b"\0" * 7), "7 bytes, expected 8"),
        (proto("float32", [2], tensor_content=b"\0" * 12), "12 bytes, expected 8"),
        (proto("float32", [2], float_val=[1, 2, 3]), "float_val has 3"),
        (proto("float32", [-1]), "outside"),
        (proto("float32", [2**40, 0]), "outside"),
        (proto("float32", [4096, 4097]), "more than the limit of 16777216"),
        (proto("float32", [2**20] * 8), "more than the limit"),
        (proto("string", [2**17]), "more than the limit of 65536"),
        (proto("float32", [1] * 33), "33 dimensions"),
        (proto("int8", [1], int_val=[128]), "outside -128 .. 127"),
        (proto("uint8", [1], int_val=[-1]), "outside 0 .. 255"),
        (proto("float16", [1], half_val=[70000]), "outside"),
        (proto("string", [1], tensor_content=b"a"), "string_val"),
        (TensorProto(dtype=0), "DT_INVALID is not served"),
        (TensorProto(dtype=14), "DT_BFLOAT16 is not served"),
        (TensorProto(dtype=999), "dtype 999 is not served"),
        (TensorProto(dtype=1, tensor_shape={"unknown_rank": True}), "unknown rank"),
    ],
)
def test_what_does_not_fit_is_refused(bad: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        from_proto(bad)


@pytest.mark.parametrize(("limit", "fine"), [(7, True), (6, True), (5, False)])
def test_element_limit_at_below_and_above_its_value(limit: int, fine: bool) -> None:
    made = proto("float32", [2, 3])
    if fine:
        assert from_proto(made, max_elements=limit).shape == (2, 3)
    else:
        with pytest.raises(InvalidInputError, match="6 elements, more than the limit of 5"):
            from_proto(made, max_elements=limit)


@pytest.mark.parametrize("bad", [np.zeros(2, np.complex64), np.array([1, "a"], object), np.zeros(1, "datetime64[s]")])
def test_arrays_that_cannot_travel(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        to_proto(bad)


@pytest.mark.parametrize("name", ["float32", "float64", "int64", "uint8", "float16"])
def test_type_and_shape_are_told_without_memory_for_the_values(name: str) -> None:
    made = proto(name, [2048, 2048], **{_FIELDS[name]: [1, 2]})
    tracemalloc.start()
    assert declared(made) == (name, (2048, 2048))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 16


_FIELDS = {"float32": "float_val", "float64": "double_val", "int64": "int64_val", "uint8": "int_val"}
_FIELDS["float16"] = "half_val"


@pytest.mark.parametrize(("name", "largest"), [("uint8", 255), ("int32", 2**31 - 1), ("int64", 2**62)])
def test_many_integers_take_memory_in_proportion(name: str, largest: int) -> None:
    count = 300_000
    made = proto(name, [count], **{"int64_val" if name == "int64" else "int_val": [largest] * count})
    tracemalloc.start()
    got = from_proto(made)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert got.dtype == name and set(got.tolist()) == {largest}
    assert peak < got.nbytes + (8 << 20)


def test_limits_name_their_setting() -> None:
    for made, said in ((proto("float32", [11]), "max_elements = 10"), (proto("string", [6]), "max_strings = 5")):
        with pytest.raises(InvalidInputError, match=said):
            from_proto(made, max_elements=10, max_strings=5)
    assert from_proto(proto("bool", [1 << 25]), max_elements=1 << 25).shape == (1 << 25,), "a larger limit is honoured"
