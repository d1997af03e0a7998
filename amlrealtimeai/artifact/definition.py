"""service_def.json: the stages of a converted model, their wiring, and the signature that clients see.

Everything here treats the file as foreign: whatever is missing, of a wrong type or wired to nothing is an
InvalidInputError that names the place.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import amlrealtimeai
from amlrealtimeai.artifact.preprocess import PreprocessParameters
from amlrealtimeai.errors import InvalidInputError

FORMAT = "amlrealtimeai.service"
FORMAT_VERSION = 1
STAGE_TYPES = ("preprocess", "npu", "onnx")
_NUMBERS = "float32 float64 float16 int8 int16 int32 int64 uint8 uint32 uint64 bool"
DTYPES: dict[str, np.dtype[Any]] = {"string": np.dtype(object)} | {name: np.dtype(name) for name in _NUMBERS.split()}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the signature: TensorFlow tensor name, dtype by name, shape with None for any size."""

    tensor: str
    dtype: str
    shape: tuple[int | None, ...]

    def shape_text(self) -> str:
        """The shape as people write it: [?, 224, 224, 3]."""
        return "[" + ", ".join("?" if size is None else str(size) for size in self.shape) + "]"

    def check(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Raise InvalidInputError unless the dtype is this one and the shape fits; `name` is the input's."""
        if dtype != self.dtype:
            raise InvalidInputError(f"input {name!r:.100}: expected dtype {self.dtype}, got {dtype}")
        fits = len(shape) == len(self.shape) and all(
            want is None or want == size for want, size in zip(self.shape, shape, strict=True)
        )
        if not fits:
            raise InvalidInputError(f"input {name!r:.100}: expected shape {self.shape_text()}, got {list(shape)}")
        if 0 in shape:
            raise InvalidInputError(f"input {name!r:.100}: expected at least one item, got shape {list(shape)}")


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs by alias, in order. Requests may use an alias or the tensor name behind it.

    An answer speaks as its request did: old clients that send tensor names look for tensor names.
    """

    name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    def bind(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Request inputs, by alias or tensor name -> arrays by tensor name, each checked."""
        sent = {alias: values[name] for name, alias in self.aliases(values).items()}
        bound = {}
        for alias, spec in self.inputs.items():
            array = sent[alias].astype(object) if sent[alias].dtype.kind == "S" else sent[alias]
            spec.check(alias, "string" if array.dtype == object else array.dtype.name, array.shape)
            bound[spec.tensor] = array
        return bound

    def aliases(self, names: Collection[str]) -> dict[str, str]:
        """The alias of each input in a request, in the signature's order; it has to have all, once, and no others."""
        known = self._aliases()
        found = {known[name]: name for name in names if name in known}
        if not len(names) == len(found) == len(self.inputs):
            raise self.mismatch(names)
        return {found[alias]: alias for alias in self.inputs}

    def mismatch(self, names: Iterable[str]) -> InvalidInputError:
        """The error for a request whose inputs have these names, in TensorFlow Serving's words."""
        names, aliases = list(names), self._aliases()
        extra = [name for name in names if name not in aliases]
        known = {aliases[name] for name in names if name in aliases}
        missing = [alias for alias in self.inputs if alias not in known]
        return InvalidInputError(
            f"input size does not match signature: {len(names)}!={len(self.inputs)} "
            f"len({{{_listed(names)}}}) != len({{{_listed(self.inputs)}}}). "
            f"Sent extra: {{{_listed(extra)}}}. Missing but required: {{{_listed(missing)}}}."
        )

    def select(self, names: Iterable[str] | None, sent: Iterable[str] = ()) -> dict[str, TensorSpec]:
        """The asked-for outputs by the name they were asked by; None or nothing asked: all of them.

        All are named as the inputs `sent` were: by tensor name if those are tensor names, by alias if some are aliases.
        """
        asked = list(names or [])
        if not asked:
            by_tensor = self._are_tensor_names(sent)
            return {spec.tensor: spec for spec in self.outputs.values()} if by_tensor else dict(self.outputs)
        known = {spec.tensor: spec for spec in self.outputs.values()} | self.outputs
        for name in asked:
            if name not in known:
                raise InvalidInputError(
                    f"output tensor alias not found in signature: {name}. Outputs are {{{_listed(self.outputs)}}}."
                )
            if asked.count(name) > 1:
                raise InvalidInputError(f"duplicate output tensor alias: {name}")
        return {name: known[name] for name in asked}

    def _aliases(self) -> dict[str, str]:
        """Alias by every name that an input has."""
        return {spec.tensor: alias for alias, spec in self.inputs.items()} | {alias: alias for alias in self.inputs}

    def _are_tensor_names(self, sent: Iterable[str]) -> bool:
        """False for a mixture, and where aliases are the tensor names: an alias is what the signature promises."""
        tensors = {spec.tensor for spec in self.inputs.values()}
        telling = [name for name in sent if not (name in self.inputs and name in tensors)]
        return bool(telling) and all(name in tensors for name in telling)


@dataclass(frozen=True)
class StageDef:
    """One stage: which blackboard tensors it reads and writes. `inputs`/`outputs`: its own name -> tensor name."""

    type: str
    name: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    file: str | None = None
    sha256: str | None = None
    parameters: PreprocessParameters | None = None


@dataclass(frozen=True)
class ServiceDefinition:
    """A checked service_def.json."""

    name: str
    created_with: str
    signature: Signature
    stages: tuple[StageDef, ...]

    @classmethod
    def from_dict(cls, raw: Any) -> "ServiceDefinition":
        """Check the whole definition, wiring included; raises InvalidInputError."""
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise InvalidInputError(f"service_def.json is not of the format {FORMAT!r}; convert the model again")
        version = raw.get("format_version")
        if version != FORMAT_VERSION:
            raise InvalidInputError(
                f"service_def.json has format_version {version!r}, and this version of amlrealtimeai reads "
                f"{FORMAT_VERSION}; convert the model again, or upgrade amlrealtimeai"
            )
        signature = _field(raw, "signature", dict, "service_def.json")
        definition = cls(
            name=_field(raw, "name", str, "service_def.json"),
            created_with=str(raw.get("created_with", "")),
            signature=Signature(
                name=_field(signature, "name", str, "signature"),
                inputs=_specs(signature, "inputs"),
                outputs=_specs(signature, "outputs"),
            ),
            stages=tuple(_stage(i, s) for i, s in enumerate(_field(raw, "pipeline", list, "service_def.json"))),
        )
        _check_wiring(definition)
        return definition


def document(
    name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], pipeline: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of a service_def.json, for converted.write_converted.

    inputs, outputs: {alias: {"tensor": name, "dtype": name, "shape": [size or None, ...]}}. pipeline: its stages, in
    the order in which they run.
    """
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "created_with": amlrealtimeai.__version__,
        "signature": {"name": "serving_default", "inputs": dict(inputs), "outputs": dict(outputs)},
        "pipeline": list(pipeline),
    }


def _field(raw: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = raw.get(key)
    if not isinstance(value, kind) or not value:
        raise InvalidInputError(f"{where}: expected {key!r} to be a non-empty {kind.__name__}, got {value!r:.80}")
    return value


def _specs(signature: dict[str, Any], side: str) -> dict[str, TensorSpec]:
    specs = {}
    for alias, raw in _field(signature, side, dict, "signature").items():
        where = f"signature {side} {alias!r}"
        if not isinstance(raw, dict):
            raise InvalidInputError(f"{where}: expected tensor, dtype and shape, got {raw!r:.80}")
        dtype = _field(raw, "dtype", str, where)
        if dtype not in DTYPES:
            raise InvalidInputError(f"{where}: unknown dtype {dtype!r}; known are {', '.join(DTYPES)}")
        shape = raw.get("shape")
        if not isinstance(shape, list) or not all(size is None or _is_size(size) for size in shape):
            raise InvalidInputError(f"{where}: expected a shape of sizes and nulls, got {shape!r:.80}")
        specs[alias] = TensorSpec(_field(raw, "tensor", str, where), dtype, tuple(shape))
    return specs


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _stage(index: int, raw: Any) -> StageDef:
    where = f"pipeline stage {index}"
    if not isinstance(raw, dict):
        raise InvalidInputError(f"{where}: expected an object, got {raw!r:.80}")
    kind = _field(raw, "type", str, where)
    if kind not in STAGE_TYPES:
        raise InvalidInputError(f"{where}: unknown type {kind!r}; known are {', '.join(STAGE_TYPES)}")
    name = _field(raw, "name", str, where)
    inputs, outputs = (_wires(raw, side, f"{where} ({name})") for side in ("inputs", "outputs"))
    if kind == "preprocess":
        parameters = raw.get("parameters", {})
        if not isinstance(parameters, dict) or set(inputs) != {"images"} or set(outputs) != {"output"}:
            raise InvalidInputError(f"{where} ({name}): expected input 'images', output 'output' and parameters")
        return StageDef(kind, name, inputs, outputs, parameters=PreprocessParameters.from_dict(parameters))
    if kind == "npu" and len(inputs) != 1:
        raise InvalidInputError(f"{where} ({name}): an npu stage has one input, got {len(inputs)}")
    file, sha256 = (_field(raw, key, str, f"{where} ({name})") for key in ("file", "sha256"))
    return StageDef(kind, name, inputs, outputs, file=file, sha256=sha256)


def _wires(raw: dict[str, Any], side: str, where: str) -> dict[str, str]:
    wires = _field(raw, side, dict, where)
    if not all(isinstance(tensor, str) and tensor for tensor in wires.values()):
        raise InvalidInputError(f"{where}: expected {side} to map names to tensor names")
    return dict(wires)


def _check_wiring(definition: ServiceDefinition) -> None:
    """Every tensor is written once and before it is read, and the signature's outputs exist."""
    available = {spec.tensor for spec in definition.signature.inputs.values()}
    for stage in definition.stages:
        for tensor in stage.inputs.values():
            if tensor not in available:
                raise InvalidInputError(f"stage {stage.name}: nothing before it makes its input {tensor!r}")
        for tensor in stage.outputs.values():
            if tensor in available:
                raise InvalidInputError(f"stage {stage.name}: its output {tensor!r} exists already")
            available.add(tensor)
    for alias, spec in definition.signature.outputs.items():
        if spec.tensor not in available:
            raise InvalidInputError(f"signature output {alias!r}: no stage makes {spec.tensor!r}")


def _listed(names: Iterable[str]) -> str:
    """At most a few names, each shortened: what a hostile request sends must not blow up the answer."""
    names = list(names)
    return ",".join(f"{name:.100}" for name in names[:20]) + (",..." if len(names) > 20 else "")
