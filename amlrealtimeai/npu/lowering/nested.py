"""What lies inside of nodes: graphs of their own, and the functions that they call."""

import itertools
from collections.abc import Iterable, Iterator, Mapping

import onnx.inliner
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto


def inlined(model: ModelProto) -> ModelProto:
    """The model with the bodies of its own functions in the place of calls; the model itself where it has none."""
    if not model.functions:
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    defaults = {(f.domain, f.name): f.attribute_proto for f in copy.functions if f.attribute_proto}
    bodies = [copy.graph.node, *(function.node for function in copy.functions)]
    for node in itertools.chain.from_iterable((*nodes, *inside(nodes)) for nodes in bodies if defaults):
        given = {attribute.name for attribute in node.attribute}
        # onnx leaves these out
        node.attribute.extend(a for a in defaults.get((node.domain, node.op_type), ()) if a.name not in given)
    return onnx.inliner.inline_local_functions(copy, convert_version=True)


def _graphs(node: NodeProto) -> list[GraphProto]:
    """The graphs that the node holds as attributes."""
    return [graph for a in node.attribute for graph in ([a.g] if a.type == AttributeProto.GRAPH else a.graphs)]


def rename_values(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Replace names of values in the graph, and in those that its nodes hold; in place."""
    for named in (*graph.initializer, *graph.output):
        named.name = names.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _graphs(node):
            rename_values(inner, names)


def inside(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes of all graphs that nodes hold."""
    for graph in itertools.chain.from_iterable(map(_graphs, nodes)):
        yield from graph.node
        yield from inside(graph.node)


def with_captured(node: NodeProto) -> NodeProto:
    """The node; where it holds graphs, a copy that also names as inputs what they read from outside."""
    graphs = _graphs(node)
    if not graphs:
        return node
    captured: dict[str, None] = {}
    for graph in graphs:
        inside = {value.name for value in (*graph.input, *graph.initializer)}
        nodes = [with_captured(inner) for inner in graph.node]
        inside.update(name for inner in nodes for name in inner.output)
        read = [name for inner in nodes for name in inner.input] + [value.name for value in graph.output]
        captured.update(dict.fromkeys(name for name in read if name and name not in inside))
    copy = copied(node)
    copy.input.extend(captured)
    return copy


def copied(node: NodeProto) -> NodeProto:
    """A copy that does not keep the message that the node is part of in memory."""
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy
