"""Reads an ONNX graph: its checks, its constants, its one input."""

import difflib
import itertools
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from amlrealtimeai.errors import InvalidInputError, NotFoundError, UnsupportedError
from amlrealtimeai.npu.lowering.nested import copied, inlined, inside, rename_values, with_captured
from amlrealtimeai.npu.validation import LARGEST_TENSOR, check_name

_SMALL_CONSTANT = 64  # elements; larger ones are no shapes
_LARGEST_OPSET = 2**31 - 1  # onnx's own functions take an int
_LARGEST_CONSTANT = 2**27  # elements of a constant that is computed here
_UNREPEATABLE = ("RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout")


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
        told = f"cannot read {path} as an ONNX model with its external data: {error}"
        raise InvalidInputError(f"{told}. Such data has to lie in the folder of the model") from error


def check_single(graph: GraphProto) -> None:
    """Raise InvalidInputError where two inputs or two constants have the same name."""
    constants = [*(t.name for t in graph.initializer), *(t.values.name for t in graph.sparse_initializer)]
    for kind, names in (("inputs", [value.name for value in graph.input]), ("constants", constants)):
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise InvalidInputError(f"two {kind} of the model have the name {repeated[0]!r}; expected different names")


def check_loaded(tensor: TensorProto) -> None:
    """Raise InvalidInputError where the data of a constant are elsewhere."""
    if tensor.data_location == TensorProto.EXTERNAL and not tensor.HasField("raw_data"):
        raise InvalidInputError(
            f"the data of constant {tensor.name} is in another file that was not loaded; "
            "give the path of the model, or load it with onnx.load(path)"
        )


def opset(model: ModelProto) -> int:
    """The version of ONNX's own operations that the model uses. Raises InvalidInputError."""
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if not 1 <= version <= _LARGEST_OPSET:
        raise InvalidInputError(f"expected an opset of ONNX, 1 or more, got {version} in the model's opset_import")
    return version


def attributes(node: NodeProto) -> dict[str, Any]:
    """The node's attributes by name; strings as str."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.type != AttributeProto.GRAPH}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def check_nodes(nodes: Sequence[NodeProto], opset: int) -> None:
    """Raise InvalidInputError where a node is not what ONNX says of its operation in that opset."""
    for node in nodes:
        problem = _contradiction(node, opset) if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type) else ""
        if problem:
            raise invalid(node, problem)


def _contradiction(node: NodeProto, opset: int) -> str:
    """What ONNX's definition of the operation in that opset does not allow of the node; empty where it allows all."""
    if not onnx.defs.has(node.op_type, max_inclusive_version=opset):
        return f"its operation is newer than the model's opset {opset}"
    schema = onnx.defs.get_schema(node.op_type, opset)
    if schema.deprecated:
        return f"its operation is gone since opset {schema.since_version}, the model's is {opset}"
    for what, count, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            return f"it has {count} {what}, expected {least if count < least else f'at most {most}'} in opset {opset}"
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, known in schema.attributes.items():
        if known.required and name not in given:
            return f"its attribute {name} is missing"
    for name, attribute in given.items():
        if name not in schema.attributes and not name.startswith("__"):
            return f"opset {opset} knows no attribute {name}, expected {', '.join(sorted(schema.attributes)) or 'none'}"
        found = AttributeProto.AttributeType.Name(attribute.type)
        wanted = schema.attributes[name].type.name if name in schema.attributes else found
        if found != wanted:
            return f"its attribute {name} is {found}, expected {wanted}"
        if not np.isfinite(attribute.f) and (np.isnan(attribute.f) or node.op_type != "Clip"):
            return f"its attribute {name} is {attribute.f}"
    return ""


def label(node: NodeProto) -> str:
    """The node's name, or that of its first output where it has none."""
    return node.name or next((name for name in node.output if name), "without a name")


def places(node: NodeProto, axes: Sequence[int], rank: int, repeated: bool = False) -> list[int]:
    """Axes counted from 0 where some are counted from the end; each may occur once, or be `repeated`.

    Raises InvalidInputError.
    """
    found = [axis + rank if axis < 0 else axis for axis in axes]
    if (len(set(found)) != len(found) and not repeated) or any(not 0 <= axis < rank for axis in found):
        raise invalid(node, f"it names the axes {list(axes)} of {rank}")
    return found


class Refusal(UnsupportedError):
    """A node that the NPU cannot run: why, and the nearest that it can."""

    def __init__(self, problem: str, nearest: str) -> None:
        super().__init__(f"{problem}. Supported: {nearest}.")
        self.problem, self.nearest = problem, nearest


class UnknownValueError(Exception):
    """A node reads what a node before it, which the NPU cannot run, would have made; nothing can be said of it."""


