"""Training switches set for inference: placeholders with a default, unfed booleans, conditionals and function calls."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from amlrealtimeai.convert.functions import CALLS, IFS, follow, inline
from amlrealtimeai.convert.graph import Graph, node_name, rewire, set_constant, set_identity, tensor_name
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.errors import InvalidInputError

_TRAINING = re.compile(r"train|learning_phase", re.IGNORECASE)
_SWITCHES = ("Switch", "RefSwitch")
_MERGES = ("Merge", "RefMerge")
_SELECTS = ("Select", "SelectV2")
_MAX_DEPTH = 64


def resolve_for_inference(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """Graph whose only free placeholders are `inputs`: training switches are off, calls are inlined.

    Conditionals that the input decides stay. Raises InvalidInputError when another placeholder would have to be fed.
    """
    graph = Graph(graph.graph_def)
    for _ in range(_MAX_DEPTH):  # what one round decides may decide more in the next
        names = graph.ancestors(outputs, stop=inputs, control=True)
        for name in names:
            if graph.nodes[name].op == "PlaceholderWithDefault" or _is_training_switch(graph.nodes[name]):
                _resolve_placeholder(graph.nodes[name])
        graph.changed()
        names = graph.ancestors(outputs, stop=inputs, control=True)
        calls = {name: graph.nodes[name].attr["f"].func.name for name in names if graph.nodes[name].op in CALLS}
        for name, branch in _decided(graph, names, IFS).items():
            calls[name] = graph.nodes[name].attr["then_branch" if branch else "else_branch"].func.name
        if calls:
            graph = inline(graph, calls, outputs)
        elif not _drop_dead_branches(graph, outputs) and not _take_selected(graph, outputs):
            break
    _gate_constants(graph, outputs)
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
    set_identity(node, node.attr["dtype"].type)


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
    """Conditional nodes of the given ops whose predicate is constant, or follows from fixed sizes -> its value."""
    found = [name for name in names if graph.nodes[name].op in ops]
    if not found:
        return {}
    position = 1 if graph.nodes[found[0]].op in _SWITCHES else 0
    predicates = {name: graph.inputs(graph.nodes[name])[position] for name in found}
    values = {tensor: graph.known_value(tensor) for tensor in set(predicates.values())}
    return {name: bool(values[tensor]) for name, tensor in predicates.items() if values[tensor] is not None}


def _drop_dead_branches(graph: Graph, outputs: Sequence[str]) -> bool:
    """Replace Switch and Merge on a constant predicate by the branch that is taken; whether there was any.

    What runs only in the other branch is dead: it reads from there, or waits for it by a control input.
    """
    names = graph.ancestors(outputs, control=True)
    decided = _decided(graph, names, _SWITCHES)
    alive = {f"{name}:{int(branch)}": graph.inputs(graph.nodes[name])[0] for name, branch in decided.items()}
    dead = {f"{name}:{int(not branch)}" for name, branch in decided.items()}
    dead_nodes: set[str] = set()

    def is_dead(source: str) -> bool:
        tensor = follow(tensor_name(source.removeprefix("^")), alive)
        return tensor in dead or node_name(tensor) in dead_nodes

    for name in names if decided else ():
        node = graph.nodes[name]
        living = [source for source in graph.inputs(node) if not is_dead(source)]
        if node.op in _MERGES:
            if len(living) == 1:
                node.input[:] = [living[0].removesuffix(":0")]
                set_identity(node, node.attr["T"].type)
            elif not living:
                dead_nodes.add(name)
        elif any(map(is_dead, node.input)):
            dead_nodes.add(name)
        else:
            node.input[:] = [source for source in node.input if not source.startswith("^") or source[1:] not in decided]
    rewire(graph, lambda tensor: follow(tensor, alive))
    return bool(decided)


def _take_selected(graph: Graph, outputs: Sequence[str]) -> bool:
    """Replace every choice by a constant condition (tf.where with a training switch) by what it chooses."""
    names = [n for n in graph.ancestors(outputs) if graph.nodes[n].op in _SELECTS]
    scalar = [n for n in names if graph.shape(graph.inputs(graph.nodes[n])[0]) == []]
    decided = _decided(graph, scalar, _SELECTS)
    for name, first in decided.items():
        node = graph.nodes[name]
        node.input[:] = [graph.inputs(node)[1 if first else 2].removesuffix(":0")]
        set_identity(node, node.attr["T"].type)
    graph.changed()
    return bool(decided)


def _gate_constants(graph: Graph, outputs: Sequence[str]) -> None:
    """Let constants of a branch come through a Switch: a control input, which ONNX has not, tells their branch else."""
    for name in graph.ancestors(outputs, control=True):
        node = graph.nodes[name]
        pivots = [_switch_port(graph, source[1:]) for source in node.input if source.startswith("^")]
        gate = next((port for port in pivots if port is not None), None)
        if gate is None or node.op != "Const":
            continue
        predicate = graph.inputs(graph.nodes[node_name(gate)])[1]
        dtype = node.attr["dtype"].type
        value = graph.graph_def.node.add(name=f"{name}/value")
        value.CopyFrom(node)
        value.name = f"{name}/value"
        del value.input[:]
        switch = graph.graph_def.node.add(name=f"{name}/gate", op="Switch", input=[value.name, predicate])
        switch.attr["T"].type = dtype
        node.input[:] = [f"{switch.name}:{gate.split(':')[1]}"]
        set_identity(node, dtype)
        graph.nodes |= {value.name: value, switch.name: switch}
    graph.changed()


def _switch_port(graph: Graph, name: str) -> str | None:
    """The port of a conditional's Switch that the node `name` passes on; None for other nodes, and for loops."""
    tensor = graph.resolve(tensor_name(name))
    node = graph.nodes[node_name(tensor)]
    if node.op not in _SWITCHES or graph.nodes[node_name(graph.inputs(node)[1])].op == "LoopCond":
        return None
    return tensor
