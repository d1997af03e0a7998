"""Training switches set for inference: placeholders with a default, unfed booleans, conditionals and function calls."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from amlrealtimeai.convert.graph import Graph, node_name, rewire, set_constant, tensor_name
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.errors import ConversionError, InvalidInputError

_TRAINING = re.compile(r"train|learning_phase", re.IGNORECASE)
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_IFS = ("If", "StatelessIf")
_SWITCHES = ("Switch", "RefSwitch")
_MERGES = ("Merge", "RefMerge")
_SELECTS = ("Select", "SelectV2")
_MAX_DEPTH = 64


def resolve_for_inference(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """Graph whose only free placeholders are `inputs`: training switches are off, calls are inlined.

    Raises InvalidInputError when another placeholder would have to be fed.
    """
    graph = Graph(graph.graph_def)
    for _ in range(_MAX_DEPTH):
        names = graph.ancestors(outputs, stop=inputs, control=True)
        for name in names:
            if graph.nodes[name].op == "PlaceholderWithDefault" or _is_training_switch(graph.nodes[name]):
                _resolve_placeholder(graph.nodes[name])
        graph = Graph(graph.graph_def)
        names = graph.ancestors(outputs, stop=inputs, control=True)
        taken = _decided(graph, names, _IFS)
        calls = {name: graph.nodes[name].attr["f"].func.name for name in names if graph.nodes[name].op in _CALLS}
        calls |= {
            name: graph.nodes[name].attr["then_branch" if branch else "else_branch"].func.name
            for name, branch in taken.items()
        }
        if not calls:
            break
        graph = _inline(graph, calls)
    graph = _drop_dead_branches(graph, outputs)
    _take_selected(graph, outputs)
    _require_fed(graph, inputs, outputs)
    return graph


def _is_training_switch(node: Any) -> bool:
    return (
        node.op.startswith("Placeholder")
        and node.attr["dtype"].type == tensorflow().bool.as_datatype_enum
        and _TRAINING.search(node.name) is not None
    )


def _resolve_placeholder(node: Any) -> None:
    if _is_training_switch(node):
        set_constant(node, np.asarray(False))
        return
    dtype = node.attr["dtype"].type
    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].type = dtype


def _require_fed(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    fed = {node_name(tensor) for tensor in inputs}
    for name in graph.ancestors(outputs, stop=inputs):
        node = graph.nodes[name]
        if name not in fed and node.op.startswith("Placeholder"):
            kind = tensorflow().as_dtype(node.attr["dtype"].type).name
            raise InvalidInputError(
                f"the outputs also depend on the placeholder {tensor_name(name)!r} ({kind}), which is not the "
                f"input ({', '.join(inputs)}); expected one image input. Replace it by a constant or give it a default."
            )


def _decided(graph: Graph, names: list[str], ops: Sequence[str]) -> dict[str, bool]:
    """Conditional nodes of the given ops whose predicate is constant -> its value."""
    found = [name for name in names if graph.nodes[name].op in ops]
    if not found:
        return {}
    position = 1 if graph.nodes[found[0]].op in _SWITCHES else 0
    predicates = {name: graph.inputs(graph.nodes[name])[position] for name in found}
    constant = graph.constants(graph.ancestors(predicates.values()))
    fetch = sorted({tensor for tensor in predicates.values() if node_name(tensor) in constant})
    values = graph.evaluate(fetch)
    return {name: bool(values[node_name(tensor)]) for name, tensor in predicates.items() if tensor in fetch}


def _inline(graph: Graph, calls: dict[str, str]) -> Graph:
    """Replace each node of `calls` by the body of the function that it names."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    library = {function.signature.name: function for function in graph.graph_def.library.function}
    spliced = type(graph.graph_def)()
    spliced.versions.CopyFrom(graph.graph_def.versions)
    spliced.library.CopyFrom(graph.graph_def.library)
    spliced.node.extend(node for node in graph.graph_def.node if node.name not in calls)
    with graph.tf_graph().as_default():
        for name, function in calls.items():
            signature = library[function].signature
            body, flat = function_def_to_graph_def(library[function])
            node = graph.nodes[name]
            given = graph.inputs(node)[1:] if node.op in _IFS else graph.inputs(node)
            arguments = dict(zip((argument.name for argument in signature.input_arg), given, strict=True))
            returned = [library[function].ret[output.name] for output in signature.output_arg]
            _splice(spliced, f"{name}/", body, arguments)
            # The call's name stays, as a node that passes the body's results on.
            results = [_renamed(flat.get(inner, inner), f"{name}/", arguments) for inner in returned]
            passing = spliced.node.add(name=name, op="IdentityN" if results else "NoOp", input=results)
            if results:
                passing.attr["T"].list.type.extend(output.type for output in signature.output_arg)
    return Graph(spliced, copy=False)