def invalid(node: NodeProto, problem: str) -> InvalidInputError:
    """The error for a node that is no ONNX, or that computes nothing finite."""
    return InvalidInputError(f"node {label(node)} ({node.op_type}): {problem}")


class Graph:
    """The part of an ONNX graph that its outputs need: nodes in order, constants, the input."""

    def __init__(self, model: ModelProto, outputs: Sequence[str] | None = None) -> None:
        model = inlined(model)
        graph = self._graph = model.graph
        check_single(graph)
        self.outputs = output_names(graph, outputs)
        self.opset = opset(model)
        self._imports = list(model.opset_import)
        check_nodes(graph.node, self.opset)
        nodes, needed = needed_nodes([with_captured(node) for node in graph.node], self.outputs)
        # copies, because any part of a protobuf message keeps all of it in memory
        self.nodes = [copied(node) for node in nodes]
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._constants: dict[str, np.ndarray] = {}
        # constants made from the sizes of values: where they say 1 of the batch, it may be any
        self._from_sizes: set[str] = set()
        self._sparse = {tensor.values.name for tensor in graph.sparse_initializer}
        inputs = [value for value in graph.input if value.name not in self._initializers and value.name in needed]
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise InvalidInputError(f"expected one graph input that the outputs depend on, got {len(inputs)}: {names}")
        self.input, self.input_sizes = inputs[0].name, _input_sizes(inputs[0])
        for name in (*needed, *self.outputs, *(label(node) for node in self.nodes)):
            check_name(name)
        inner = list(inside(graph.node))
        self.names = {*needed, *(name for node in (*graph.node, *inner) for name in node.output), *self.outputs}
        self.read = needed.union(name for node in inner for name in node.input)

    def release(self) -> None:
        """Let go of the model, which holds every weight once more than `constant`; only what was read remains."""
        self._graph, self._initializers = GraphProto(), {}

    def maker(self, name: str) -> NodeProto:
        """The node that writes the value."""
        return next(node for node in self.nodes if name in node.output)

    def constant(self, name: str) -> np.ndarray | None:
        """The constant of that name, or None where the value depends on the input."""
        if name in self._sparse:
            raise Refusal(f"its constant {name} is sparse", "dense initializers")
        if name not in self._constants and name in self._initializers:
            tensor = self._initializers[name]
            check_loaded(tensor)
            self._constants[name] = numpy_helper.to_array(tensor)
        return self._constants.get(name)

    def fold(self, node: NodeProto) -> bool:
        """Evaluate a node whose inputs are all constant; False where it is none."""
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant":
            values = attributes(node)
            sparse = "sparse_value" in values
            if sparse or len(values) != 1:
                raise Refusal("expected one dense value", "Constant with value")
            value = next(iter(values.values()))
            array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
            self._constants[node.output[0]] = array.astype(np.float32) if array.dtype == np.float64 else array
            return True
        if node.output and all(name in self._constants for name in node.output if name):
            return True
        constants = [self.constant(name) for name in inputs]
        if node.op_type == "CastLike" and constants[0] is not None and constants[1] is None:
            self._constants[node.output[0]] = constants[0].astype(np.float32)  # as all that varies
            return True
        if not inputs or any(constant is None for constant in constants):
            return False
        subgraphs = any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)
        if node.op_type in _UNREPEATABLE or subgraphs:
            raise Refusal("it works on constants only", "constants folded before (onnxsim, tf2onnx)")
        feeds = {name: value for name, value in zip(inputs, constants, strict=True) if value is not None}
        for name, result in zip(node.output, self._evaluate(node, feeds), strict=False):
            self._constants[name] = np.asarray(result)
        if self._from_sizes.intersection(inputs):
            self._from_sizes.update(node.output)
        return True

    def branch(self, node: NodeProto) -> list[NodeProto] | None:
        """The nodes in whose place an If with a constant condition stands; None for other nodes."""
        condition = self.constant(node.input[0]) if node.op_type == "If" and not node.domain else None
        if condition is None:
            return None
        chosen = "then_branch" if condition.reshape(-1)[0] else "else_branch"
        (given,) = (attribute.g for attribute in node.attribute if attribute.name == chosen)
        check_nodes(given.node, self.opset)
        body = GraphProto()
        body.CopyFrom(given)
        self._rename(body, label(node))
        self._initializers |= {tensor.name: tensor for tensor in body.initializer}
        results = zip(node.output, body.output, strict=True)
        passed = [helper.make_node("Identity", [r.name], [name], label(node)) for name, r in results if name]
        return [*(with_captured(inner) for inner in body.node), *passed]

    def _rename(self, body: GraphProto, owner: str) -> None:
        """Let the values of a branch have names that no others have: those of two branches may be the same."""
        made = [tensor.name for tensor in body.initializer]
        made += [name for node in body.node for name in node.output if name]
        names = {}
        for name in made:
            options = (f"{owner}/{name}" + (f"/{number}" if number else "") for number in itertools.count())
            names[name] = next(option for option in options if option not in self.names)
            self.names.add(names[name])
        rename_values(body, names)

    def fixes_batch(self, node: NodeProto, number: int) -> bool:
        """Whether the number that the node has for the batch in that input is the model's own, and the batch is not."""
        computed = number < len(node.input) and node.input[number] in self._from_sizes
        return self.input_sizes[0] == 0 and not computed

    def _evaluate(self, node: NodeProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The results of a node on constants, by onnx's reference evaluator."""
        from onnx.reference import ReferenceEvaluator

        tensors = [numpy_helper.from_array(v, name) for name, v in feeds.items() if v.size <= _SMALL_CONSTANT]
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for name, v in feeds.items()
        ]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        imports = [helper.make_opsetid("", self.opset)]
        graph = helper.make_graph([node], "constant", inputs, outputs, tensors)
        inferred = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=imports), data_prop=True)
        sizes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in inferred.graph.output]
        if any(np.prod(shape, dtype=float) > _LARGEST_CONSTANT for shape in sizes):
            raise Refusal(f"it makes a constant of shape {sizes[0]}", f"at most {_LARGEST_CONSTANT} values")
        del graph.initializer[:]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            # onnx evaluates these from opset 19 on, which means the same for what older ones can say
            imports = [helper.make_opsetid("", max(19, self.opset))]
        try:
            with np.errstate(all="ignore"):
                return list(ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, feeds))
        except Exception as error:  # whatever the operation's implementation raises
            problem = f"it works on constants only and cannot be evaluated ({type(error).__name__}: {error})"
            raise Refusal(problem, "constants folded before (onnxsim, tf2onnx)") from error

    @cached_property
    def inferred_shapes(self) -> dict[str, list[int]]:
        """Sizes of the values whose shapes ONNX can infer; a symbolic size is 0."""
        shaped = [v for v in inferred(self._graph, self.nodes, self._imports) if v.type.tensor_type.HasField("shape")]
        return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in shaped}

    def fold_shape(self, node: NodeProto, sizes: list[int]) -> None:
        """Evaluate a Shape node of a value of those sizes."""
        given = attributes(node)
        self._constants[node.output[0]] = np.array(sizes, np.int64)[given.get("start", 0) : given.get("end")]
        self._from_sizes.add(node.output[0])


