"""What npu.blockers says, and that compile says the same."""

import numpy as np
import onnx
import pytest

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError, UnsupportedError
from tests.npu.graphs import EXACT, floats, integers, model, node

W = integers(1, 4, 4, 3, 3)
CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])


def small(*nodes: onnx.NodeProto, outputs=("y",), **constants) -> onnx.ModelProto:
    return model([CONV, *nodes], ["n", 4, 8, 8], {"w": W, **constants}, outputs=outputs)


def names(found: list) -> list[tuple[str, str, str | None]]:
    return [(blocker.node, blocker.op, blocker.cut) for blocker in found]


def test_all_blockers_are_named_at_once_and_what_follows_is_judged():
    document = small(
        node("Erf", "c", "e"),
        node("Conv", "e v", "d"),
        node("Unheard", "d", "u", domain="tensorflow"),
        node("ArgMax", "u", "y"),
        v=integers(2, 4, 4, 3),
    )
    found = npu.blockers(document)
    assert names(found) == [
        ("e_node", "Erf", "c"),
        ("d_node", "Conv", "c"),
        ("u_node", "Unheard", "c"),
        ("y_node", "ArgMax", "c"),
    ]
    assert [blocker.reason for blocker in found][1:3] == [
        "its weights have 3 axes",
        "operations of domain tensorflow are unknown",
    ]
    with pytest.raises(UnsupportedError) as caught:
        npu.compile(document)
    assert caught.value.blockers == found
    for said in ("4 nodes cannot run", "e_node (Erf)", "d_node (Conv)", "u_node", "y_node (ArgMax)", "outputs=['c']"):
        assert said in str(caught.value)


def test_what_lies_before_the_cut_compiles_and_is_right():
    document = small(node("Relu", "c", "r"), node("Erf", "r", "e"), node("Mul", "r e", "y"))
    (first,) = {blocker.cut for blocker in npu.blockers(document)}
    assert first == "r"
    assert npu.blockers(document, outputs=[first]) == []
    x = integers(3, 2, 4, 8, 8)
    shorter = small(node("Relu", "c", "r"), outputs=("r",))
    found = npu.reference.run(npu.compile(document, fmt=EXACT, outputs=["r"]), x)
    np.testing.assert_array_equal(found["r"], floats(shorter, x)["r"])


def test_the_cut_alone_leads_to_the_blocker():
    """Where branches meet in it, the cut lies before they part."""
    document = small(node("Relu", "c", "r"), node("MaxPool", "c", "m", kernel_shape=[1, 1]), node("Pow", "r m", "y"))
    assert names(npu.blockers(document)) == [("y_node", "Pow", "c")]


def test_a_cut_comes_after_a_product():
    document = model([node("Erf", "x", "e"), node("Conv", "e w", "y")], [1, 4, 8, 8], {"w": W})
    assert names(npu.blockers(document)) == [("e_node", "Erf", None)]
    with pytest.raises(UnsupportedError, match=r"node e_node \(Erf\): the NPU has no such operation"):
        npu.compile(document)


def test_a_whole_model_a_graph_and_a_file_have_no_blockers(tmp_path):
    document = small(node("Relu", "c", "y"))
    onnx.save(document, tmp_path / "whole.onnx")
    for form in (document, document.graph, tmp_path / "whole.onnx", str(tmp_path / "whole.onnx")):
        assert npu.blockers(form) == []
        assert npu.compile(form, name="n").digest == npu.compile(document, name="n").digest


def test_a_branch_that_reads_values_from_outside_is_a_blocker_with_a_place_to_cut():
    branches = {
        name: onnx.helper.make_graph(
            [node(op, "r", f"{name}_y")], name, [], [onnx.helper.make_tensor_value_info(f"{name}_y", 1, None)]
        )
        for name, op in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    whole = [node("Relu", "c", "r"), node("If", "t", "y", **branches)]
    condition = [node("ReduceMax", "c", "m"), node("Greater", "m z", "t")]
    document = small(*condition, *whole, z=np.float32(0))
    assert names(npu.blockers(document))[-1] == ("y_node", "If", "c")
    with pytest.raises(UnsupportedError, match=r"y_node \(If\): .* Cut at c"):
        npu.compile(document)
    assert npu.blockers(document, outputs=["r"]) == []


def test_nodes_in_any_order():
    document = small(node("Relu", "c", "r"), node("Conv", "r w", "y"))
    nodes = list(document.graph.node)
    del document.graph.node[:]
    document.graph.node.extend(nodes[::-1])
    assert [chain.name for chain in npu.compile(document).chains] == ["c_node", "y_node"]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["d"], "no node writes 'd'; some values that are there: "),
        (["x"], "no node writes 'x'"),
        (["w"], "no node writes 'w'"),
        ([], r"a list of different names .* got \[\]"),
        ("c", "a list of different names .* got 'c'"),
        (["c", "c"], "a list of different names"),
    ],
)
def test_outputs_that_are_not_there(outputs, message):
    document = small(node("Relu", "c", "y"))
    for function in (npu.compile, npu.blockers):
        with pytest.raises(InvalidInputError, match=message):
            function(document, outputs=outputs)


def test_many_blockers_in_a_row_each_have_their_cut():
    """A network of 6,000 nodes did not end: each blocker asked for the meeting points of the whole graph."""
    nodes, ends = [node("Conv", "x w", "v0")], []
    for i in range(500):
        nodes += [node("Erf", f"v{i}", f"e{i}"), node("Relu", f"v{i}", f"r{i}"), node("Erf", f"r{i}", f"f{i}")]
        nodes.append(node("Add", f"r{i} v{i}", f"v{i + 1}"))
        ends += [f"e{i}", f"f{i}"]
    found = npu.blockers(model(nodes, [1, 3, 8, 8], {"w": np.ones((3, 3, 1, 1), np.float32)}, outputs=ends))
    assert [(blocker.node, blocker.cut) for blocker in found[-2:]] == [("e499_node", "v499"), ("f499_node", "r499")]
