"""Reads an ONNX graph: its checks, its constants, its one input, and the layout of its values.

Layout operations cost nothing on the NPU, so they become bookkeeping. A `View` says which of the letters n, h, w, c
each axis of an ONNX value holds: ("n", "c", "h", "w") for NCHW, ("n", "hwc") for a flattened NHWC tensor. Letters of
size 1 are left out, so that [n, 1, 1, C] is ("n", "", "", "c") however it came about.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from amlrealtimeai.errors import InvalidInputError, NotFoundError, UnsupportedError
from amlrealtimeai.npu.program import Shape

AXES = {"nhwc": ("n", "h", "w", "c"), "nchw": ("n", "c", "h", "w"), "nc": ("n", "c")}
Pads = tuple[int, int, int, int]
_NO_PADS: Pads = (0, 0, 0, 0)
_SMALL_CONSTANT = 64  # elements; larger ones are no shapes
_FOLDED = (
    *("Identity", "Cast", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Transpose"),
    *("Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Neg", "ReduceProd", "ConstantOfShape", "Expand"),
)
_PASSING = ("Identity", "Cast", "Pad", "Add", "Sub", "Mul", "Div", "Relu", "Dropout")


@dataclass(frozen=True)
class View:
    """An ONNX value: the NPU tensor that holds it, the letters on each axis, and zeros still to be added around it.

    pads: (top, left, bottom, right) from a Pad node; the window that reads the value takes them over.
    """

    tensor: str
    axes: tuple[str, ...]
    pads: Pads = _NO_PADS


def load_model(model: ModelProto | GraphProto | Path | str) -> ModelProto:
    """The model itself or the one in that file, with its external data. Raises NotFoundError, InvalidInputError."""
    if isinstance(model, ModelProto):
        return model
    if isinstance(model, GraphProto):
        return helper.make_model(model)
    if not isinstance(model, str | Path):
        raise InvalidInputError(f"expected an onnx.ModelProto or the path of a file, got {type(model).__name__}")
    path = Path(model)
    if not path.is_file():
        raise NotFoundError(f"expected an ONNX file at {path}, found none; write one with onnx.save(model, path)")
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf, onnx and the file system each raise their own kind
        raise InvalidInputError(f"cannot read {path} as an ONNX model with its external data: {error}") from error


def attributes(node: NodeProto) -> dict[str, Any]:
    """The node's attributes by name; strings as str."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.type != AttributeProto.GRAPH}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def label(node: NodeProto) -> str:
    """The node's name, or that of its first output where it has none."""
    return node.name or node.output[0]


class Refusal(UnsupportedError):
    """A node that the NPU cannot run: why, and the nearest that it can."""

    def __init__(self, problem: str, nearest: str) -> None:
        super().__init__(f"{problem}. Supported: {nearest}.")
        self.problem, self.nearest = problem, nearest


class UnknownValueError(Exception):
    """A node reads what a node before it, which the NPU cannot run, would have made; nothing can be said of it."""


def unsupported(node: NodeProto, problem: str, nearest: str) -> Refusal:
    """The error for a node that the NPU cannot run."""
    return Refusal(problem, nearest)


def normal(axes: Sequence[str], shape: Shape) -> tuple[str, ...]:
    """`axes` without the letters of size 1."""
    sizes = dict(zip("hwc", shape, strict=True))
    return tuple("".join(letter for letter in axis if sizes.get(letter) != 1) for axis in axes)


def reshaped(axes: tuple[str, ...], shape: Shape, target: Sequence[int]) -> tuple[str, ...] | None:
    """`axes` after an ONNX Reshape to `target` (0 keeps an axis, -1 is the rest); None where a letter is split."""
    sizes = dict(zip("hwc", shape, strict=True))
    extents = [int(np.prod([sizes[letter] for letter in axis if letter != "n"], dtype=int)) for axis in axes]
    wanted = [extents[i] if size == 0 and i < len(extents) else size for i, size in enumerate(target)]
    if not wanted or axes[0] != "n" or wanted[0] not in (-1, 1):
        return None
    wanted = wanted[1:]
    if -1 in wanted:
        wanted[wanted.index(-1)] = int(np.prod(extents)) // max(1, -int(np.prod(wanted)))
    letters = [letter for axis in axes[1:] for letter in axis]
    groups = ["n"]
    for size in wanted:
        group, extent = "", 1
        while extent < size and letters:
            extent *= sizes[letters[0]]
            group += letters.pop(0)
        if extent != size:
            return None
        groups.append(group)
    return None if letters else tuple(groups)


