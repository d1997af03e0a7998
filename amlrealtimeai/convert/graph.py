"""A frozen TensorFlow graph as plain nodes: who feeds whom, cutting, rewiring, folding of constants."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.errors import ConversionError

ALIAS_OPS = frozenset({"Identity", "StopGradient", "Snapshot", "PreventGradient", "CheckNumerics", "EnsureShape"})
LOOP_OPS = frozenset({"Enter", "RefEnter", "Exit", "NextIteration", "LoopCond"})
_NEVER_CONSTANT = LOOP_OPS | {
    "Placeholder",
    "PlaceholderV2",
    "PlaceholderWithDefault",
    "Switch",
    "Merge",
    "VarHandleOp",
}
_LARGE = 1 << 16  # bytes
_STATEFUL = re.compile(
    r"TensorList|Random|Multinomial|TruncatedNormal|Queue|Iterator|HashTable|PyFunc|Print|Assert|NoOp|Variable"
)
_QUANTISER_END = re.compile(r"^(?P<scope>(?:.*/)?bfp_quantize(?:_\d+)?)/output$")


def tensor_name(name: str) -> str:
    """Canonical tensor name: "a" and "a:0" are both "a:0"."""
    return name if ":" in name else f"{name}:0"


def node_name(tensor: str) -> str:
    """Name of the node that makes `tensor`."""
    return tensor.removeprefix("^").split(":", 1)[0]


class Graph:
    """Nodes of one GraphDef by name; edits change this copy only.

    Shapes that were set from Python stand in the nodes' attribute "_output_shapes", which imports read: see learned().
    weights: values of large constants by node name, which the GraphDef does not hold. All copies of a graph share them:
    those of VGG-16 take 550 MB.
    """

    def __init__(self, graph_def: Any, copy: bool = True, weights: Mapping[str, np.ndarray] | None = None):
        self.graph_def = type(graph_def)() if copy else graph_def
        if copy:
            self.graph_def.CopyFrom(graph_def)
        self.nodes: dict[str, Any] = {node.name: node for node in self.graph_def.node}
        self.weights = weights or {}
        self._tf_graph: Any = None
        self._functions: Any = None

    @classmethod
    def learned(cls, tf_graph: Any) -> "Graph":
        """The nodes of a tf.Graph, with the shapes that it knows; those set from Python would be lost else."""
        return cls(tf_graph.as_graph_def(add_shapes=True), copy=False)

    def changed(self) -> None:
        """Forget what was derived from the nodes; to be called after they were edited."""
        self._tf_graph = self._functions = None

    def inputs(self, node: Any) -> list[str]:
        """Data inputs of `node` as canonical tensor names; control inputs are left out."""
        return [tensor_name(name) for name in node.input if not name.startswith("^")]

    def tensor(self, tensor: str) -> Any:
        """The tf.Tensor of that name, for its shape and dtype."""
        return self.tf_graph().get_tensor_by_name(tensor)

    def tf_graph(self) -> Any:
        """The tf.Graph of these nodes, imported once; `weights` are placeholders in it, which `run` feeds."""
        if self._tf_graph is None:
            graph_def = type(self.graph_def)()
            graph_def.CopyFrom(self.graph_def)
            for node in graph_def.node:
                if node.name in self.weights:
                    set_placeholder(node, node.attr["dtype"].type, self.weights[node.name].shape)
            self._tf_graph = _imported(graph_def)
        return self._tf_graph

    def functions(self) -> Any:
        """A tf.Graph that has the library's functions and no nodes."""
        if self._functions is None:
            self._functions = _imported(type(self.graph_def)(library=self.graph_def.library))
        return self._functions

    def as_graph_def(self) -> Any:
        """A GraphDef that holds all values, `weights` as well."""
        whole = type(self.graph_def)()
        whole.CopyFrom(self.graph_def)
        for node in whole.node:
            if node.name in self.weights:
                set_constant(node, self.weights[node.name])
        return whole

    def run(self, tensors: Sequence[str], feed: Mapping[str, np.ndarray] | None = None) -> list[np.ndarray]:
        """TensorFlow's values of `tensors`; `feed` gives values to tensors by name. Raises tf.errors.OpError."""
        tf = tensorflow()
        given = dict(feed or {})
        needed = self.ancestors(tensors, stop=given, control=True)
        given |= {tensor_name(name): self.weights[name] for name in needed if name in self.weights}
        with tf.compat.v1.Session(graph=self.tf_graph(), config=session_config()) as session:
            return [np.asarray(value) for value in session.run(list(tensors), given)]

    def shape(self, tensor: str) -> list[int | None] | None:
        """Static shape, None for unknown dimensions; None when even the rank is unknown."""
        shape = self.tensor(tensor).shape
        return None if shape.rank is None else list(shape.as_list())

    def ancestors(self, tensors: Iterable[str], stop: Iterable[str] = (), control: bool = False) -> list[str]:
        """Names of the nodes that `tensors` need, inputs first; `stop` tensors count as given."""
        given = set(stop)
        order: list[str] = []
        seen: set[str] = set()
        stack = [(node_name(tensor), False) for tensor in reversed([t for t in tensors if t not in given])]
        while stack:
            name, done = stack.pop()
            if done:
                order.append(name)
                continue
            if name in seen or name not in self.nodes:
                continue
            seen.add(name)
            stack.append((name, True))
            for source in reversed(self.nodes[name].input):
                if source.startswith("^") and not control:
                    continue
                if given and tensor_name(source.removeprefix("^")) in given:
                    continue
                stack.append((node_name(source), False))
        return order

    def pruned(self, outputs: Iterable[str]) -> "Graph":
        """The part that `outputs` need."""
        kept = type(self.graph_def)()
        kept.versions.CopyFrom(self.graph_def.versions)
        kept.library.CopyFrom(self.graph_def.library)
        kept.node.extend(self.nodes[name] for name in self.ancestors(outputs, control=True))
        return Graph(kept, copy=False, weights=self.weights)

    def resolve(self, tensor: str, stop: Iterable[str] = ()) -> str:
        """Follow Identity-like nodes back to the tensor that carries the same value; `stop` tensors end the walk."""
        ends = set(stop)
        while tensor not in ends:
            node = self.nodes[node_name(tensor)]
            if node.op in ALIAS_OPS:
                tensor = self.inputs(node)[0]
            elif node.op == "IdentityN":
                tensor = self.inputs(node)[int(tensor.split(":")[1])]
            else:
                break
        return tensor

    def constants(self, names: Iterable[str], given: Iterable[str] = ()) -> set[str]:
        """Those of `names` (inputs first) whose value depends on constants only; the nodes `given` count as such."""
        known: set[str] = set(given)
        for name in names:
            node = self.nodes[name]
            if node.op == "Const" or (
                node.input
                and node.op not in _NEVER_CONSTANT
                and not _STATEFUL.search(node.op)
                and all(node_name(source) in known for source in self.inputs(node))
                and self.inputs(node)
            ):
                known.add(name)
        return known

    def value(self, name: str) -> np.ndarray:
        """Value of the Const node of that name."""
        if name in self.weights:
            return self.weights[name]
        return tensorflow().make_ndarray(self.nodes[name].attr["value"].tensor)

    def known_value(self, tensor: str) -> np.ndarray | None:
        """What the tensor is for any batch; None where it depends on more than constants and fixed sizes."""
        if self.nodes[node_name(self.resolve(tensor))].op == "Const":
            return self.value(node_name(self.resolve(tensor)))
        sized = [name for name in self.ancestors([tensor]) if self.nodes[name].op == "Shape"]
        names = self.ancestors([tensor], stop=map(tensor_name, sized))
        sizes = {tensor_name(name): self.shape(self.inputs(self.nodes[name])[0]) for name in sized}
        fixed = all(known is not None and None not in known[1:] for known in sizes.values())
        if not fixed or node_name(tensor) not in self.constants(names, sized):
            return None
        values = []
        for batch in (1, 2) if sizes else (1,):
            feed = {name: np.asarray([n or batch for n in known or []], np.int32) for name, known in sizes.items()}
            values += self.run([tensor], feed)
        return values[0] if np.array_equal(values[0], values[-1]) else None

    def evaluate(self, tensors: Iterable[str]) -> dict[str, np.ndarray]:
        """Node name -> value of constant tensors (:0); those that only pass a Const on need no session."""
        values: dict[str, np.ndarray] = {}
        fetch: list[str] = []
        for tensor in sorted(tensors):
            source = self.nodes[node_name(self.resolve(tensor))]
            if source.op == "Const":
                values[node_name(tensor)] = self.value(source.name)
            else:
                fetch.append(tensor)
        if fetch:
            values |= zip(map(node_name, fetch), self.run(fetch), strict=True)
        return values