def _splice(target: Any, prefix: str, body: Any, arguments: dict[str, str]) -> None:
    """Add the nodes of a function's body, prefixed, with its parameters replaced by `arguments`."""
    for node in body.node:
        if node.name not in arguments:
            copy = target.node.add()
            copy.CopyFrom(node)
            copy.name = prefix + node.name
            del copy.input[:]
            copy.input.extend(_renamed(source, prefix, arguments) for source in node.input)


def _renamed(source: str, prefix: str, arguments: dict[str, str]) -> str:
    if node_name(source) in arguments:
        argument = arguments[node_name(source)]
        return f"^{node_name(argument)}" if source.startswith("^") else argument
    return f"^{prefix}{source[1:]}" if source.startswith("^") else prefix + source


def _follow(tensor: str, targets: dict[str, str]) -> str:
    while tensor in targets:
        tensor = targets[tensor]
    return tensor


def _drop_dead_branches(graph: Graph, outputs: Sequence[str]) -> Graph:
    """Replace Switch and Merge on a constant predicate by the branch that is taken."""
    names = graph.ancestors(outputs)
    decided = _decided(graph, names, _SWITCHES)
    if not decided:
        return graph
    alive: dict[str, str] = {}
    dead: set[str] = set()
    for name, branch in decided.items():
        alive[f"{name}:{int(branch)}"] = graph.inputs(graph.nodes[name])[0]
        dead.add(f"{name}:{int(not branch)}")
    for name in names:
        node = graph.nodes[name]
        living = [source for source in graph.inputs(node) if not _is_dead(source, dead)]
        if node.op in _MERGES and len(living) == 1:
            dtype = node.attr["T"].type
            node.op, node.input[:] = "Identity", living
            node.attr.clear()
            node.attr["T"].type = dtype
        elif node.op not in _MERGES and len(living) < len(graph.inputs(node)):
            dead.add(f"{name}:*")
    rewire(graph, lambda tensor: _follow(tensor, alive))
    return graph


def _take_selected(graph: Graph, outputs: Sequence[str]) -> None:
    """Replace every choice by a constant condition (tf.where with a training switch) by what it chooses."""
    names = [n for n in graph.ancestors(outputs) if graph.nodes[n].op in _SELECTS]
    scalar = [n for n in names if graph.shape(graph.inputs(graph.nodes[n])[0]) == []]
    for name, first in _decided(graph, scalar, _SELECTS).items():
        node = graph.nodes[name]
        dtype = node.attr["T"].type
        node.op, node.input[:] = "Identity", [graph.inputs(node)[1 if first else 2]]
        node.attr.clear()
        node.attr["T"].type = dtype
    graph._shapes = None


def _is_dead(tensor: str, dead: set[str]) -> bool:
    return tensor in dead or f"{node_name(tensor)}:*" in dead


def require_inference(graph: Graph, names: Iterable[str]) -> None:
    """Raise ConversionError for a batch normalisation in training mode, which has no fixed scale to put on the NPU."""
    for name in names:
        node = graph.nodes[name]
        if node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b:
            raise ConversionError(
                f"the batch normalisation {name!r} ({node.op}) is in training mode; expected inference mode. "
                "Build the graph for export with import_graph_def(..., is_training=False)."
            )
