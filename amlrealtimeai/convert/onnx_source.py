"""What conversion asks of an ONNX model: its nodes, its parts as models of their own, ONNX Runtime's values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amlrealtimeai.artifact.runtime import session, settings
from amlrealtimeai.convert.failures import one_line
from amlrealtimeai.convert.source import Sizes
from amlrealtimeai.errors import ConversionError, InvalidInputError
from amlrealtimeai.npu.lowering import graph as lowering
from amlrealtimeai.npu.lowering import nested
from amlrealtimeai.npu.validation import check_name

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = (*_CONVOLUTIONS, "MatMul", "Gemm")
_CLASSIFIER = re.compile(
    r"Reshape|Flatten|Squeeze|Unsqueeze|Transpose|Shape|Slice|Split|Gather\w*|MatMul|Gemm|Cast|Expand|Tile"
)
_UNREPEATABLE = re.compile(r"Random\w+|Bernoulli|Multinomial")
_INPUT = "\0"  # begins the names of the nodes that stand for inputs; no name of a model has it
_LARGEST_VALUE = 2**31  # elements of one value for one image
_GREY, _PER_UNIT = 117.0, 64.0  # pixels become numbers of about -2 to 2, as most ONNX models want them


@dataclass(frozen=True)
class _Node:
    """op as ONNX names it; inputs: values that other nodes make; outputs: its own; proto: the node itself."""

    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    proto: Any = None


class OnnxSource:
    """An ONNX model as convert.source.Source describes it; tensors have the model's own names.

    Nodes without a name, or with one that others have, get one of their own. Initializers are no nodes. given and
    wanted: names of the inputs and outputs.
    """

    framework = "ONNX Runtime"
    advice = "Write the model again with a newer opset or other nodes."

    def __init__(self, model: Any, outputs: Sequence[str] | None = None) -> None:
        model = nested.inlined(model)
        graph = model.graph
        lowering.check_single(graph)
        self._imports, self._ir_version = list(model.opset_import), model.ir_version
        lowering.check_nodes(graph.node, lowering.opset(model))
        for tensor in graph.initializer:
            lowering.check_loaded(tensor)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        fixed = {*self._constants, *self._sparse}
        self.given = [value.name for value in graph.input if value.name not in fixed]
        self.wanted = lowering.output_names(graph, outputs)
        self._outer: dict[str, str] = {}
        protos = self._named(graph.node)
        self.nodes = {_INPUT + name: _Node("Placeholder", (), (name,)) for name in self.given}
        made = {*self.given, *(name for node in protos.values() for name in node.output if name)}
        read = {name: nested.with_captured(node) for name, node in protos.items()}
        for node in lowering.needed_nodes(list(read.values()), self.wanted)[0]:
            sources = tuple(name for name in dict.fromkeys(node.input) if name in made)
            results = tuple(name for name in node.output if name)
            self.nodes[node.name] = _Node(node.op_type, sources, results, protos[node.name])
        self._makers = {tensor: name for name, node in self.nodes.items() for tensor in node.outputs}
        ordered = [node.proto for node in self.nodes.values() if node.proto is not None]
        self._known = {v.name: v.type.tensor_type for v in lowering.inferred(graph, ordered, self._imports)}
        self._check_names()

    def _named(self, nodes: Iterable[Any]) -> dict[str, Any]:
        """Copies of the nodes by names that no two have, those inside of others included."""
        taken: set[str] = set()
        found: dict[str, Any] = {}

        def unused(node: Any) -> str:
            wanted = lowering.label(node)
            names = (wanted if number == 1 else f"{wanted}_{number}" for number in range(1, len(taken) + 3))
            name = next(name for name in names if name not in taken)
            taken.add(name)
            return name

        for original in nodes:
            node = nested.copied(original)
            node.name = unused(node)
            found[node.name] = node
            for inner in nested.inside([node]):
                inner.name = unused(inner)
                self._outer[inner.name] = node.name
        return found

    def _check_names(self) -> None:
        if not self.given:
            raise InvalidInputError("expected a model with inputs, got none")
        for name in (*self._makers, *self.wanted):
            check_name(name)
        for name in self.given:
            if self.dtype(name) == "":
                raise InvalidInputError(f"the input {name!r} is no tensor with a known type; expected a dense tensor")
            if self.shape(name) is None:
                raise InvalidInputError(f"the input {name!r} has no shape; expected one, with names for free sizes")
            if 0 in (self.shape(name) or []):
                raise InvalidInputError(f"the input {name!r} of shape {self.shape(name)} never holds anything; drop it")
        for name, known in self._known.items():
            count = float(np.prod([size or 1 for size in _sizes(known) or []], dtype=float))
            if count > _LARGEST_VALUE:
                raise InvalidInputError(
                    f"the value {name!r} of shape {_sizes(known)} is too large; expected at most {_LARGEST_VALUE} "
                    "elements"
                )

    def maker(self, tensor: str) -> str:
        """Name of the node that makes `tensor`; "" for an initializer."""
        return self._makers.get(tensor, "")

    def results(self, name: str) -> list[str]:
        """All that the node makes."""
        return list(self.nodes[name].outputs)

    def inputs(self, node: _Node) -> list[str]:
        """What the node reads that is no initializer."""
        return list(node.inputs)

    def dtype(self, tensor: str) -> str:
        """Element type as NumPy names it, "string", or "" where ONNX cannot infer it."""
        from onnx import helper

        kind = self._known[tensor].elem_type if tensor in self._known else 0
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name.replace("object", "string") if kind else ""

    def shape(self, tensor: str) -> Sizes:
        """Sizes as far as ONNX can infer them."""
        return _sizes(self._known[tensor]) if tensor in self._known else None

    def ancestors(self, tensors: Iterable[str], stop: Iterable[str] = ()) -> list[str]:
        """Names of the nodes that `tensors` need, inputs first; `stop` tensors count as given."""
        given, needed, pending = set(stop), set[str](), list(tensors)
        while pending:
            tensor = pending.pop()
            name = self.maker(tensor)
            if name and tensor not in given and name not in needed:
                needed.add(name)
                pending += self.nodes[name].inputs
        return [name for name in self.nodes if name in needed]

    def constants(self, names: Iterable[str]) -> set[str]:
        """Those of `names` (inputs first) whose value depends on constants only."""
        known: set[str] = set()
        for name in names:
            node = self.nodes[name]
            fixed = node.op != "Placeholder" and not _UNREPEATABLE.fullmatch(node.op)
            if fixed and all(self.maker(source) in known for source in node.inputs):
                known.add(name)
        return known

    def resolve(self, tensor: str, stop: Iterable[str] = ()) -> str:
        """Follow Identity nodes back to the tensor that has the value; `stop` tensors end the walk."""
        ends = set(stop)
        while tensor not in ends and (name := self.maker(tensor)) and self.nodes[name].op == "Identity":
            if not self.nodes[name].inputs:
                break
            (tensor,) = self.nodes[name].inputs
        return tensor

    def float_graph(self, outputs: Iterable[str]) -> "OnnxSource":
        """The model itself: what it quantises is its own affair."""
        return self

    def is_convolution(self, name: str) -> bool:
        """Whether the node is a convolution or a transposed one."""
        node = self.nodes[name]
        return node.op in _CONVOLUTIONS and node.proto.domain in ("", "ai.onnx")

    def begins_classifier(self, name: str) -> bool:
        """Whether the node only moves data, or is a dense layer."""
        return _CLASSIFIER.fullmatch(self.nodes[name].op) is not None

    def refusal(self, name: str) -> str | None:
        """The compiler can be asked about every node."""
        return None

    def multiplications(self, name: str) -> float:
        """Of a convolution or a product of matrices, for one image; 0 for other nodes."""
        node = self.nodes[name]
        if node.op not in _PRODUCTS or node.proto.domain not in ("", "ai.onnx") or len(node.proto.input) < 2:
            return 0.0
        weights = self._constants.get(node.proto.input[1])
        taps = list(weights.dims) if weights is not None else self.shape(node.proto.input[1]) or []
        if node.op in _CONVOLUTIONS:
            positions = (self.shape(node.outputs[0] if node.op == "Conv" else node.proto.input[0]) or [])[2:]
        else:
            taps, positions = taps[-2:], (self.shape(node.outputs[0]) or [])[1:-1]
        return float(np.prod([float(size or 1) for size in (*taps, *positions)]))

    def image_shape(self, tensor: str) -> Sizes:
        """[1 or None, and two to four fixed sizes]; ConversionError where it has another."""
        shape = self.shape(tensor)
        if shape is None or not 2 <= len(shape) <= 4 or any(size is None for size in shape[1:]):
            raise ConversionError(
                f"the NPU needs an image of fixed size: expected {tensor} of shape [batch, channels, height, width] "
                f"or with other fixed sizes behind the batch, got {shape if shape is not None else 'unknown'}. "
                "Export the model with a fixed height and width."
            )
        if self.dtype(tensor) != "float32":
            raise ConversionError(f"the NPU needs float32 images, got {self.dtype(tensor) or '?'} at {tensor}")
        return [1 if shape[0] == 1 else None, *shape[1:]]

    def npu_part(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        """onnx.ModelProto of what lies between; every item of the first axis counts as an image."""
        return self._part("featurizer", {tensor: self.image_shape(tensor) for tensor in inputs}, outputs)

    def host_part(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        """ONNX file of what lies between, and its inputs' names."""
        data = self._part(name, {tensor: self.shape(tensor) for tensor in inputs}, outputs).SerializeToString()
        return data, {tensor: tensor for tensor in inputs}

    def _part(self, name: str, inputs: Mapping[str, Sizes], outputs: Sequence[str]) -> Any:
        from onnx import TensorProto, helper

        protos = [self.nodes[n].proto for n in self.ancestors(outputs, stop=inputs) if self.nodes[n].proto is not None]
        read = {tensor for node in protos for tensor in nested.with_captured(node).input} | set(outputs)
        entries = []
        for tensor, shape in inputs.items():
            kind = self._known[tensor].elem_type if tensor in self._known else TensorProto.FLOAT
            entries.append(helper.make_tensor_value_info(tensor, kind, shape))
        ends = [helper.make_empty_tensor_value_info(tensor) for tensor in outputs]
        graph = helper.make_graph(protos, name, entries, ends)
        graph.initializer.extend(tensor for key, tensor in self._constants.items() if key in read)
        graph.sparse_initializer.extend(tensor for key, tensor in self._sparse.items() if key in read)
        return helper.make_model(graph, opset_imports=self._imports, ir_version=self._ir_version)

    def origin(self, node: str, names: set[str], model: Any) -> str:
        """The node itself, or the one that it stands in."""
        return self._outer.get(node, node)

    def sample_shape(self, tensor: str) -> list[int]:
        """Two items; images of free size get 64 x 64. Of [n, channels, height, width] the channels come last."""
        known = self._with_channels(tensor)
        shape = [size or (64 if len(known) == 4 and axis > 1 else 2) for axis, size in enumerate(known)]
        return [shape[0], *shape[2:], shape[1]] if self._channels_first(tensor) else shape

    def _with_channels(self, tensor: str) -> list[int | None]:
        """The shape of an input, with the number of channels that a convolution expects where it is free."""
        known = list(self.shape(tensor) or [])
        for node in self.nodes.values():
            if node.op == "Conv" and len(known) > 1 and known[1] is None and node.proto.input[0] == tensor:
                weights = self._constants.get(node.proto.input[1])
                groups = next((a.i for a in node.proto.attribute if a.name == "group"), 1)
                known[1] = weights.dims[1] * groups if weights is not None else None
        return known

    def _channels_first(self, tensor: str) -> bool:
        shape = self._with_channels(tensor)
        return len(shape) == 4 and (shape[1] in (1, 3, 4) or shape[3] not in (1, 3, 4))

    def sample(self, tensor: str, pixels: np.ndarray, scale: float) -> np.ndarray:
        """Centred numbers of about -2 to 2; whole numbers with a sign, which may be indices, are 0 and 1."""
        dtype = self.dtype(tensor)
        values = np.moveaxis(pixels, 3, 1) if self._channels_first(tensor) else pixels
        if "float" in dtype:
            values = (values - _GREY) / _PER_UNIT * scale
        elif not dtype.startswith("uint"):
            values = values > _GREY
        return np.asarray(values.astype(dtype), order="C")  # ascontiguousarray makes a number an array of one

    def values(self, feed: Mapping[str, np.ndarray], tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """ONNX Runtime's values of `tensors`, node by node without its optimiser. Raises ConversionError."""
        fetch = [tensor for tensor in dict.fromkeys(tensors) if tensor not in feed]
        given = {tensor: self.shape(tensor) for tensor in feed}
        try:
            found = []
            if fetch:
                whole = self._part("whole", given, fetch).SerializeToString()
                found = session(whole, settings(optimised=False)).run(fetch, dict(feed))
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            sizes = ", ".join(f"{tensor} {list(value.shape)}" for tensor, value in feed.items())
            raise ConversionError(
                f"ONNX Runtime itself cannot run the model on a sample input of {sizes}: {one_line(error)}"
            ) from error
        return {**feed, **dict(zip(fetch, found, strict=True))}

    def learn(self, feed: Mapping[str, np.ndarray]) -> None:
        """Run a sample, and take from it the types and ranks of the outputs that ONNX does not infer."""
        from onnx import helper

        values = self.values(feed, self.wanted)
        for name in self.wanted:
            value = values[name]
            if not isinstance(value, np.ndarray):
                raise InvalidInputError(f"the output {name!r} is a {type(value).__name__}; expected a tensor")
            if self.dtype(name) == "" or self.shape(name) is None:
                kind = helper.np_dtype_to_tensor_dtype(value.dtype)
                self._known[name] = helper.make_tensor_value_info(name, kind, [None] * value.ndim).type.tensor_type


def _sizes(known: Any) -> Sizes:
    """Sizes of a TypeProto.Tensor."""
    if not known.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in known.shape.dim]