def set_constant(node: Any, value: np.ndarray, weights: dict[str, np.ndarray] | None = None) -> None:
    """Turn `node` into a Const with that value, which goes to `weights` instead if they are given and it is large."""
    tf = tensorflow()
    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = tf.as_dtype(value.dtype if value.dtype != object else tf.string).as_datatype_enum
    if weights is not None and value.nbytes > _LARGE and value.dtype != object:
        weights[node.name] = value
    else:
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def set_identity(node: Any, dtype: int) -> None:
    """Turn `node` into an Identity of its inputs; dtype: number of a tf.DType. What is known of its shape stays."""
    shapes = list(node.attr["_output_shapes"].list.shape[:1])
    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].type = dtype
    if shapes:
        node.attr["_output_shapes"].list.shape.extend(shapes)


def set_placeholder(node: Any, dtype: int, shape: Sequence[int | None] | None) -> None:
    """Turn `node` into a Placeholder; dtype: number of a tf.DType."""
    node.op = "Placeholder"
    node.attr.clear()
    node.attr["dtype"].type = dtype
    node.attr["shape"].shape.CopyFrom(tensorflow().TensorShape(shape).as_proto())


def rewire(graph: Graph, target: Callable[[str], str]) -> None:
    """Replace every data input by `target(input)`."""
    for node in graph.graph_def.node:
        for index, name in enumerate(node.input):
            if not name.startswith("^"):
                new = target(tensor_name(name))
                if new != tensor_name(name):
                    node.input[index] = new.removesuffix(":0")
    graph.changed()


