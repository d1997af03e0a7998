"""JSON requests -> arrays: what fits, what does not, and what a hostile text may cost."""

import base64
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amlrealtimeai.artifact.definition import Signature, TensorSpec
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol.json_values import Reader
from amlrealtimeai.serving.protocol.rest_json import JsonRequest, RequestReader
from amlrealtimeai.serving.request.answers import RequestError
from amlrealtimeai.serving.request.limits import Limits

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
MAX_ELEMENTS = 1 << 20


def nothing(*_: Any) -> None:
    pass


def read(body: Any, check: Callable[[], None] = nothing, **inputs: tuple[str, int]) -> JsonRequest:
    """Read for a signature with these inputs, each (dtype, rank)."""
    specs = {name: TensorSpec(f"{name}:0", dtype, (None,) * rank) for name, (dtype, rank) in inputs.items()}
    signature = Signature("serving_default", specs, {"y": TensorSpec("y:0", "float32", (None,))})
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    text = Reader(body, 100, MAX_ELEMENTS, 1 << 16, check)
    return RequestReader(text, signature, Limits().check_batch).read()


def refused(body: Any, **inputs: tuple[str, int]) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read(body, **inputs)
    return str(caught.value)


numbers = st.sampled_from([*INTEGERS, *FLOATS, "bool"]).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
)


@settings(max_examples=300)
@given(numbers, st.sampled_from([None, 0, 3]))
def test_what_json_writes_comes_back(array: np.ndarray, indent: int | None) -> None:
    wanted = {"x": (array.dtype.name, array.ndim)}
    body = json.dumps({"inputs": array.tolist()}, indent=indent).encode()
    got = read(body, **wanted).inputs["x"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


plain = st.recursive(
    st.integers(-3, 300) | st.floats(-2, 2, width=16) | st.booleans() | st.none() | st.just("1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64", "x"]), inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=300)
@given(plain, st.sampled_from(["uint8", "float32", "bool"]))
def test_only_regular_lists_of_the_right_values_are_read(value: Any, dtype: str) -> None:
    """Against a reference that is slow and obvious: NumPy's own array of the parsed JSON."""
    kinds = {"uint8": (int,), "float32": (int, float), "bool": (bool,)}[dtype]
    try:
        reference = np.array(value, object)
        leaves = reference.ravel().tolist()
        fine = reference.size > 0 and reference.ndim <= 2 and all(type(leaf) in kinds for leaf in leaves)
        fine = fine and (dtype != "uint8" or all(0 <= leaf <= 255 for leaf in leaves))
    except ValueError:
        fine = False
    if fine:
        np.testing.assert_array_equal(read({"inputs": {"x": value}}, x=(dtype, 2)).inputs["x"], reference.astype(dtype))
    else:
        refused({"inputs": {"x": value}}, x=(dtype, 2))


@settings(max_examples=300)
@given(st.text(alphabet='[],1-.eE"{}: \nNaInfitytrue', max_size=14))
def test_what_is_no_json_is_no_array(text: str) -> None:
    body = b'{"inputs":' + text.encode() + b"}"
    try:
        got = read(body, x=("float32", 3)).inputs["x"]
    except InvalidInputError:
        return
    np.testing.assert_array_equal(got, np.array(json.loads(body)["inputs"], np.float32))


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_at_and_beyond_their_range(name: str) -> None:
    limits = np.iinfo(name)
    edges = [int(limits.min), int(limits.max)]
    assert read({"inputs": edges}, x=(name, 1)).inputs["x"].tolist() == edges
    for value in (limits.min - 1, limits.max + 1, 10**30, -(10**30)):
        for place in ([value], [0, value], [value, 0]):
            said = refused({"inputs": [int(v) for v in place]}, x=(name, 1))
            assert f"{value} is outside {limits.min} .. {limits.max}, the range of {name}" in said
    for text in (b"1.0", b"1.5", b"1e2", b"true", b"NaN", b'"1"', b"null", b"[]", b"{}", b"+1", b"01"):
        refused(b'{"inputs": [' + text + b"]}", x=(name, 1))


