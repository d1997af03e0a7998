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
SAME_NAMES = [
    chosen("t", "a", branch("one", node("Conv", "c v", "d"), result="d", v=integers(2, 5, 4, 1, 1)), ELSE),
    chosen("t", "b", branch("two", node("Conv", "c v", "d"), result="d", v=integers(5, 5, 4, 1, 1)), ELSE),
    node("Concat", "a b", "y", axis=1),
]
BRANCHES = {
    "with the same names inside": small(*SAME_NAMES, t=np.bool_(True)),
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


def test_attributes_that_a_call_leaves_out_have_the_functions_values():
    steep = helper.make_function(
        "own", "Steep", ["a"], ["b"], [node("LeakyRelu", "a", "b")], [helper.make_opsetid("", 15)], ["alpha"]
    )
    (inner,) = steep.node
    inner.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT))
    del steep.attribute[:]
    steep.attribute_proto.append(helper.make_attribute("alpha", 0.5))
    calls = [node("Steep", "c", "s", domain="own"), node("Steep", "s", "y", domain="own", alpha=3.0)]
    document = model([node("Conv", "x w", "c"), *calls], ["n", 1, 1, 2], {"w": np.ones((1, 1, 1, 1), np.float32)})
    document.functions.append(steep)
    document.opset_import.append(helper.make_opsetid("own", 1))
    before = document.SerializeToString()
    x = np.array([-4, 8], np.float32).reshape(1, 1, 1, 2)
    answer = npu.reference.run(npu.compile(document, fmt=EXACT), x)["y"]
    assert answer.ravel().tolist() == [-6.0, 8.0]
    assert document.SerializeToString() == before


def test_values_with_the_same_name_are_refused():
    document = small(node("Relu", "c", "y"))
    document.graph.initializer.append(numpy_helper.from_array(-W, "w"))
    with pytest.raises(InvalidInputError, match="two constants of the model have the name 'w'"):
        npu.compile(document)
    document = small(node("Relu", "c", "y"))
    document.graph.input.append(document.graph.input[0])
    with pytest.raises(InvalidInputError, match="two inputs of the model have the name 'x'"):
        npu.compile(document)


def test_bounds_cast_like_what_varies():
    cast = [node("CastLike", "low c", "l"), node("CastLike", "high c", "h"), node("Clip", "c l h", "d")]
    document = small(*cast, node("CastLike", "d c", "y"), low=np.float32(-2), high=np.float64(3))
    check_exact(document, integers(3, 2, 4, 6, 6))
    (found,) = npu.blockers(small(node("CastLike", "c whole", "y"), whole=np.int64(1)))
    assert found.reason == "it casts to int64"


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
