"""Variables to constants: their values come out of a session, and whatever read them reads constants."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from amlrealtimeai.convert.functions import CALLS, IFS, WHILES, add_function, body_of, inline
from amlrealtimeai.convert.graph import (
    LOOP_OPS,
    Graph,
    node_name,
    rewire,
    set_constant,
    set_identity,
    set_placeholder,
    tensor_name,
)
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.errors import ConversionError, InvalidInputError

_HANDLES = ("VarHandleOp",)
_REFERENCES = ("VariableV2", "Variable")
_WRITERS = re.compile(
    r"Assign(Add|Sub)?(VariableOp)?|CountUpTo|Scatter(Nd)?(Add|Sub|Update|Mul|Div|Min|Max)"
    r"|(Sparse)?Apply\w+|Resource(Apply|SparseApply|Scatter|CountUpTo|StridedSliceAssign)\w*|StridedSliceAssign"
)
_PASSING = {"Identity", "Switch", "Merge", "Enter", "Exit", "NextIteration", "StopGradient", "IdentityN"}


def freeze(session: Any, graph: Graph, outputs: Sequence[str]) -> Graph:
    """What `outputs` need of `graph`, with the session's variable values as constants.

    Raises ConversionError for variables that have no value, or that are written on the way to the outputs.
    """
    names = graph.ancestors(outputs)
    _require_unwritten(graph, names, outputs)
    loops = any(graph.nodes[name].op in LOOP_OPS for name in names)
    if loops:  # whose frames control inputs tell
        names = graph.ancestors(outputs, control=True)
    values = _values(session, graph, names, outputs)
    weights: dict[str, np.ndarray] = {}
    frozen = type(graph.graph_def)()
    frozen.versions.CopyFrom(graph.graph_def.versions)
    frozen.library.CopyFrom(graph.graph_def.library)
    for name in names:
        node = frozen.node.add()
        node.CopyFrom(graph.nodes[name])
        node.attr.pop("_class", None)
        if not loops:
            node.input[:] = [source for source in node.input if not source.startswith("^")]
        if name in values:
            set_constant(node, values[name], weights)
    result = Graph(frozen, copy=False, weights=weights)
    _Reading(result, outputs, graph.shape).replace(
        {tensor_name(name): _Kind.of(value) for name, value in values.items()}
    )
    return result.pruned(outputs)


class _Kind(NamedTuple):
    """Of a variable's value: the number of its tf.DType, and its shape."""

    dtype: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, value: np.ndarray) -> "_Kind":
        """The kind of an array."""
        dtype = tensorflow().as_dtype(value.dtype if value.dtype != object else "string")
        return cls(dtype.as_datatype_enum, value.shape)


def _require_unwritten(graph: Graph, names: list[str], outputs: Sequence[str]) -> None:
    """A write that only control inputs lead to is dropped, unless what it writes is read."""
    read = {name for name in names if graph.nodes[name].op in (*_HANDLES, *_REFERENCES)}
    for name in graph.ancestors(outputs, control=True):
        node = graph.nodes[name]
        if _WRITERS.fullmatch(node.op) and (name in set(names) or read & set(graph.ancestors(graph.inputs(node)[:1]))):
            raise ConversionError(
                f"node {name!r} ({node.op}) writes a variable that the outputs read; expected variables that are only "
                "read. Export the graph for inference, without training ops on the way to the outputs."
            )


def _named(text: str) -> str:
    """What TensorFlow's error calls the variable, else its first line."""
    found = re.search(r"(?:Could not find variable|uninitialized value) ([\w/.-]+?)\.?(?:\s|$)", text)
    return found[1] if found else text.partition("\n")[0]


def _values(session: Any, graph: Graph, names: list[str], outputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Value of every variable node among `names`."""
    tf = tensorflow()
    with session.graph.as_default(), tf.control_dependencies(None):
        fetch = {name: _value_tensor(session.graph, graph.nodes[name]) for name in names if _is_variable(graph, name)}
    try:
        found = session.run(fetch) if fetch else {}
    except tf.errors.FailedPreconditionError as error:
        raise ConversionError(
            f"a variable on the way to {outputs[0]!r} has no value in this session ({_named(str(error))}). "
            "Initialise it or call restore_weights(session), and pass that session"
        ) from error
    return {name: np.asarray(value) for name, value in found.items()}


def _is_variable(graph: Graph, name: str) -> bool:
    return graph.nodes[name].op in (*_HANDLES, *_REFERENCES)


def _value_tensor(tf_graph: Any, node: Any) -> Any:
    """A tensor of the session's graph that holds the variable's value whatever else is fed or has run.

    Other reads wait for an assignment (load_weights) or sit in a branch: they would ask for its placeholders.
    """
    variable = tf_graph.get_tensor_by_name(tensor_name(node.name))
    if node.op not in _HANDLES:
        return variable
    for operation in variable.consumers():
        if operation.type == "ReadVariableOp" and not operation.control_inputs:
            return operation.outputs[0]
    if tf_graph.finalized:
        raise InvalidInputError(
            f"the session's graph is finalized, and the variable {node.name!r} has no read of its own in it; "
            "convert before the graph is finalized, or export a SavedModel and convert that"
        )
    return tensorflow().raw_ops.ReadVariableOp(resource=variable, dtype=node.attr["dtype"].type)


_Shape = list[int | None]


class _Reading:
    """Makes what reads variables in `graph` read constants, in functions as well.

    shape_of: tells the shapes of the tensors, which the graph itself cannot tell while it is edited.
    """

    def __init__(self, graph: Graph, outputs: Sequence[str], shape_of: Callable[[str], _Shape | None]) -> None:
        self.graph, self.outputs, self.shape_of = graph, outputs, shape_of

    def replace(self, held: dict[str, _Kind]) -> None:
        """Edit the graph. held: tensors that were variables, with the kind of their values."""
        for name in self.graph.ancestors(self.outputs):
            node = self.graph.nodes[name]
            kinds = [held.get(tensor) for tensor in self.graph.inputs(node)]
            node.op = node.op.removeprefix("Ref") if node.op.startswith("Ref") else node.op
            if node.op in (*IFS, *WHILES):
                held |= self._call(node, kinds)
            elif node.op != "Const" and any(kinds):
                held |= self._node(node, kinds)
        self.graph.changed()

    def _node(self, node: Any, kinds: Sequence[_Kind | None]) -> dict[str, _Kind]:
        first = next(kind for kind in kinds if kind)
        if node.op == "IdentityN":
            for index, kind in enumerate(kinds):
                if kind:
                    node.attr["T"].list.type[index] = kind.dtype
            node.attr.pop("_output_shapes", None)
            return {f"{node.name}:{index}": kind for index, kind in enumerate(kinds) if kind}
        if node.op in _PASSING:
            if node.attr["T"].type != first.dtype:
                node.attr["T"].type = first.dtype
                node.attr.pop("_output_shapes", None)
            return {f"{node.name}:{port}": first for port in range(2 if node.op == "Switch" else 1)}
        if node.op == "ReadVariableOp":
            set_identity(node, first.dtype)
        elif node.op == "ResourceGather":
            self._gather(node, first.dtype)
        elif node.op == "VariableShape":
            node.op = "Shape"
            node.attr["T"].type = first.dtype
        elif node.op.endswith("VariableOp") or "resource" in node.op.lower():
            raise ConversionError(
                f"node {node.name!r} ({node.op}) uses a variable by reference; expected variables that are only read. "
                "Export the graph for inference, without training ops on the way to the outputs."
            )
        return {}

    def _gather(self, node: Any, kind: int) -> None:
        tf = tensorflow()
        axis = self.graph.graph_def.node.add(name=f"{node.name}/axis")
        set_constant(axis, np.asarray(node.attr["batch_dims"].i, np.int32))
        self.graph.nodes[axis.name] = axis
        node.op = "GatherV2"
        node.input.append(axis.name)
        node.attr["Tparams"].type, node.attr["Taxis"].type = kind, tf.int32.as_datatype_enum
        for name in ("dtype", "validate_indices"):
            node.attr.pop(name, None)

    def _call(self, node: Any, kinds: Sequence[_Kind | None]) -> dict[str, _Kind]:
        """An If or While: its functions take values in the place of variables, and give only results that are used."""
        loop = node.op in WHILES
        kinds = kinds if loop else kinds[1:]
        types = node.attr["T" if loop else "Tin"].list
        for index, kind in enumerate(kinds):
            if kind:
                types.type[index] = kind.dtype
        results = len(types.type) if loop else self._used(node)
        if not loop:
            del node.attr["Tout"].list.type[results:]
            del node.attr["output_shapes"].list.shape[results:]
        given = {index: kind for index, kind in enumerate(kinds) if kind}
        # those of a loop's parameters may change from turn to turn
        shapes = [] if loop else [self.shape_of(tensor) for tensor in self.graph.inputs(node)[1:]]
        for key in ("cond", "body") if loop else ("then_branch", "else_branch"):
            name = node.attr[key].func.name
            node.attr[key].func.name = _specialise(self.graph, name, given, shapes, 1 if key == "cond" else results)
        if any(kinds) or not loop:
            node.attr.pop("_output_shapes", None)
        if loop:
            for index, kind in enumerate(kinds):
                if kind and index < len(node.attr["output_shapes"].list.shape):
                    node.attr["output_shapes"].list.shape[index].CopyFrom(tensorflow().TensorShape(None).as_proto())
            return {f"{node.name}:{index}": kind for index, kind in enumerate(kinds) if kind}
        return {}

    def _used(self, node: Any) -> int:
        """How many of an If's results are used: those behind the last used one exist for gradients only."""
        read = [tensor for reader in self.graph.nodes.values() for tensor in self.graph.inputs(reader)]
        used = [int(t.split(":")[1]) for t in (*read, *self.outputs) if node_name(t) == node.name]
        return 1 + max(used, default=0)


def _specialise(
    graph: Graph, name: str, given: Mapping[int, _Kind], shapes: Sequence[_Shape | None], results: int
) -> str:
    """Name of a function like `name` whose parameters `given` are values of these kinds, with so many results."""
    body, parameters, returned = body_of(graph, name)
    returned = returned[:results]
    body = _inlined(body, returned)
    for index, shape in enumerate(shapes):
        node = body.nodes[node_name(parameters[index])]
        if index not in given and shape is not None:
            node.attr["shape"].shape.CopyFrom(tensorflow().TensorShape(shape).as_proto())
    before = Graph(body.graph_def)
    for index, kind in given.items():
        set_placeholder(body.nodes[node_name(parameters[index])], kind.dtype, kind.shape)
    for node in body.graph_def.node:
        node.input[:] = [source for source in node.input if not source.startswith("^")]
    _Reading(body, returned, before.shape).replace({parameters[index]: kind for index, kind in given.items()})
    known = _ensure_shapes(body, parameters[: len(shapes)])
    taken = {f.signature.name for f in graph.graph_def.library.function}
    special = next(n for i in range(len(taken) + 2) if (n := f"{name}_values_{i}") not in taken)
    add_function(graph, special, body, parameters, [known.get(tensor, tensor) for tensor in returned])
    return special


def _ensure_shapes(body: Graph, parameters: Sequence[str]) -> dict[str, str]:
    """Write the shapes of an If's parameters into its body, since tf2onnx gives each the shape of its neighbour.

    Returns parameter -> tensor of known shape, which all nodes read now.
    """
    shapes = {tensor: body.tensor(tensor).shape.as_proto() for tensor in parameters}
    known = {tensor: f"{node_name(tensor)}/known:0" for tensor in parameters}
    rewire(body, lambda source: known.get(source, source))
    for tensor, shape in shapes.items():
        node = body.graph_def.node.add(name=node_name(known[tensor]), op="EnsureShape", input=[node_name(tensor)])
        node.attr["T"].type = body.nodes[node_name(tensor)].attr["dtype"].type
        node.attr["shape"].shape.CopyFrom(shape)
        body.nodes[node.name] = node
    return known


def _inlined(body: Graph, returned: Iterable[str]) -> Graph:
    wanted = list(returned)
    while calls := {n: body.nodes[n].attr["f"].func.name for n in body.ancestors(wanted) if body.nodes[n].op in CALLS}:
        body = inline(body, calls, wanted)
    return body