def inferred(
    graph: GraphProto, nodes: Sequence[NodeProto], imports: Sequence[onnx.OperatorSetIdProto]
) -> list[onnx.ValueInfoProto]:
    """The values, inputs among them, of whose types and shapes ONNX knows something; without looking at large data."""
    light = onnx.GraphProto(name="shapes", input=graph.input, output=graph.output)
    light.node.extend(nodes)
    named = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if np.prod(tensor.dims, dtype=float) <= _SMALL_CONSTANT:
            light.initializer.append(tensor)
        if tensor.name not in named:
            light.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    known = {o.domain for o in imports}
    domains = {node.domain for node in nodes} - {"", "ai.onnx"} - known
    model = helper.make_model(light, opset_imports=[*imports, *(helper.make_opsetid(d, 1) for d in domains)])
    try:
        light = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # onnx raises several kinds; without shapes less can be said of what follows
        return list(graph.input)
    return [v for v in (*light.input, *light.value_info, *light.output) if v.type.tensor_type.elem_type]


def output_names(graph: GraphProto, wanted: Sequence[str] | None) -> list[str]:
    """The names of the graph's outputs, or `wanted`, each of which some node has to write. Raises InvalidInputError."""
    if not graph.node or not (graph.output or wanted):
        raise InvalidInputError(f"expected a graph with nodes and outputs, got an empty one ({graph.name!r})")
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


def needed_nodes(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> tuple[list[NodeProto], set[str]]:
    """The nodes that `outputs` depend on, each after those that it reads, and the names of all values on the way."""
    makers: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in node.output:
            if name in makers:
                raise InvalidInputError(
                    f"value {name} is written by two nodes: {label(nodes[makers[name]])}, {label(node)}"
                )
            makers |= {name: number} if name else {}
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
    if not 2 <= len(sizes) <= 4 or sizes[0] > 1:
        wanted = (
            "[1 or symbolic, height, width, channels], its NCHW form, [1 or symbolic, height, width] or [., channels]"
        )
        raise InvalidInputError(f"input {value.name}: expected {wanted}, got {shown}")
    if prod(sizes[1:]) > LARGEST_TENSOR:
        raise InvalidInputError(f"input {value.name}: expected at most {LARGEST_TENSOR} values, got {shown}")
    if 0 in sizes[1:]:
        raise InvalidInputError(
            f"input {value.name}: expected fixed sizes after the batch, got {shown}; "
            "export the model with a fixed height, width and channel count"
        )
    return sizes
