"""JSON of TensorFlow Serving's predict API <-> arrays: "instances" are rows, "inputs" columns, {"b64": ...} bytes."""

import base64
import binascii
import json
import re
from typing import Any

import numpy as np

from amlrealtimeai.artifact.definition import Signature, TensorSpec
from amlrealtimeai.errors import InvalidInputError

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def parse(body: bytes, max_depth: int) -> dict[str, Any]:
    """The object in a request's body. Raises InvalidInputError for what is no JSON object or nested too deeply."""
    brackets = _STRINGS.sub(b"", body).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(max_depth):
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    if brackets:
        raise InvalidInputError(
            f"JSON Parse error: nested deeper than {max_depth} levels (max_json_depth), or unbalanced"
        )
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"JSON Parse error: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InvalidInputError("JSON Parse error: expected an object with 'instances' or 'inputs'")
    return value


def inputs_of(request: dict[str, Any], signature: Signature) -> tuple[dict[str, np.ndarray], bool]:
    """Arrays by input name, and whether they came as rows."""
    unknown = set(request) - {"instances", "inputs", "signature_name"}
    if unknown or ("instances" in request) == ("inputs" in request):
        raise InvalidInputError(
            "expected either 'instances' (rows) or 'inputs' (columns), and perhaps 'signature_name'; got "
            f"{', '.join(sorted(request)) or 'nothing'}"[:300]
        )
    if "instances" not in request:
        return _columns(request["inputs"], signature), False
    rows = request["instances"]
    if not isinstance(rows, list) or not rows:
        raise InvalidInputError("expected 'instances' to be a list with at least one element")
    if not any(_is_object(row) for row in rows):
        return {_only(signature): _array(rows, _only(signature), signature)}, True
    names = set(rows[0]) if _is_object(rows[0]) else set()
    if any(not _is_object(row) or set(row) != names for row in rows):
        raise InvalidInputError("expected every instance to be an object with the same names")
    return {name: _array([row[name] for row in rows], name, signature) for name in sorted(names)}, True


def outputs_text(outputs: dict[str, np.ndarray], rows: bool) -> bytes:
    """The body of an answer, as TensorFlow Serving shapes it: one output without its name, several with theirs."""
    lists = {name: _plain(array) for name, array in outputs.items()}
    if not rows:
        return json.dumps({"outputs": next(iter(lists.values())) if len(lists) == 1 else lists}).encode()
    sizes = {len(values) if isinstance(values, list) else -1 for values in lists.values()}
    if len(sizes) != 1 or -1 in sizes:
        raise InvalidInputError("the outputs have no common batch size; ask with 'inputs' instead of 'instances'")
    if len(lists) == 1:
        return json.dumps({"predictions": next(iter(lists.values()))}).encode()
    (count,) = sizes
    return json.dumps({"predictions": [{n: values[i] for n, values in lists.items()} for i in range(count)]}).encode()


def _columns(value: Any, signature: Signature) -> dict[str, np.ndarray]:
    if _is_object(value):
        return {name: _array(column, name, signature) for name, column in value.items()}
    return {_only(signature): _array(value, _only(signature), signature)}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and set(value) != {"b64"}


def _only(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        raise InvalidInputError(f"expected names of inputs, because there are several: {', '.join(signature.inputs)}")
    return next(iter(signature.inputs))


def _array(value: Any, name: str, signature: Signature) -> np.ndarray:
    spec = _spec(name, signature)
    if spec is None:  # the request will be refused by its names, so the values do not matter
        return np.zeros(1, np.float32)
    try:
        if spec.dtype == "string":
            return _strings(value)
        array = np.array(value)
        if array.dtype.kind not in ("b" if spec.dtype == "bool" else "iuf"):
            raise ValueError(f"JSON values that are not {spec.dtype}")
        if array.dtype.kind == "f" and np.dtype(spec.dtype).kind in "iu":
            raise ValueError(f"JSON numbers with a fraction for {spec.dtype}")
        return array.astype(spec.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(
            f"JSON Value of input {name!r:.100}: expected {spec.dtype} of shape {list(spec.shape)}: {str(error)[:200]}"
        ) from None


def _spec(name: str, signature: Signature) -> TensorSpec | None:
    if name in signature.inputs:
        return signature.inputs[name]
    return next((spec for spec in signature.inputs.values() if spec.tensor == name), None)


def _strings(value: Any) -> np.ndarray:
    """Nested lists of strings -> object array of bytes of the same shape."""
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        sizes = {len(item) if isinstance(item, list) else -1 for item in level}
        if len(sizes) != 1:
            raise ValueError("lists of different lengths")
        shape.append(sizes.pop())
        level = [item for items in level for item in items]
    flat = np.empty(len(level), object)
    flat[:] = [_bytes(item) for item in level]
    return flat.reshape(shape)


def _bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"Unable to base64 decode: {error}") from None
    raise ValueError('expected text, or bytes as {"b64": "..."}')


def _plain(array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    flat = np.empty(array.size, object)
    flat[:] = [_text(item) for item in array.ravel()]
    return flat.reshape(array.shape).tolist()


def _text(item: bytes) -> Any:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}
