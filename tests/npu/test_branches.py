"""If with a constant condition and functions of the model itself: as exporters leave them where nobody inlined them."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError, UnsupportedError
from tests.npu.graphs import EXACT, check_exact, floats, integers, model, node

W = integers(1, 4, 4, 3, 3)
CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])


def branch(name: str, *nodes: onnx.NodeProto, result: str, **constants: np.ndarray) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(result, 1, None)], tensors)


def chosen(condition: str, output: str, then: onnx.GraphProto, otherwise: onnx.GraphProto) -> onnx.NodeProto:
    return node("If", condition, output, then_branch=then, else_branch=otherwise)


def small(*nodes: onnx.NodeProto, **constants) -> onnx.ModelProto:
    return model([CONV, *nodes], ["n", 4, 6, 6], {"w": W, **constants})


THEN = branch("then", node("Conv", "c v", "d"), node("Relu", "d", "e"), result="e", v=integers(2, 5, 4, 1, 1))
ELSE = branch("else", node("Neg", "c", "f"), result="f")
ON_SIZE = [
    node("Shape", "c", "sizes"),
    node("Gather", "sizes one", "size"),
    node("Equal", "size four", "t"),
    chosen("t", "y", THEN, ELSE),
]
NESTED = branch("outer", chosen("u", "inner", ELSE, THEN), node("Abs", "inner", "g"), result="g")
PASSING = branch("passing", node("Identity", "c", "h"), result="h")
BRANCHES = {
    "true": small(chosen("t", "y", THEN, ELSE), t=np.bool_(True)),
    "false": small(chosen("t", "y", THEN, ELSE), t=np.bool_([False])),
    "by a size": small(*ON_SIZE, one=np.int64(1), four=np.int64(4)),
    "nested": small(chosen("t", "y", NESTED, ELSE), t=np.bool_(True), u=np.bool_(True)),
    "used again": small(chosen("t", "b", PASSING, ELSE), node("Add", "b c", "y"), t=np.bool_(True)),
}


@pytest.mark.parametrize("case", BRANCHES)
def test_the_branch_of_a_constant_condition_is_taken(case):
    assert npu.blockers(BRANCHES[case]) == []
    check_exact(BRANCHES[case], integers(3, 2, 4, 6, 6))


def test_a_blocker_inside_a_branch_is_named_with_the_place_to_cut():
    inner = branch("then", node("Relu", "c", "r"), node("Erf", "r", "e"), result="e")
    document = small(chosen("t", "y", inner, ELSE), t=np.bool_(True))
    (found,) = npu.blockers(document)
    assert (found.node, found.op, found.cut) == ("e_node", "Erf", "c")


def test_a_computed_condition_is_a_blocker():
    document = small(node("ReduceMax", "c", "m"), node("Cast", "m", "t", to=9), chosen("t", "y", THEN, ELSE))
    assert "If" in [found.op for found in npu.blockers(document)]


def test_functions_of_the_model_are_written_out():
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", "a a", "s"), node("Relu", "s", "b")], [helper.make_opsetid("", 15)]
    )
    document = small(node("Twice", "c", "y", domain="own"))
    document.functions.append(twice)
    document.opset_import.append(helper.make_opsetid("own", 1))
    x = integers(3, 2, 4, 6, 6)
    np.testing.assert_array_equal(npu.reference.run(npu.compile(document, fmt=EXACT), x)["y"], floats(document, x)["y"])


@pytest.mark.parametrize("value", [1e38, -3e38])
@pytest.mark.parametrize("op", ["Mul", "Add"])
def test_blockers_refuse_constants_that_could_overflow_as_compile_does(op, value):
    document = small(node(op, "c k", "d"), node("Mul", "d k", "y"), k=np.full((4, 1, 1), value, np.float32))
    said = []
    for function in (npu.compile, npu.blockers):
        with pytest.raises(InvalidInputError, match="float32") as caught:
            function(document)
        assert not isinstance(caught.value, UnsupportedError)
        said.append(str(caught.value))
    assert said[0] == said[1]
