"""Where a spelling could be taken for another: what compiles equals ONNX Runtime, the rest is refused with its node."""

import numpy as np
import pytest
from onnx import AttributeProto, helper

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError, UnsupportedError
from tests.npu.graphs import EXACT, check_exact, floats, integers, model, node

W = integers(1, 4, 4, 3, 3)
CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
STATISTICS = {"s": np.float32([1, 2, 1, 1]), "v": np.float32([1, 1, 4, 1])}


def behind_conv(*nodes, opset=15, batch="n", **constants):
    return model([CONV, *nodes], [batch, 4, 6, 6], {"w": W, **constants}, opset=opset)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 1, 2], [0, 2, 3, 1], [0, 3, 2, 1]])
def test_a_product_sums_over_the_last_axis_whatever_lies_there(order):
    """Four positions on every axis: sums over another axis would have the right shape."""
    nodes = [CONV, node("Transpose", "c", "t", perm=order), node("MatMul", "t m", "y")]
    document = model(nodes, ["n", 4, 4, 4], {"w": W, "m": integers(2, 4, 4)})
    check_exact(document, integers(3, 2, 4, 4, 4))


def test_a_product_along_the_width():
    check_exact(behind_conv(node("MatMul", "c m", "y"), m=integers(2, 6, 5)), integers(3, 2, 4, 6, 6))


