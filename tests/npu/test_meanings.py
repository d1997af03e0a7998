"""Where a spelling could be taken for another: what compiles equals ONNX Runtime, the rest is refused with its node."""

import numpy as np
import pytest
from onnx import AttributeProto

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


def without_numbers(op, inputs, name):
    """A node whose attribute is an empty list of numbers."""
    odd = node(op, inputs, "y")
    odd.attribute.append(AttributeProto(name=name, type=AttributeProto.INTS))
    return odd


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
        "without axes it drops the batch",
    ),
    "Squeeze drops a batch that is 1": (
        behind_conv(node("GlobalMaxPool", "c", "g"), node("Squeeze", "g", "y")),
        "without axes it drops the batch",
    ),
    "Squeeze with an empty list drops a batch that is 1": (
        behind_conv(node("GlobalMaxPool", "c", "g"), without_numbers("Squeeze", "g", "axes"), opset=11),
        "without axes it drops the batch",
    ),
    "sizes for one image": (
        behind_conv(node("Resize", "c e e z", "y"), e=np.zeros(0, np.float32), z=[1, 4, 9, 9]),
        "it resizes the batch",
    ),
    "parts of the batch": (behind_conv(node("Split", "c t", "y z", axis=0), t=[1, 1]), "it splits the batch"),
    "even LRN": (behind_conv(node("LRN", "c", "y", size=4)), "its size is 4"),
    "nothing in a window": (
        behind_conv(node("MaxPool", "c", "y", kernel_shape=[1, 7])),
        "nothing is left: its window 1x7 does not fit",
    ),
    "nothing to pad": (
        behind_conv(node("Pad", "c p", "y", mode="reflect"), p=[0, 0, -6, 0, 0, 0, 1, 0]),
        r"nothing is left of 6 positions with pads \(-6, 1\)",
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
    "sizes": behind_conv(node("Resize", "c e e z", "y", mode="linear"), e=NONE, z=[1, 4, 2**40, 6], batch=1),
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


@pytest.mark.parametrize(("sizes", "most"), [([-1, 7, 3, 2**35], 2**28), ([-1, 7, 7, 2**22], 2**24)])
def test_a_huge_rearrangement_is_a_blocker_before_memory_is_asked_for(sizes, most):
    regrouped = [node("Reshape", "c k", "r"), node("Transpose", "r", "t", perm=[0, 2, 1, 3])]
    operands = "r r" if sizes[1] != sizes[2] else "r t"
    _, blocker = npu.blockers(behind_conv(*regrouped, node("Concat", operands, "y", axis=2), k=sizes))
    assert blocker.op == "Concat" and blocker.cut == "c"
    assert "it rearranges" in blocker.reason and f"at most {most}" in str(blocker)


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
    "newer operation": behind_conv(node("HardSwish", "c", "y"), opset=13),
    "operation that is gone": behind_conv(node("Upsample", "c k", "y"), k=np.float32([1, 1, 2, 2])),
    "newer attribute": behind_conv(node("AveragePool", "c", "y", kernel_shape=[2, 2], ceil_mode=1), opset=9),
    "unknown attribute": behind_conv(node("Relu", "c", "y", alpha=0.5)),
    "too many inputs": behind_conv(node("Relu", "c c", "y")),
    "too few inputs": behind_conv(node("Conv", "c", "y")),
    "bias of one": behind_conv(node("Conv", "c w b", "y"), b=np.ones(1, np.float32)),
    "bias of another shape": behind_conv(node("Conv", "c w b", "y"), b=np.ones((1, 4), np.float32)),
    "bias of ConvTranspose": behind_conv(node("ConvTranspose", "c w b", "y"), b=np.ones(3, np.float32)),
    "Max of two shapes before opset 8": behind_conv(node("Max", "c k", "y"), k=np.ones(1, np.float32), opset=7),
    "Sum of two shapes before opset 8": behind_conv(
        node("Sum", "c k", "y"), k=np.ones((1, 4, 1, 1), np.float32), opset=6
    ),
    "limits that cross": behind_conv(node("Clip", "c", "y", min=2.0, max=-1.0), opset=10),
    "output_padding": behind_conv(node("ConvTranspose", "c w", "y", output_padding=[1, 0], strides=[1, 2])),
    "pads and auto_pad": behind_conv(node("Conv", "c w", "y", pads=[1, 1, 1, 1], auto_pad="SAME_UPPER")),
    "reflections longer than the axis": behind_conv(
        node("Pad", "c p", "y", mode="reflect"), p=[0, 0, 6, 0, 0, 0, 0, 0]
    ),
    "parts of another sum": behind_conv(node("Split", "c t", "y z", axis=1), t=[1, 2]),
    "parts of another count": behind_conv(node("Split", "c t", "y z", axis=1), t=[1, 2, 1]),
    "uneven parts": behind_conv(node("Slice", "c b e a", "s"), node("Split", "s", "y z", axis=1), b=[0], e=[3], a=[1]),
    "a scale that shrinks": behind_conv(node("Upsample", "c k", "y"), k=np.float32([1, 1, 0.5, 1]), opset=9),
    "step 0": behind_conv(node("Slice", "c b e a s", "y"), b=[0], e=[4], a=[1], s=[0]),
    "steps for other axes": behind_conv(node("Slice", "c b e a s", "y"), b=[0], e=[4], a=[1], s=[1, 1]),
    "blocks of 0": behind_conv(node("DepthToSpace", "c", "y", blocksize=0)),
    "mode of DepthToSpace": behind_conv(node("DepthToSpace", "c", "y", blocksize=2, mode="XYZ")),
    "blocks of two axes": behind_conv(node("Flatten", "c", "f"), node("SpaceToDepth", "f", "y", blocksize=2)),
    "nearest_mode": behind_conv(node("Resize", "c e k", "y", nearest_mode="none"), e=NONE, k=np.float32([1, 1, 2, 2])),
}