def is_quantiser(name: str) -> bool:
    """Whether the node ends a quantiser of accel.models."""
    return _QUANTISER_END.match(name) is not None


def drop_quantisers(graph: Graph, outputs: Iterable[str]) -> tuple[Graph, int]:
    """What `outputs` need when every "<scope>/bfp_quantize" passes its input through, and how many there were."""
    bypass: dict[str, str] = {}
    for name in graph.nodes:
        match = _QUANTISER_END.match(name)
        if match is None:
            continue
        start = graph.nodes.get(f"{match['scope']}/input")
        if start is None or not graph.inputs(start):
            raise ConversionError(
                f"the quantiser scope {match['scope']!r} has an output but no node {match['scope']}/input; "
                "expected both ends, as accel.models writes them. Export the model again."
            )
        bypass[tensor_name(name)] = graph.inputs(start)[0]
    if not bypass:
        return graph, 0
    float_graph = Graph(graph.graph_def, weights=graph.weights)

    def target(tensor: str) -> str:
        while tensor in bypass:
            tensor = bypass[tensor]
        return tensor

    rewire(float_graph, target)
    return float_graph.pruned(outputs), len(bypass)


def subgraph(
    graph: Graph,
    inputs: Mapping[str, list[int | None] | None],
    outputs: Iterable[str],
) -> tuple[Graph, dict[str, str]]:
    """What lies between `inputs` (tensor -> shape) and `outputs`, with constants folded.

    Every input becomes a Placeholder of the given shape. Returns the graph and the names that the inputs have in it
    (their own, except for outputs other than :0 of a node).
    """
    names = graph.ancestors(outputs, stop=inputs)
    keep_control = any(graph.nodes[name].op in LOOP_OPS for name in names)
    if keep_control:
        names = graph.ancestors(outputs, stop=inputs, control=True)
    folded, needed = _fold(graph, names, outputs)
    renamed = {t: t if t.endswith(":0") else tensor_name(t.replace(":", "_output_")) for t in inputs}
    weights = dict(graph.weights)
    result = type(graph.graph_def)()
    result.versions.CopyFrom(graph.graph_def.versions)
    result.library.CopyFrom(_library(graph, [name for name in names if name in needed and name not in folded]))
    for tensor, shape in inputs.items():
        node = result.node.add(name=node_name(renamed[tensor]))
        set_placeholder(node, graph.tensor(tensor).dtype.as_datatype_enum, shape)
    for name in names:
        if name not in needed or tensor_name(name) in inputs:
            continue
        node = result.node.add()
        if name in folded:
            node.name = name
            set_constant(node, folded[name], weights)
            continue
        node.CopyFrom(graph.nodes[name])
        sources = [s for s in node.input if keep_control or not s.startswith("^")]
        del node.input[:]
        node.input.extend(s if s.startswith("^") else renamed.get(tensor_name(s), s) for s in sources)
        node.attr.pop("_class", None)
        if node.op in ALIAS_OPS:
            set_identity(node, node.attr["T"].type)
    return Graph(result, copy=False, weights=weights), renamed


def _library(graph: Graph, names: Iterable[str]) -> Any:
    """The functions that the nodes `names` call, and those that these call."""
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    used: dict[str, None] = {}
    pending = [graph.nodes[name] for name in names]
    while pending:
        for value in pending.pop().attr.values():
            called = [value.func.name, *(f.name for f in value.list.func)]
            for name in called:
                if name in functions and name not in used:
                    used[name] = None
                    pending.extend(functions[name].node_def)
    library = type(graph.graph_def.library)()
    library.function.extend(functions[name] for name in used)
    return library


def _fold(graph: Graph, names: list[str], outputs: Iterable[str]) -> tuple[dict[str, np.ndarray], set[str]]:
    """Values of the computed constants that the varying nodes read, and the names of the nodes that remain needed."""
    constant = graph.constants(names)
    varying = [name for name in names if name not in constant]
    edge = {node_name(t) for name in varying for t in graph.inputs(graph.nodes[name])} & constant
    edge |= {node_name(t) for t in outputs} & constant
    computed = {name for name in edge if graph.nodes[name].op != "Const"}
    # A constant node with several outputs (Split of a Const) stays as it is, with all that it needs.
    single = {name for name in computed if graph.nodes[name].op not in ("Split", "SplitV", "Unpack", "IdentityN")}
    needed = set(varying) | edge | set(graph.ancestors([tensor_name(name) for name in computed - single]))
    return graph.evaluate(tensor_name(name) for name in single), needed


def _imported(graph_def: Any) -> Any:
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    return graph


def session_config() -> Any:
    """One-shot sessions: no graph optimiser (it would cost more than the run) and the CPU only."""
    tf = tensorflow()
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    return config
