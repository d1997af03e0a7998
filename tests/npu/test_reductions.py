"""Reductions over channels and over parts of them, and what is built of them: split attention, spatial attention."""

import numpy as np
import onnx
import pytest

from amlrealtimeai import npu
from amlrealtimeai.errors import UnsupportedError
from tests.npu.graphs import EXACT, check_exact, floats, integers, model, node

CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
W = integers(1, 8, 4, 3, 3)


def behind_conv(*nodes, opset=13, **constants):
    return model([CONV, *nodes], ["n", 4, 6, 6], {"w": W, **constants}, opset=opset)


def parts(shape: list[int], op: str, axes: list[int], **attributes):
    """Channels as several axes, some of which are reduced."""
    nodes = [node("Reshape", "c s", "p"), node(op, "p a" if op == "ReduceSum" else "p", "y", **attributes)]
    if op == "ReduceSum":
        return behind_conv(*nodes, s=shape, a=axes)
    nodes[-1].attribute.append(onnx.helper.make_attribute("axes", axes))
    return behind_conv(*nodes, s=shape)


OPS = ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ([-1, 8, 6, 6], [1]),
        ([-1, 8, 6, 6], [1, 2, 3]),
        ([-1, 8, 6, 6], [-3, -1]),
        ([-1, 2, 4, 6, 6], [1]),
        ([-1, 2, 4, 6, 6], [2]),
        ([-1, 2, 4, 6, 6], [1, 2]),
        ([-1, 2, 2, 2, 6, 6], [2]),
        ([-1, 2, 2, 2, 6, 6], [1, 3, 4]),
        ([-1, 8, 36], [1]),
        ([-1, 8, 36], [2]),
        ([-1, 288], [1]),
        ([-1, 2, 144], [1]),
    ],
)
def test_any_axes_behind_the_batch_are_reduced(op, keepdims, shape, axes):
    if len(axes) == len(shape) - 1:
        keepdims = 1
    document = parts(shape, op, axes, keepdims=keepdims)
    x = integers(3, 2, 4, 6, 6)
    if op == "ReduceMean":  # its sums are rounded
        found = npu.Native(npu.compile(document, fmt=EXACT)).run(x)["y"]
        expected = floats(document, x)["y"]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        program = check_exact(document, x)
        np.testing.assert_array_equal(npu.Native(program).run(x)["y"], floats(document, x)["y"])


def test_one_number_for_each_image_without_an_axis_is_refused():
    with pytest.raises(UnsupportedError, match="output y has no axis behind the batch"):
        npu.compile(parts([-1, 288], "ReduceMax", [1], keepdims=0))


def test_the_batch_is_not_reduced():
    with pytest.raises(UnsupportedError, match=r"y_node \(ReduceMax\): it reduces axes \[0, 1\]"):
        npu.compile(parts([-1, 8, 6, 6], "ReduceMax", [0, 1]))


@pytest.mark.parametrize(
    ("opset", "shape", "axis"),
    [
        (13, [-1, 2, 4, 6, 6], 1),
        (13, [-1, 4, 2, 36], 2),
        (13, [-1, 2, 2, 2, 36], 2),
        (13, [-1, 8, 6, 3, 2], -1),
        (11, [-1, 8, 6, 3, 2], 4),
        (11, [-1, 144, 2, 1], 2),
    ],
)
def test_softmax_over_two_is_a_sigmoid(shape, axis, opset):
    document = behind_conv(node("Reshape", "c s", "p"), node("Softmax", "p", "y", axis=axis), s=shape, opset=opset)
    x = integers(3, 2, 4, 6, 6)
    found, expected = npu.Native(npu.compile(document, fmt=EXACT)).run(x)["y"], floats(document, x)["y"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_softmax_of_old_opsets_is_over_all_that_follows():
    document = behind_conv(node("Reshape", "c s", "p"), node("Softmax", "p", "y", axis=1), s=[-1, 2, 4, 36], opset=11)
    with pytest.raises(UnsupportedError, match=r"y_node \(Softmax\): it is over 288 positions"):
        npu.compile(document)


def test_split_attention():
    """ResNeSt and SK networks: two branches, each channel weighed by a softmax over them, and added."""
    nodes = [
        node("Relu", "c", "r"),
        node("Unsqueeze", "c one", "c1"),
        node("Unsqueeze", "r one", "r1"),
        node("Concat", "c1 r1", "both", axis=1),
        node("ReduceSum", "both one", "sum", keepdims=0),
        node("GlobalMaxPool", "sum", "g"),
        node("Conv", "g v", "a"),
        node("Reshape", "a s", "b"),
        node("Softmax", "b", "weights", axis=1),
        node("Mul", "both weights", "m"),
        node("ReduceSum", "m one", "y", keepdims=0),
    ]
    document = behind_conv(*nodes, one=[1], v=integers(2, 16, 8, 1, 1) / 16, s=[-1, 2, 8, 1, 1])
    x = integers(3, 2, 4, 6, 6)
    program = npu.compile(document, fmt=EXACT)
    found, expected = npu.reference.run(program, x)["y"], floats(document, x)["y"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert npu.Native(program, threads=2).run(x)["y"].tobytes() == found.tobytes()


def test_spatial_attention():
    """CBAM: mean and maximum over the channels, stacked, as a gate of each pixel."""
    nodes = [
        node("ReduceMax", "c", "m", axes=[1]),
        node("ReduceMin", "c", "l", axes=[1]),
        node("Concat", "m l", "both", axis=1),
        node("Conv", "both v", "gate", pads=[1, 1, 1, 1]),
        node("Mul", "c gate", "y"),
    ]
    check_exact(behind_conv(*nodes, v=integers(2, 1, 2, 3, 3)), integers(3, 2, 4, 6, 6))


@pytest.mark.parametrize("count", [2, 3])
def test_stacks_of_images(count):
    new = [node("Unsqueeze", "c one", f"u{i}") for i in range(count)]
    stack = node("Concat", " ".join(f"u{i}" for i in range(count)), "s", axis=1)
    document = behind_conv(*new, stack, node("Flatten", "s", "y"), one=[1])
    check_exact(document, integers(3, 2, 4, 6, 6))