@pytest.mark.parametrize("case", NOT_ONNX)
def test_what_onnx_does_not_allow_is_said_of_its_node(case):
    for function in (npu.compile, npu.blockers):
        with pytest.raises(InvalidInputError, match=r"y_node|z_node") as caught:
            function(NOT_ONNX[case])
        assert "malformed" not in str(caught.value)


@pytest.mark.parametrize("case", [case for case in NOT_ONNX if case not in ("NaN", "infinity", "NaN in Gemm")])
def test_onnx_runtime_refuses_it_too(case):
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        floats(NOT_ONNX[case], integers(3, 1, 4, 6, 6))


# until opset 11 a Resize has no coordinates of its own
@pytest.mark.parametrize("scales", [(2, 2), (1.5, 2), (0.7, 0.5), (3, 0.6)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_opset_10_starts_at_the_corner(mode, scales):
    document = behind_conv(node("Resize", "c k", "y", mode=mode), k=np.float32([1, 1, *scales]), opset=10)
    x = integers(3, 2, 4, 6, 6)
    found = npu.reference.run(npu.compile(document, fmt=EXACT), x)["y"]
    np.testing.assert_allclose(found, floats(document, x)["y"], rtol=1e-5, atol=1e-5)


def test_a_line_of_opset_10_is_doubled_from_its_first_pixel():
    """0 2 4 becomes 0 1 2 3 4 4, where half pixels would give 0 0.5 1.5 2.5 3.5 4."""
    nodes = [node("Conv", "x k", "c"), node("Resize", "c s", "y", mode="linear")]
    constants = {"k": np.ones((1, 1, 1, 1), np.float32), "s": np.float32([1, 1, 1, 2])}
    program = npu.compile(model(nodes, ["n", 1, 1, 3], constants, opset=10), fmt=EXACT)
    found = npu.reference.run(program, np.float32([[[[0, 2, 4]]]]))["y"]
    assert found.reshape(-1).tolist() == [0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "Squeeze"])
def test_an_axis_named_twice_counts_once(op):
    document = behind_conv(
        node("GlobalMaxPool", "c", "g"), node(op, "g" if op == "Squeeze" else "c", "y", axes=[2, -2])
    )
    document.opset_import[0].version = 11
    check_exact(document, integers(3, 2, 4, 6, 6))
