"""Functions of a graph's library: bodies as graphs of their own, and in the place of calls; graphs as functions."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from amlrealtimeai.convert.graph import Graph, node_name, rewire, tensor_name
from amlrealtimeai.convert.quiet import tensorflow

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
IFS = ("If", "StatelessIf")
WHILES = ("While", "StatelessWhile")


def body_of(graph: Graph, name: str) -> tuple[Graph, list[str], list[str]]:
    """The function `name` of `graph`'s library as a graph of its own; its parameters and its results as tensors."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    function = next(f for f in graph.graph_def.library.function if f.signature.name == name)
    with graph.functions().as_default():
        body, flat = function_def_to_graph_def(function)
    body.library.CopyFrom(graph.graph_def.library)
    parameters = [tensor_name(argument.name) for argument in function.signature.input_arg]
    results = [function.ret[output.name] for output in function.signature.output_arg]
    return Graph(body, copy=False), parameters, [tensor_name(flat.get(inner, inner)) for inner in results]


def add_function(graph: Graph, name: str, body: Graph, parameters: Sequence[str], results: Sequence[str]) -> None:
    """Make `body` the function `name` of `graph`'s library."""
    from tensorflow.python.framework.graph_to_function_def import graph_to_function_def

    tf = tensorflow()
    whole = body.pruned([*results, *parameters])
    with tf.Graph().as_default() as scratch:
        tf.import_graph_def(whole.graph_def, name="")
    given = {node_name(tensor) for tensor in parameters}
    operations = [op for op in scratch.get_operations() if op.name not in given]
    sides = ([scratch.get_tensor_by_name(tensor) for tensor in side] for side in (parameters, results))
    function = graph_to_function_def(scratch, operations, *sides, [f"result_{i}" for i in range(len(results))])
    function.signature.name = name
    known = {f.signature.name for f in graph.graph_def.library.function}
    graph.graph_def.library.function.extend(
        f for f in whole.graph_def.library.function if f.signature.name not in known
    )
    graph.graph_def.library.function.add().CopyFrom(function)
    graph.changed()


def inline(graph: Graph, calls: dict[str, str], outputs: Iterable[str]) -> Graph:
    """Replace each node of `calls` by the body of the function that it names; `outputs` keep their names."""
    spliced = type(graph.graph_def)()
    spliced.versions.CopyFrom(graph.graph_def.versions)
    spliced.library.CopyFrom(graph.graph_def.library)
    spliced.node.extend(node for node in graph.graph_def.node if node.name not in calls)
    targets: dict[str, str] = {}
    for name, function in calls.items():
        body, parameters, results = body_of(graph, function)
        node = graph.nodes[name]
        given = graph.inputs(node)[1:] if node.op in IFS else graph.inputs(node)
        arguments = dict(zip(map(node_name, parameters), given, strict=True))
        prefix = _free_prefix(name, body, graph)
        _splice(spliced, prefix, body.graph_def, arguments)
        inner = [_renamed(result, prefix, arguments) for result in results]
        targets |= {f"{name}:{index}": tensor for index, tensor in enumerate(inner)}
        wanted = [int(tensor.split(":")[1]) for tensor in outputs if node_name(tensor) == name]
        _pass_on(spliced, node, inner, wanted)
    result = Graph(spliced, copy=False, weights=graph.weights)
    rewire(result, lambda tensor: follow(tensor, targets))
    return result


def _free_prefix(name: str, body: Graph, graph: Graph) -> str:
    """What the body's names begin with: the call's name, with a number where nodes beside the call have such names."""
    prefixes = (f"{name}/" if number == 0 else f"{name}/body_{number}/" for number in itertools.count())
    return next(prefix for prefix in prefixes if not any(prefix + node in graph.nodes for node in body.nodes))


def _pass_on(target: Any, call: Any, results: list[str], wanted: list[int]) -> None:
    """A node of the call's name: it passes on the `wanted` results, and gives control edges something to lead to."""
    if not wanted:
        target.node.add(name=call.name, op="NoOp", input=sorted({f"^{node_name(result)}" for result in results}))
        return
    # others of the results may have types that nothing can pass on (gradients' intermediates)
    passed = [index if index in wanted else wanted[0] for index in range(max(wanted) + 1)]
    types = list(call.attr["Tout"].list.type)
    node = target.node.add(name=call.name, op="IdentityN", input=[results[index] for index in passed])
    node.attr["T"].list.type.extend(types[index] for index in passed)


def _splice(target: Any, prefix: str, body: Any, arguments: dict[str, str]) -> None:
    """Add the nodes of a function's body, prefixed, with its parameters replaced by `arguments`."""
    for node in body.node:
        if node.name not in arguments:
            copy = target.node.add()
            copy.CopyFrom(node)
            copy.name = prefix + node.name
            copy.attr.pop("_class", None)  # it names nodes of the function
            del copy.input[:]
            copy.input.extend(_renamed(source, prefix, arguments) for source in node.input)


def _renamed(source: str, prefix: str, arguments: dict[str, str]) -> str:
    if node_name(source) in arguments:
        argument = arguments[node_name(source)]
        return f"^{node_name(argument)}" if source.startswith("^") else argument
    return f"^{prefix}{source[1:]}" if source.startswith("^") else prefix + source


def follow(tensor: str, targets: dict[str, str]) -> str:
    """Where `tensor` leads by `targets`."""
    while tensor in targets:
        tensor = targets[tensor]
    return tensor