class Graph:
    """The part of an ONNX graph that its outputs need: nodes in order, constants, the input."""

    def __init__(self, model: ModelProto, outputs: Sequence[str] | None = None) -> None:
        graph = self._graph = model.graph
        if not graph.node or not (graph.output or outputs):
            raise InvalidInputError(f"expected a graph with nodes and outputs, got an empty one ({graph.name!r})")
        self.outputs = _outputs(graph, outputs)
        self.opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self.nodes, needed = _needed(graph.node, self.outputs)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._constants: dict[str, np.ndarray] = {}
        self._sparse = {tensor.values.name for tensor in graph.sparse_initializer}
        inputs = [value for value in graph.input if value.name not in self._initializers and value.name in needed]
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise InvalidInputError(f"expected one graph input that the outputs depend on, got {len(inputs)}: {names}")
        sizes = _input_sizes(inputs[0])
        self.input_layout = "nc" if len(sizes) == 2 else _input_layout(inputs[0].name, self.nodes)
        axes = AXES[self.input_layout]
        by_letter = dict(zip(axes[1:], sizes[1:], strict=True))
        self.input_shape: Shape = (by_letter.get("h", 1), by_letter.get("w", 1), by_letter["c"])
        self.input = View(inputs[0].name, normal(axes, self.input_shape))

    def maker(self, name: str) -> NodeProto:
        """The node that writes the value."""
        return next(node for node in self.nodes if name in node.output)

    def constant(self, name: str) -> np.ndarray | None:
        """The constant of that name, or None where the value depends on the input."""
        if name in self._sparse:
            raise Refusal(f"its constant {name} is sparse", "dense initializers")
        if name not in self._constants and name in self._initializers:
            tensor = self._initializers[name]
            if tensor.data_location == TensorProto.EXTERNAL and not tensor.HasField("raw_data"):
                raise InvalidInputError(
                    f"the data of constant {name} is in another file that was not loaded; "
                    "give the path of the model, or load it with onnx.load(path)"
                )
            self._constants[name] = numpy_helper.to_array(tensor)
        return self._constants.get(name)

    def fold(self, node: NodeProto) -> bool:
        """Evaluate a node whose inputs are all constant; False where it is none."""
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant":
            values = attributes(node)
            sparse = "sparse_value" in values
            if sparse or len(values) != 1:
                raise unsupported(node, "expected one dense value", "Constant with value")
            value = next(iter(values.values()))
            array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
            self._constants[node.output[0]] = array.astype(np.float32) if array.dtype == np.float64 else array
            return True
        constants = [self.constant(name) for name in inputs]
        if not inputs or any(constant is None for constant in constants):
            return False
        if node.op_type not in _FOLDED:
            raise unsupported(node, "it works on constants only", "constants folded before (onnxsim, tf2onnx)")
        from onnx.reference import ReferenceEvaluator

        model = helper.make_model(
            helper.make_graph(
                [node],
                "constant",
                [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(inputs)],
                [helper.make_empty_tensor_value_info(name) for name in node.output],
            ),
            opset_imports=[helper.make_opsetid("", self.opset)],
        )
        feeds = dict(zip(inputs, constants, strict=True))
        results = ReferenceEvaluator(model).run(None, feeds)
        self._constants.update(zip(node.output, (np.asarray(result) for result in results), strict=True))
        return True

    @cached_property
    def inferred_shapes(self) -> dict[str, list[int]]:
        """Sizes of the values whose shapes ONNX can infer; a symbolic size is 0."""
        light = onnx.GraphProto(name="shapes", input=self._graph.input, output=self._graph.output)
        light.node.extend(self.nodes)
        for tensor in self._graph.initializer:
            if np.prod(tensor.dims, dtype=float) <= _SMALL_CONSTANT:
                light.initializer.append(tensor)
            light.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        domains = {node.domain for node in self.nodes} - {"", "ai.onnx"}
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(light, opset_imports=imports)
        try:
            known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception:  # onnx raises several kinds; without shapes less can be said of what follows
            return {}
        shaped = [v for v in (*known.value_info, *known.output) if v.type.tensor_type.HasField("shape")]
        return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in shaped}

    def fold_shape(self, node: NodeProto, axes: tuple[str, ...], shape: Shape) -> None:
        """Evaluate a Shape node; the batch counts as 1, because a program runs one image at a time."""
        sizes = dict(zip("hwc", shape, strict=True), n=1)
        extents = [int(np.prod([sizes[letter] for letter in axis], dtype=int)) for axis in axes]
        given = attributes(node)
        self._constants[node.output[0]] = np.array(extents, np.int64)[given.get("start", 0) : given.get("end")]


def _outputs(graph: GraphProto, wanted: Sequence[str] | None) -> list[str]:
    """The names of the graph's outputs, or `wanted`, each of which some node has to write."""
    if wanted is None:
        return [output.name for output in graph.output]
    if isinstance(wanted, str) or not wanted or len(set(wanted)) != len(wanted):
        raise InvalidInputError(f"outputs: expected a list of different names of the model's values, got {wanted!r}")
    made = [name for node in graph.node for name in node.output if name]
    for name in wanted:
        if name not in made:
            near = difflib.get_close_matches(str(name), made, 3, 0.4) or made[-3:]
            raise InvalidInputError(f"outputs: no node writes {name!r}; some values that are there: {', '.join(near)}")
    return list(wanted)


def _needed(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> tuple[list[NodeProto], set[str]]:
    """The nodes that `outputs` depend on, each after those that it reads, and the names of all values on the way."""
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    kept: list[NodeProto] = []
    state: dict[int, bool] = {}  # False while the nodes before it are visited
    stack = [makers[name] for name in reversed(outputs) if name in makers]
    while stack:
        number = stack[-1]
        if number in state:
            stack.pop()
            if not state[number]:
                state[number] = True
                kept.append(nodes[number])
            continue
        state[number] = False
        before = [makers[name] for name in reversed(nodes[number].input) if name in makers]
        if any(state.get(other) is False for other in before):
            raise InvalidInputError(f"node {label(nodes[number])} ({nodes[number].op_type}) is part of a cycle")
        stack += [other for other in before if other not in state]
    return kept, set(outputs).union(name for node in kept for name in node.input if name)


def _input_sizes(value: onnx.ValueInfoProto) -> list[int]:
    """The checked sizes of the graph's input; 0 stands for a symbolic batch."""
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(tensor.elem_type)
        raise InvalidInputError(
            f"input {value.name}: expected FLOAT (float32), got {found}; cut the model after its Cast"
        )
    shown = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    sizes = [max(0, dim.dim_value) for dim in tensor.shape.dim]
    if len(sizes) not in (2, 4) or sizes[0] > 1:
        wanted = "[1 or symbolic, height, width, channels], its NCHW form, or [1 or symbolic, channels]"
        raise InvalidInputError(f"input {value.name}: expected {wanted}, got {shown}")
    if 0 in sizes[1:]:
        raise InvalidInputError(
            f"input {value.name}: expected fixed sizes after the batch, got {shown}; "
            "export the model with a fixed height, width and channel count"
        )
    return sizes


def _input_layout(name: str, nodes: Sequence[NodeProto]) -> str:
    """NHWC where the input meets a Transpose to NCHW before anything that needs a layout, else NCHW."""
    names = {name}
    for node in nodes:
        if names.intersection(node.input):
            if node.op_type == "Transpose":
                return "nhwc" if attributes(node).get("perm") == [0, 3, 1, 2] else "nchw"
            if node.op_type in _PASSING:
                names.update(node.output)
    return "nchw"