@pytest.mark.parametrize(
    ("name", "fine", "too_large", "inexact"),
    [
        ("float16", [65504.0, -65504.0, 2047], 65520.0, 2049),
        ("float32", [3.4028234663852886e38, 16777215, -16777215], 1e39, 16777217),
        ("float64", [1.7976931348623157e308, 9007199254740991], None, 9007199254740993),
    ],
)
def test_floats_at_and_beyond_their_range(name: str, fine: list, too_large: float | None, inexact: int) -> None:
    got = read({"inputs": fine}, x=(name, 1)).inputs["x"]
    assert got.tolist() == fine
    if too_large is not None:
        assert f"too large for {name}" in refused({"inputs": [0.5, too_large]}, x=(name, 1))
    for text in (b"1e400", b"-1e999999999", b"9" * 400):
        assert "too large" in refused(b'{"inputs": [Infinity, ' + text + b"]}", x=(name, 1))
    assert "without loss of precision" in refused({"inputs": [inexact]}, x=(name, 1))
    assert read(f'{{"inputs": [{inexact}.0]}}'.encode(), x=(name, 1)).inputs["x"].tolist() == [
        float(np.dtype(name).type(inexact))
    ]


def test_tokens_for_what_is_not_finite() -> None:
    got = read(b'{"inputs": [NaN, Infinity, -Infinity, -0.0]}', x=("float32", 1)).inputs["x"]
    assert str(got.tolist()) == "[nan, inf, -inf, -0.0]"


@pytest.mark.parametrize(
    "text",
    [
        "[1 2]", "[1,,2]", "[1,]", "[,1]", "[[1][2]]", "[[1,2]3]", "[1[,]2]", "[1[2]]", "[[1],2]", "[1,[2]]",
        "[[1],[2,3]]", "[[[1]],[[2],[3]]]", "[[]]", "[[],[1]]", "[1", "[[1]", "[1]]", "[1}]", "1 2", "- 1", "[1.]",
        "[.5]", "[1e]", "[Infinity1]", "[nan]", "[Inf]", "[infinity]", "[0x1]", "[1_0]", "[ty]", "[--1]", "", "[",
        "[1] [2]", "[1],", '"1"', "[true]",
    ],
)  # fmt: skip
def test_malformed_numbers(text: str) -> None:
    refused(f'{{"inputs": {text}}}'.encode(), x=("float32", 3))


def test_the_first_value_that_does_not_fit_is_shown() -> None:
    assert "JSON values that are not float32: '\"cat\", 3]'" in refused({"inputs": [1, "cat", 3]}, x=("float32", 1))
    assert "3 levels of lists instead of 2" in refused({"inputs": [[[1]]]}, x=("float32", 2))


@pytest.mark.parametrize(("count", "fine"), [(MAX_ELEMENTS, True), (MAX_ELEMENTS + 1, False)])
def test_element_limit_at_and_above_its_value(count: int, fine: bool) -> None:
    body = b'{"inputs": [' + b"1," * (count - 1) + b"1]}"
    if fine:
        assert read(body, x=("uint8", 1)).inputs["x"].shape == (count,)
    else:
        assert f"max_elements = {MAX_ELEMENTS}" in refused(body, x=("uint8", 1))


