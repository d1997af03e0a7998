"""JSON of TensorFlow Serving's predict API <-> arrays: "instances" are rows, "inputs" columns, {"b64": ...} bytes.

A request is read as its model's signature says, value by value; whatever the signature has no place for ends the
reading, so that no text costs more than its own length.
"""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from amlrealtimeai.artifact.definition import DTYPES, Signature, TensorSpec
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol.json_numbers import too_many
from amlrealtimeai.serving.protocol.json_values import Reader

_EXPECTED = "expected either 'instances' (rows) or 'inputs' (columns), and perhaps 'signature_name'; got "


@dataclass(frozen=True)
class JsonRequest:
    """Arrays by input name; whether they came as rows; the signature's name, empty if none was given."""

    inputs: dict[str, np.ndarray]
    rows: bool
    signature_name: str = ""


class RequestReader:
    """Reads the request to one signature that a text holds.

    `check_batch` is called with an input's name and the rows so far, when rows are objects.
    """

    def __init__(self, text: Reader, signature: Signature, check_batch: Callable[[str, int], None]) -> None:
        self._text = text
        self._signature = signature
        self._check_batch = check_batch

    def read(self) -> JsonRequest:
        """The request. Raises InvalidInputError for what is no JSON or does not fit the signature."""
        text = self._text
        if not text.comes(b"{"):
            raise text.error("expected an object with 'instances' or 'inputs'")
        found: dict[str, Any] = {}
        for key in text.members():
            if key == "signature_name":
                found[key] = text.string()
            elif key in ("instances", "inputs") and not {"instances", "inputs"} & set(found):
                found[key] = self._rows() if key == "instances" else self._columns()
            else:
                raise InvalidInputError(f"{_EXPECTED}{', '.join([*found, key])}"[:300])
        text.expect_end()
        for key in ("instances", "inputs"):
            if key in found:
                if len(found[key]) != len(self._signature.inputs):
                    raise self._signature.mismatch(found[key])
                return JsonRequest(found[key], key == "instances", found.get("signature_name", ""))
        raise InvalidInputError(_EXPECTED + (", ".join(found) or "nothing"))

    def _columns(self) -> dict[str, np.ndarray]:
        text = self._text
        if not text.comes_object():
            return self._alone()
        columns: dict[str, np.ndarray] = {}
        for name in text.members():
            columns[name] = self._array(name, columns)
        return columns

    def _rows(self) -> dict[str, np.ndarray]:
        text = self._text
        if not text.comes(b"[") or text.comes_empty_list():
            raise InvalidInputError("expected 'instances' to be a list with at least one element")
        if not text.comes_object(in_list=True):
            return self._alone()
        rows: list[dict[str, np.ndarray]] = []
        for _ in text.items():
            if not text.comes_object():
                raise InvalidInputError("expected every instance to be an object with the same names")
            row: dict[str, np.ndarray] = {}
            for name in text.members():
                row[name] = self._array(name, row, in_row=True)
            rows.append(row)
            if row.keys() != rows[0].keys():
                raise InvalidInputError("expected every instance to be an object with the same names")
            self._check_batch(next(iter(row), ""), len(rows))
        return {name: self._stacked(name, [row[name] for row in rows]) for name in rows[0]}

    def _stacked(self, name: str, values: list[np.ndarray]) -> np.ndarray:
        try:
            if len({value.shape for value in values}) > 1:
                raise ValueError("instances of different shapes")
            if values[0].dtype != object and len(values) * values[0].size > self._text.max_elements:
                raise too_many(len(values) * values[0].size, self._text.max_elements)
        except ValueError as error:
            raise _value_error(name, self._spec(name), error) from None
        return np.stack(values)

    def _alone(self) -> dict[str, np.ndarray]:
        """The only input, sent without its name."""
        if len(self._signature.inputs) != 1:
            raise InvalidInputError(
                f"expected names of inputs, because there are several: {', '.join(self._signature.inputs)}"
            )
        (name,) = self._signature.inputs
        return {name: self._array(name, ())}

    def _array(self, name: str, before: Iterable[str], in_row: bool = False) -> np.ndarray:
        """The value of an input, or the part of it in one row; `before`: the inputs that have been read."""
        spec = self._spec(name)
        if spec is None:
            raise self._signature.mismatch([*before, name])
        try:
            return self._text.array(DTYPES[spec.dtype], len(spec.shape) - in_row)
        except InvalidInputError:
            raise
        except ValueError as error:
            raise _value_error(name, spec, error) from None

    def _spec(self, name: str) -> TensorSpec | None:
        if name in self._signature.inputs:
            return self._signature.inputs[name]
        return next((spec for spec in self._signature.inputs.values() if spec.tensor == name), None)


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


def _value_error(name: str, spec: TensorSpec | None, error: ValueError) -> InvalidInputError:
    wanted = f"{spec.dtype} of shape {spec.shape_text()}" if spec else "nothing"
    return InvalidInputError(f"JSON Value of input {name!r:.100}: expected {wanted}: {str(error)[:300]}")


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