@pytest.mark.parametrize("scales", [(1.7, 1.3), (1.1, 2.3), (0.7, 0.9), (3.3, 1.9)])
@pytest.mark.parametrize("how", ["half_pixel", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"])
def test_nearest_takes_the_pixel_that_float32_says(how, scales):
    resize = node("Resize", "c e k", "y", mode="nearest", coordinate_transformation_mode=how)
    document = behind_conv(resize, e=np.zeros(0, np.float32), k=np.float32([1, 1, *scales]), opset=19)
    check_exact(document, integers(3, 2, 4, 6, 6))


REFUSED = {
    "statistics of this batch": (
        behind_conv(node("BatchNormalization", "c s s s v", "y a b d e"), opset=9, **STATISTICS),
        "it is in training mode",
    ),
    "strides that leave gaps": (
        behind_conv(node("Conv", "c w", "y", strides=[7, 7], auto_pad="SAME_UPPER")),
        "its strides leave gaps with auto_pad SAME_UPPER",
    ),
    "exponent with more axes": (
        behind_conv(node("Pow", "c k", "y"), k=np.ones((1, 1, 1, 1, 1), np.float32)),
        "its exponent .* adds axes",
    ),
    "Where that makes it larger": (
        behind_conv(node("Where", "t c k", "y"), t=np.bool_(True), k=integers(2, 2, 4, 6, 6)[:, None]),
        "makes the result larger",
    ),
    "constant for each image": (
        behind_conv(node("Add", "c k", "y"), k=np.ones((2, 1, 1, 1), np.float32)),
        r"its constant \[2, 1, 1, 1\] does not vary by channel",
    ),
    "Gemm with a row for each image": (
        behind_conv(node("Flatten", "c", "f"), node("Gemm", "f g b", "y"), g=integers(1, 144, 5), b=integers(1, 2, 5)),
        r"its bias \[2, 5\] is not one number per output",
    ),
    "any batch as one": (behind_conv(node("Reshape", "c t", "y"), t=[1, -1]), "it regroups any number of images"),
    "first image": (behind_conv(node("Gather", "c i", "y", axis=0), i=[0]), "it selects from the batch"),
    "first image as a slice": (
        behind_conv(node("Slice", "c b e a", "y"), b=[0], e=[1], a=[0]),
        "it selects from the batch",
    ),
    "more images": (
        behind_conv(node("Resize", "c e k", "y"), e=np.zeros(0, np.float32), k=np.float32([2, 1, 2, 2])),
        "it resizes the batch",
    ),
    "Squeeze drops a batch of 1": (
        behind_conv(node("GlobalMaxPool", "c", "g"), node("Squeeze", "g", "y"), batch=1),
        "it drops axes",
    ),
    "nothing as a product": (
        behind_conv(node("Flatten", "c", "f"), node("MatMul", "f g", "y"), g=np.zeros((144, 0), np.float32)),
        "nothing is left",
    ),
    "nothing as a Reshape": (behind_conv(node("Reshape", "c t", "y", allowzero=1), t=[0, -1]), "nothing is left"),
    "nothing as an Expand": (
        behind_conv(node("GlobalMaxPool", "c", "g"), node("Expand", "g t", "y"), t=[1, 4, 0, 6]),
        "none empty",
    ),
    "nothing in a part": (
        behind_conv(node("Split", "c t", "y z", axis=1), t=[4, 0]),
        "parts that are not empty",
    ),
}

NONE, SIZES = np.zeros(0, np.float32), np.float32([1, 1, 1e9, 1])
# each would need gigabytes before its result is found too large
HUGE = {
    "Tile": behind_conv(node("Tile", "c t", "y"), t=[1, 1, 1, 10**10]),
    "Expand": behind_conv(node("GlobalMaxPool", "c", "g"), node("Expand", "g t", "y"), t=[1, 1, 10**10, 1]),
    "Pad": behind_conv(node("Pad", "c p", "y"), p=[0, 0, 2**40, 0, 0, 0, 0, 0]),
    "Pad of channels": behind_conv(node("Pad", "c p", "y"), p=[0, 2**40, 0, 0, 0, 0, 0, 0]),
    "Pad with edges": behind_conv(node("Pad", "c p", "y", mode="edge"), p=[0, 0, 2**40, 0, 0, 0, 0, 0]),
    "scales": behind_conv(node("Resize", "c e k", "y"), e=NONE, k=SIZES),
    "sizes": behind_conv(node("Resize", "c e e z", "y", mode="linear"), e=NONE, z=[1, 4, 2**40, 6]),
    "AveragePool": behind_conv(node("AveragePool", "c", "y", kernel_shape=[2**30] * 2, pads=[2**30 - 1] * 4)),
    "MaxPool": behind_conv(node("MaxPool", "c", "y", kernel_shape=[2**30, 1], pads=[2**30 - 1, 0, 0, 0])),
    "strides": behind_conv(node("Conv", "c w", "y", strides=[40000, 1])),
    "dilations": behind_conv(node("Conv", "c w", "y", dilations=[2**40, 1], pads=[2**40, 0] * 2)),
    "ConvTranspose": behind_conv(node("ConvTranspose", "c w", "y", strides=[2**30, 2**30])),
}


@pytest.mark.parametrize("case", HUGE)
def test_a_huge_result_is_a_blocker_before_memory_is_asked_for(case):
    (blocker,) = npu.blockers(HUGE[case])
    assert blocker.cut in ("c", "g") and "positions along one axis" in blocker.reason


@pytest.mark.parametrize("case", REFUSED)
def test_another_meaning_is_a_blocker(case):
    document, message = REFUSED[case]
    (blocker,) = npu.blockers(document)
    assert blocker.node.startswith("y")
    with pytest.raises(UnsupportedError, match=message):
        npu.compile(document, fmt=EXACT)


SAME = {
    "sizes of the value itself": behind_conv(
        node("Shape", "c", "z"),
        node("Slice", "z b e", "n"),
        node("Concat", "n m", "t", axis=0),
        node("Reshape", "c t", "y"),
        b=[0],
        e=[1],
        m=[-1],
    ),
    "a batch of 1": behind_conv(node("Reshape", "c t", "y"), t=[1, -1], batch=1),
    "the whole batch": behind_conv(node("Slice", "c b e a", "y"), b=[0], e=[2**63 - 1], a=[0]),
    "strides behind small gaps": behind_conv(
        node("Conv", "c k", "y", strides=[2, 2], auto_pad="SAME_UPPER"), k=W[..., :1, :1]
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_meaning_compiles(case):
    document = SAME[case]
    batch = document.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 3
    check_exact(document, integers(3, batch, 4, 6, 6))


NOT_ONNX = {
    "axis": behind_conv(node("ReduceMax", "c", "y", axes=[7])),
    "axis twice": behind_conv(node("Slice", "c b e a", "y"), b=[0, 0], e=[1, 1], a=[1, -3]),
    "axis of Unsqueeze": behind_conv(node("Unsqueeze", "c a", "y"), a=[9]),
    "axis of Gather": behind_conv(node("Gather", "c a", "y", axis=9), a=[0]),
    "axis of Concat": behind_conv(node("Concat", "c c", "y", axis=4)),
    "axis of Split": behind_conv(node("Split", "c", "y z", axis=-5)),
    "no axis": behind_conv(node("Concat", "c c", "y")),
    "auto_pad": behind_conv(node("Conv", "c w", "y", auto_pad="SAME")),
    "type of an attribute": behind_conv(node("Conv", "c w", "y", strides=[1.0, 1.0])),
    "number for a list": behind_conv(node("MaxPool", "c", "y", kernel_shape=2)),
    "NaN": behind_conv(node("LeakyRelu", "c", "y", alpha=float("nan"))),
    "infinity": behind_conv(node("HardSigmoid", "c", "y", beta=float("inf"))),
    "NaN in Gemm": behind_conv(
        node("Flatten", "c", "f"), node("Gemm", "f g", "y", alpha=float("nan")), g=integers(1, 144, 2)
    ),
    "two writers": behind_conv(node("Relu", "c", "y"), node("Neg", "c", "y")),
}


@pytest.mark.parametrize("case", NOT_ONNX)
def test_what_onnx_does_not_allow_is_said_of_its_node(case):
    for function in (npu.compile, npu.blockers):
        with pytest.raises(InvalidInputError, match=r"y_node|z_node") as caught:
            function(NOT_ONNX[case])
        assert "malformed" not in str(caught.value)


def test_an_empty_list_of_axes_drops_every_axis_of_size_1():
    squeeze = helper.make_node("Squeeze", ["g"], ["y"], name="y_node")
    squeeze.attribute.append(AttributeProto(name="axes", type=AttributeProto.INTS))
    document = behind_conv(node("GlobalMaxPool", "c", "g"), squeeze, opset=11)
    x = integers(3, 2, 4, 6, 6)
    assert npu.reference.run(npu.compile(document, fmt=EXACT), x)["y"].shape == floats(document, x)["y"].shape == (2, 4)
