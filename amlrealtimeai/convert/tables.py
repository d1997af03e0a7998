"""Lookup tables with whole numbers as keys, as nodes that ONNX can say: labels by their index."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from amlrealtimeai.convert.graph import Graph
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.convert.rewrites import added, become, constant


def take_tables(session: Any, graph: Graph, outputs: Sequence[str]) -> None:
    """Replace lookups in tables that the session holds by comparisons with all keys, in place.

    Tables with other keys than whole numbers stay: ONNX Runtime compares no texts.
    """
    tf = tensorflow()
    whole = (tf.int64.as_datatype_enum, tf.int32.as_datatype_enum)
    for name in graph.ancestors(outputs):
        node = graph.nodes[name]
        if node.op == "LookupTableFindV2" and node.attr["Tin"].type in whole:
            table = session.graph.get_tensor_by_name(graph.resolve(graph.inputs(node)[0]))
            with session.graph.as_default():
                kinds = {"Tkeys": node.attr["Tin"].type, "Tvalues": node.attr["Tout"].type}
                keys, values = session.run(tf.raw_ops.LookupTableExportV2(table_handle=table, **kinds))
            if len(keys):
                _compare(graph, node, keys, values)
    graph.changed()


def _compare(graph: Graph, node: Any, keys: np.ndarray, values: np.ndarray) -> None:
    """Let the node gather what belongs to the key that equals its input; its default where none does."""
    tf = tensorflow()
    kind, result = node.attr["Tin"].type, node.attr["Tout"].type
    boolean, index = tf.bool.as_datatype_enum, tf.int64.as_datatype_enum
    small = tf.int32.as_datatype_enum
    _, asked, default = graph.inputs(node)
    order = np.argsort(keys, kind="stable")  # a table has none of its own

    def add(part: str, op: str, inputs: Sequence[str], **types: int) -> str:
        return added(graph, f"{node.name}/{part}", op, inputs, types)

    def held(part: str, value: Any) -> str:
        return constant(graph, f"{node.name}/{part}", np.asarray(value))

    last, first = held("last", np.int32(-1)), held("first", np.int32(0))
    column = add("column", "ExpandDims", [asked, last], T=kind, Tdim=small)
    equal = add("equal", "Equal", [column, held("keys", keys[order])], T=kind)
    found = add("found", "Any", [equal, last], Tidx=small)
    numbers = add("numbers", "Cast", [equal], SrcT=boolean, DstT=small)
    place = add("place", "ArgMax", [numbers, last], T=small, Tidx=small, output_type=index)
    kinds = {"Tparams": result, "Tindices": index, "Taxis": small}
    chosen = add("chosen", "GatherV2", [held("values", values[order]), place, first], **kinds)
    become(node, "SelectV2", [found, chosen, default], {"T": result})