def test_rows_and_columns() -> None:
    two = {"a": ("float32", 2), "b": ("string", 1)}
    rows = read({"instances": [{"a": [1, 2], "b": "p"}, {"b": "q", "a": [3, 4]}]}, **two)
    columns = read({"inputs": {"a": [[1, 2], [3, 4]], "b:0": ["p", "q"]}, "signature_name": "s"}, **two)
    assert rows.rows and not columns.rows and columns.signature_name == "s"
    for request in (rows, columns):
        a, b = request.inputs.values()
        assert a.tolist() == [[1, 2], [3, 4]] and b.tolist() == [b"p", b"q"]
    assert read({"instances": [{"a": 1}, {"a": 2}]}, a=("int32", 1)).inputs["a"].tolist() == [1, 2]
    assert read(b'\xef\xbb\xbf {"inputs": 5} ', a=("int32", 0)).inputs["a"].tolist() == 5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON Parse error"),
        (b"[]", "expected an object with 'instances' or 'inputs'"),
        (b'{"inputs": [1]', "JSON Parse error: expected '}'"),
        (b'{"inputs": [1]} x', "expected nothing more"),
        (b'{"inputs": [1], "inputs": [1]}', "'inputs' is there twice"),
        (b'{"inputs": [1], "instances": [1]}', "either 'instances' (rows) or 'inputs'"),
        (b'{"inputs": [1], "x": [1]}', "either 'instances' (rows) or 'inputs'"),
        (b'{"signature_name": "a", "signature_name": "b", "inputs": [1]}', "'signature_name' is there twice"),
        (b'{"signature_name": 5, "inputs": [1]}', "expected a string"),
        (b'{"inputs": {"x": [1], "x": [1]}}', "'x' is there twice"),
        (b'{"instances": [{"x": 1, "x": 1}]}', "'x' is there twice"),
        (b'{"instances": [{"x": 1}, {}]}', "with the same names"),
        (b'{"instances": [{}, {}]}', "Missing but required: {x}"),
        (b'{"inputs": {}}', "Missing but required: {x}"),
        (b'{"instances": [{"x": 1}, 1]}', "an object with the same names"),
        (b'{"instances": [{"x": [1]}, {"x": [1, 2]}]}', "instances of different shapes"),
        (b'{"instances": [1, {"x": 1}]}', "JSON values that are not float32"),
        (b'{"instances": {"x": 1}}', "a list with at least one element"),
        (b'{"instances": [ ]}', "a list with at least one element"),
        (b'{"instances": [{"y": 1}]}', "Sent extra: {y}. Missing but required: {x}"),
        (b'{"inputs": {"x": {"b64": "AAAA"}}}', "JSON values that are not float32"),
        (b'{"inputs": {"b64": "AAAA"}}', "JSON values that are not float32"),
        (b'{"instances": [{"b64": "AAAA"}]}', "JSON values that are not float32"),
    ],
)
def test_requests_that_do_not_fit(body: bytes, said: str) -> None:
    assert said in refused(body, x=("float32", 2))


@settings(max_examples=200)
@given(
    hnp.arrays(object, hnp.array_shapes(max_dims=3, max_side=3), elements=st.text(max_size=8) | st.binary(max_size=8))
)
def test_strings_come_back(array: np.ndarray) -> None:
    def written(value: Any) -> Any:
        if isinstance(value, list):
            return [written(item) for item in value]
        return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value

    got = read({"inputs": written(array.tolist())}, x=("string", array.ndim)).inputs["x"]
    wanted = [item if isinstance(item, bytes) else item.encode("utf-8", "surrogatepass") for item in array.ravel()]
    assert got.shape == array.shape and got.ravel().tolist() == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("_-_-", "web-safe alphabet"),
        ("AAA_", "web-safe alphabet"),
        ("data:image/jpeg;base64,/9j/4AAQ", "data: URI"),
        ("/9j/\n4AAQ\n", "line breaks"),
        ("/9j/4A\r\nAQ", "line breaks"),
        (" /9j/4AAQ", "line breaks or spaces"),
        ("/9j/4AA", "padding is wrong: end it with 1 times '='"),
        ("/9j/4A", "padding is wrong: end it with 2 times '='"),
        ("/9j/4", "part of it is missing"),
        ("/9g=/9g=", "after its padding"),
        ("\u00ff\u00d8\u00ff\u00e0JFIF", "not base64"),
        ("cat.jpg", "not base64"),
        ("=", "padding is wrong"),
    ],
)
def test_base64_errors_say_what_was_done(text: str, said: str) -> None:
    for body in ({"inputs": [{"b64": "AAAA"}, {"b64": text}]}, {"instances": [{"x": {"b64": text}}]}):
        answer = refused(body, x=("string", 1))
        assert "Unable to base64 decode" in answer and said in answer
    assert "item 1" in refused({"inputs": ["", {"b64": text}]}, x=("string", 1))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'"\xff\xd8\xff\xe0"', "not UTF-8; if these are the bytes of a file"),
        (b'{"b64": "AAAA\nAAAA"}', "base64 -w0"),
        (b'"a\x00b"', "no control characters; if these are the bytes of a file, send"),
        (b'"a', 'ends in "'),
        (b'"\\x"', "escape"),
        (b'{"b64": 5}', "expected a string"),
        (b'{"b64": "AAAA", "x": 1}', "an object with 'x'"),
        (b'{"x": "AAAA"}', "an object with 'x'"),
        (b'{"b64": "AAAA", "b64": "AAAA"}', "twice"),
        (b"null", "expected text, or bytes"),
        (b"[]", "at least one element"),
        (b'[["a"]]', "too many levels"),
    ],
)
def test_strings_that_do_not_fit(value: bytes, said: str) -> None:
    assert said in refused(b'{"inputs": [' + value + b"]}", x=("string", 2))


SIZE = 1 << 18
HOSTILE = {
    "one long string, many empty ones": (b'{"instances": ["' + b"a" * 1000 + b'",', b'"",', b'""]}'),
    "many empty lists": (b'{"instances": [', b"[],", b"[]]}"),
    "many lists of one": (b'{"inputs": [', b"[1],", b"[1]]}"),
    "lists of one and of two": (b'{"inputs": [', b"[1],[1,2],", b"[1]]}"),
    "many numbers": (b'{"inputs": [', b"1,", b"1]}"),
    "many objects": (b'{"instances": [', b"{},", b"{}]}"),
    "many objects with a number": (b'{"inputs": {"x": [', b'{"x":1},', b'{"x":1}]}}'),
    "many b64 objects": (b'{"instances": [', b'{"b64":""},', b'{"b64":""}]}'),
    "deep lists": (b'{"inputs": ', b"[", b""),
    "brackets in a string": (b'{"inputs": ["', b"[", b'"]}'),
    "a long integer": (b'{"inputs": [', b"9", b"]}"),
    "a long fraction": (b'{"inputs": [0.', b"1", b"]}"),
    "a long exponent": (b'{"inputs": [1e', b"9", b"]}"),
    "a long gap": (b'{"inputs": [1,', b" ", b"1]}"),
    "escapes": (b'{"inputs": ["', b"\\/", b'"]}'),
    "an open string of escapes": (b'{"inputs": ["', b"\\/", b""),
    "a long key": (b'{"', b"k", b'": 1}'),
    "many keys": (b'{"inputs": {', b'"x":1,', b'"x":1}}'),
    "many nulls": (b'{"inputs": [', b"null,", b"null]}"),
}


@pytest.mark.parametrize("dtype", ["float32", "int64", "string", "bool"])
@pytest.mark.parametrize("name", list(HOSTILE))
def test_no_text_costs_more_than_its_length(name: str, dtype: str) -> None:
    before, unit, after = HOSTILE[name]
    size = SIZE // 8 if dtype == "string" else SIZE  # their reading is slow under tracemalloc
    body = before + unit * (size // len(unit)) + after
    tracemalloc.start()
    try:
        read(body, x=(dtype, 2))
    except (InvalidInputError, RequestError) as error:
        assert len(str(error)) < 1000
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * size + (2 << 20), f"{peak / size:.1f} times the text"


def test_reading_stops_when_nobody_waits() -> None:
    class Passed(Exception):
        pass

    def passed() -> None:
        raise Passed

    for body, dtype in ((b'{"inputs": [1, 2]}', "float32"), (b'{"inputs": ["a"]}', "string")):
        with pytest.raises(Passed):
            read(body, passed, x=(dtype, 1))
