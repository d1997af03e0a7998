"""The spellings of one thing that exporters write, each equal to ONNX Runtime to the last bit (data are integers)."""

import numpy as np
import onnx
import pytest

from amlrealtimeai import npu
from tests.npu.graphs import EXACT, check_exact, floats, integers, model, node
from tests.npu.random_graphs import difference

W = integers(1, 4, 4, 3, 3)
CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
PADS = [0, 0, 1, 2, 0, 0, 0, 1]


def behind_conv(*nodes: onnx.NodeProto, opset: int = 15, batch: int | str = "n", **constants) -> onnx.ModelProto:
    return model([CONV, *nodes], [batch, 4, 6, 6], {"w": W, **constants}, opset=opset)


def channels(*values: float) -> np.ndarray:
    return np.float32(values).reshape(-1, 1, 1)


FOUR = channels(1, -2, 3, 2)
BEHIND_CONV = {
    "constant - x": behind_conv(node("Sub", "k c", "y"), k=FOUR),
    "Neg": behind_conv(node("Neg", "c", "y")),
    "Abs": behind_conv(node("Abs", "c", "y")),
    "Div by a number": behind_conv(node("Div", "c k", "y"), k=np.float32(4)),
    "Mul first": behind_conv(node("Mul", "k c", "y"), k=np.float32([[[[3]]]])),
    "Sub of tensors": behind_conv(node("Relu", "c", "r"), node("Sub", "c r", "y")),
    "Sum": behind_conv(node("Relu", "c", "r"), node("Sum", "c r k c", "y"), k=FOUR),
    "Sum of one": behind_conv(node("Sum", "c", "y")),
    "Mean": behind_conv(node("Relu", "c", "r"), node("Mean", "c r c c", "y")),
    "Max with 0": behind_conv(node("Max", "c k", "y"), k=np.float32(0)),
    "0 first in Max": behind_conv(node("Max", "k c", "y"), k=np.float32([0])),
    "Max of three": behind_conv(node("Max", "k c k2", "y"), k=np.float32(-3), k2=np.float32(2)),
    "Min": behind_conv(node("Min", "c k", "y"), k=np.float32(2)),
    "Clip from 0": behind_conv(node("Clip", "c k", "y"), k=np.float32(0)),
    "Clip to infinity": behind_conv(node("Clip", "c k inf", "y"), k=np.float32(0), inf=np.float32(np.inf)),
    "Clip to the largest": behind_conv(node("Clip", "c k l", "y"), k=np.float32(0), l=np.finfo(np.float32).max),
    "Clip of old opsets": behind_conv(node("Clip", "c", "y", min=0.0, max=6.0), opset=10),
    "ReLU6": behind_conv(node("Clip", "c k six", "y"), k=np.float32(0), six=np.float32(6)),
    "Clip above only": behind_conv(node("Clip", "c  six", "y"), six=np.float32(6)),
    "Clip with no limits": behind_conv(node("Clip", "c", "y")),
    "LeakyRelu": behind_conv(node("LeakyRelu", "c", "y", alpha=0.25)),
    "PRelu": behind_conv(node("PRelu", "c k", "y"), k=channels(0.5, 2, -1, 0)),
    "PRelu with one slope": behind_conv(node("PRelu", "c k", "y"), k=np.float32([0.5])),
    "ThresholdedRelu": behind_conv(node("ThresholdedRelu", "c", "y", alpha=2.0)),
    "ThresholdedRelu at 0": behind_conv(node("ThresholdedRelu", "c", "y", alpha=0.0)),
    "Pow 2": behind_conv(node("Pow", "c k", "y"), k=np.float32(2)),
    "Pow 1": behind_conv(node("Pow", "c k", "y"), k=np.float32([1])),
    "product": behind_conv(node("Relu", "c", "r"), node("Mul", "c r", "y")),
    "gate": behind_conv(node("GlobalMaxPool", "c", "g"), node("Mul", "c g", "y")),
    "gate first": behind_conv(node("GlobalMaxPool", "c", "g"), node("Mul", "g c", "y")),
    "spatial gate": behind_conv(node("Conv", "c v", "s"), node("Mul", "c s", "y"), v=integers(2, 1, 4, 1, 1)),
    "added vector": behind_conv(node("GlobalMaxPool", "c", "g"), node("Add", "g c", "y")),
    "Where of a constant": behind_conv(node("Where", "t k c", "y"), t=np.bool_([False]), k=np.float32(9)),
    "Cast there and back": behind_conv(node("Cast", "c", "d", to=11), node("Cast", "d", "y", to=1)),
    "Dropout at inference": behind_conv(node("Dropout", "c r t", "y"), r=np.float32(0.5), t=np.bool_(False)),
    "ReduceMax h then ReduceSum w": behind_conv(
        node("ReduceMax", "c", "h", axes=[2], keepdims=1), node("ReduceSum", "h a", "y", keepdims=1), a=[3]
    ),
    "ReduceMax w then ReduceMin h": behind_conv(
        node("ReduceMax", "c", "h", axes=[-1], keepdims=0), node("ReduceMin", "h", "y", axes=[2], keepdims=0)
    ),
    "ReduceMean of one": behind_conv(node("ReduceMax", "c", "y", axes=[2], keepdims=0)),
    "ReduceSum": behind_conv(node("ReduceSum", "c a", "y"), a=[2, 3]),
    "ReduceMin": behind_conv(node("ReduceMin", "c", "y", axes=[2, 3])),
    "ReduceMax of NHWC": behind_conv(
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("ReduceMax", "t", "y", axes=[1, 2], keepdims=0)
    ),
    "mean over tokens": behind_conv(
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
        node("Reshape", "t s", "r"),
        node("ReduceMax", "r", "y", axes=[1], keepdims=0),
        s=[0, -1, 4],
    ),
    "Pad, Relu": behind_conv(node("Pad", "c p", "q"), node("Relu", "q", "y"), p=PADS),
    "Pad, Add": behind_conv(node("Pad", "c p", "q"), node("Add", "q k", "y"), p=PADS, k=FOUR),
    "Pad, AveragePool": behind_conv(
        node("Pad", "c p", "q"), node("AveragePool", "q", "y", kernel_shape=[2, 2], strides=[2, 2]), p=PADS
    ),
    "Pad, MaxPool of anything": behind_conv(
        node("Pad", "c p", "q"), node("MaxPool", "q", "y", kernel_shape=[3, 3], strides=[2, 2]), p=PADS
    ),
    "Pad, GlobalMaxPool": behind_conv(node("Pad", "c p", "q"), node("GlobalMaxPool", "q", "y"), p=PADS),
    "Pad as output": behind_conv(node("Pad", "c p", "y"), p=PADS),
    "Pad with 7": behind_conv(node("Pad", "c p k", "y"), p=PADS, k=np.float32(7)),
    "Pad of channels": behind_conv(node("Pad", "c p", "y"), p=[0, 1, 0, 0, 0, 2, 0, 0]),
    "Pad crops": behind_conv(node("Pad", "c p", "y"), p=[0, 0, -1, 2, 0, 0, -2, -1]),
    "Pad reflects": behind_conv(node("Pad", "c p", "y", mode="reflect"), p=PADS),
    "Pad with edges": behind_conv(node("Pad", "c p", "y", mode="edge"), p=PADS),
    "Pad with axes": behind_conv(node("Pad", "c p k a", "y"), p=[1, 2], k=np.float32(0), a=[-2], opset=18),
    "Pad of one row": behind_conv(
        node("ReduceMax", "c", "m", axes=[2]), node("Pad", "m p", "q"), node("Conv", "q w", "y"), p=[0, 0, 1, 1] * 2
    ),
    "Pad of one pixel": behind_conv(
        node("GlobalMaxPool", "c", "m"), node("Pad", "m p", "q"), node("Conv", "q w", "y"), p=[0, 0, 1, 1] * 2
    ),
    "Pad of a transposed pixel": behind_conv(
        node("GlobalMaxPool", "c", "m"),
        node("Pad", "m p", "q"),
        node("Transpose", "q", "t", perm=[0, 1, 3, 2]),
        node("Relu", "t", "y"),
        p=[0, 0, 0, 1, 0, 0, 0, 0],
    ),
    "Flatten as output": behind_conv(node("Flatten", "c", "y")),
    "flat NHWC as output": behind_conv(
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Reshape", "t s", "y"), s=[-1, 144]
    ),
    "Transpose as output": behind_conv(node("Transpose", "c", "y", perm=[0, 3, 1, 2])),
    "Concat of flat tensors": behind_conv(
        node("Flatten", "c", "f"),
        node("GlobalMaxPool", "c", "g"),
        node("Flatten", "g", "h"),
        node("Concat", "f h f", "y", axis=1),
    ),
    "boxes": behind_conv(
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
        node("Reshape", "t s", "b"),
        node("MaxPool", "c", "m", kernel_shape=[2, 2]),
        node("Transpose", "m", "u", perm=[0, 2, 3, 1]),
        node("Reshape", "u s", "d"),
        node("Concat", "b d", "y", axis=1),
        s=[0, -1, 2],
    ),
    "Concat of one": behind_conv(node("Concat", "c", "y", axis=1)),
    "Concat of NHWC": behind_conv(
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Relu", "t", "r"), node("Concat", "t r", "y", axis=-1)
    ),
    "Concat of rows of NHWC": behind_conv(
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Relu", "t", "r"), node("Concat", "t r", "y", axis=1)
    ),
    "Concat of rows": behind_conv(node("Relu", "c", "r"), node("Concat", "c r", "y", axis=2)),
    "Reshape that cuts unevenly": behind_conv(node("Reshape", "c s", "y"), s=[-1, 9, 16]),
    "Reshape to the same": behind_conv(node("Reshape", "c s", "y"), s=[0, 0, 0, -1]),
    "BatchNorm of [n, c]": behind_conv(
        node("GlobalMaxPool", "c", "g"),
        node("Flatten", "g", "f"),
        node("BatchNormalization", "f s s s v", "y", epsilon=1.0),
        s=np.float32([1, 2, 3, 4]),
        v=np.float32([3, 0, 3, 15]),
    ),
    "Gemm with alpha and beta": behind_conv(
        node("Flatten", "c", "f"),
        node("Gemm", "f g b", "y", alpha=0.5, beta=2.0),
        g=integers(1, 144, 2),
        b=np.float32([[1, 2]]),
    ),
    "channels of flat values": behind_conv(
        node("Reshape", "c s", "r"),
        node("Mul", "r k", "m"),
        node("Reshape", "m t", "y"),
        s=[0, 2, 2, -1],
        t=[0, 4, 6, 6],
        k=np.float32([[1, 2], [3, 4]]).reshape(2, 2, 1),
    ),
    "Slice of channels": behind_conv(node("Slice", "c b e a", "y"), b=[1], e=[3], a=[1]),
    "Slice with steps": behind_conv(
        node("Slice", "c b e a s", "y"), b=[-1, 1], e=[-(2**63), 2**63 - 1], a=[2, 3], s=[-2, 2]
    ),
    "Slice of old opsets": behind_conv(node("Slice", "c", "y", starts=[0, 1], ends=[1, 99], axes=[1, 2]), opset=9),
    "Split": behind_conv(node("Split", "c s", "p q", axis=1), node("Concat", "q p", "y", axis=1), s=[1, 3]),
    "Split evenly": behind_conv(node("Split", "c", "p q", axis=-1), node("Add", "q p", "y")),
    "Gather": behind_conv(node("Gather", "c i", "y", axis=1), i=[2, 0, -1, 2]),
    "Gather of one": behind_conv(node("Gather", "c i", "y", axis=1), i=np.int64(3)),
    "shuffle": behind_conv(
        node("Reshape", "c s", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "t u", "q"),
        node("Conv", "q w", "y"),
        s=[0, 2, 2, 6, 6],
        u=[0, 4, 6, 6],
    ),
    "Expand": behind_conv(node("GlobalMaxPool", "c", "g"), node("Expand", "g s", "y"), s=[1, 4, 3, 2]),
    "Tile": behind_conv(node("Tile", "c s", "y"), s=[1, 2, 1, 3]),
    "DepthToSpace": behind_conv(node("DepthToSpace", "c", "y", blocksize=2)),
    "DepthToSpace by columns": behind_conv(node("DepthToSpace", "c", "y", blocksize=2, mode="CRD")),
    "SpaceToDepth": behind_conv(node("SpaceToDepth", "c", "d", blocksize=3), node("Relu", "d", "y")),
    "Upsample": behind_conv(node("Upsample", "c k", "y"), k=np.float32([1, 1, 2, 3]), opset=9),
    "ConvTranspose": behind_conv(
        node("ConvTranspose", "c v b", "y", strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0]),
        v=integers(3, 4, 2, 3, 2),
        b=np.float32([1, 2]),
    ),
    "grouped ConvTranspose": behind_conv(
        node("ConvTranspose", "c v", "y", group=2, dilations=[2, 1], pads=[2, 0, 2, 0]), v=integers(3, 4, 3, 3, 3)
    ),
    "grouped": behind_conv(node("Conv", "c v", "y", group=2, pads=[1, 0, 1, 0]), v=integers(4, 6, 2, 3, 3)),
    "depthwise": behind_conv(
        node("Conv", "c v b", "y", group=4, pads=[1] * 4), v=integers(4, 4, 1, 3, 3), b=np.float32([1, 2, 3, 4])
    ),
    "depthwise with a multiplier": behind_conv(
        node("Conv", "c v", "y", group=4, strides=[2, 1], dilations=[1, 2]), v=integers(4, 12, 1, 3, 2)
    ),
    "depthwise, BatchNorm": behind_conv(
        node("Conv", "c v", "d", group=4),
        node("BatchNormalization", "d s s s u", "e", epsilon=1.0),
        node("Relu", "e", "y"),
        v=integers(4, 4, 1, 3, 3),
        s=np.float32([1, 2, 3, 4]),
        u=np.float32([3, 0, 3, 15]),
    ),
    "constants of any operation": behind_conv(
        node("Shape", "c", "s"),
        node("Size", "w", "z"),
        node("Cast", "z", "f", to=1),
        node("Exp", "o", "e"),
        node("Tile", "e r", "t"),
        node("Reshape", "t q", "k"),
        node("Mul", "c k", "m"),
        node("Sub", "m f", "y"),
        o=np.float32([0]),
        r=[4],
        q=[4, 1, 1],
    ),
    "quantised weights": behind_conv(
        node("DequantizeLinear", "q s", "v"),
        node("Conv", "c v", "y"),
        q=integers(3, 2, 4, 1, 1, low=-100, high=100).astype(np.int8),
        s=np.float32(0.5),
    ),
}


@pytest.mark.parametrize("case", BEHIND_CONV)
def test_a_spelling_behind_a_convolution(case):
    document = BEHIND_CONV[case]
    x = integers(2, 2, 4, 6, 6)
    program = npu.compile(document, fmt=EXACT)
    ((name, expected),) = floats(document, x).items()
    for run in (npu.reference.run(program, x), npu.Native(program, threads=2).run(x)):
        assert run[name].shape == expected.shape
        np.testing.assert_array_equal(run[name], expected)
    assert np.abs(expected).max() > 0


IMAGE = integers(5, 2, 8, 8, 3, low=-20, high=20)
FIRST = {
    "scale": [node("Mul", "t k", "m")],
    "scale and shift": [node("Sub", "t k", "s"), node("Div", "s two", "m")],
    "BatchNorm": [node("BatchNormalization", "t three three three v", "m", epsilon=1.0)],
    "Relu": [node("Relu", "t", "m")],
    "other channels first": [node("Gather", "t back", "m", axis=1)],
    "Slice backwards": [node("Slice", "t last end c back1", "m")],
    "one channel of three": [node("Slice", "t zero one_i c", "s"), node("Concat", "s s s", "m", axis=1)],
}


@pytest.mark.parametrize("case", FIRST)
def test_normalisation_before_the_first_convolution(case):
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), *FIRST[case], node("Conv", "m w", "y", pads=[1] * 4)]
    constants = {
        "k": np.float32([0.5, 2, 1]).reshape(3, 1, 1),
        "two": np.float32(2),
        "three": np.float32([1, 2, 3]),
        "v": np.float32([3, 0, 3]),
        "w": integers(1, 5, 3, 3, 3),
        "back": [2, 1, 0],
        "last": [-1],
        "end": [-4],
        "c": [1],
        "back1": [-1],
        "zero": [0],
        "one_i": [1],
    }
    program = npu.compile(model(nodes, ["n", 8, 8, 3], constants), fmt=EXACT)
    expected = floats(model(nodes, ["n", 8, 8, 3], constants), IMAGE)["y"]
    for run in (npu.reference.run(program, IMAGE), npu.Native(program).run(IMAGE)):
        np.testing.assert_array_equal(run["y"], expected)


_CNN = [
    node("Conv", "i w", "c", strides=[2, 2]),
    node("Relu", "c", "r"),
    node("Flatten", "r", "f"),
    node("Gemm", "f g", "y"),
]
_MLP = [node("Gemm", "i g", "y")]
GREY = {
    "Reshape of NHWC": ([1, 7, 7, 1], [node("Reshape", "x s", "i"), *_CNN]),
    "Transpose of NHWC": ([1, 7, 7, 1], [node("Transpose", "x", "i", perm=[0, 3, 1, 2]), *_CNN]),
    "NCHW": ([1, 1, 7, 7], [node("Identity", "x", "i"), *_CNN]),
    "flat": (["n", 49], [node("Reshape", "x s", "i"), *_CNN]),
    "flat, scaled": (["n", 49], [node("Mul", "x half", "h"), node("Reshape", "h s", "i"), *_CNN]),
    "flat to NHWC": (["n", 49], [node("Reshape", "x s4", "h"), node("Transpose", "h", "i", perm=[0, 3, 1, 2]), *_CNN]),
    "Unsqueeze": (["n", 7, 7], [node("Unsqueeze", "x one", "i"), *_CNN]),
    "Unsqueeze last": (
        ["n", 7, 7],
        [node("Unsqueeze", "x three", "h"), node("Transpose", "h", "i", perm=[0, 3, 1, 2]), *_CNN],
    ),
    "scaled, flattened, dense": (["n", 7, 7, 1], [node("Mul", "x half", "h"), node("Flatten", "h", "i"), *_MLP]),
    "flattened, dense": (["n", 7, 7], [node("Flatten", "x", "i"), *_MLP]),
    "flat, dense": (["n", 49], [node("Add", "x half", "i"), *_MLP]),
}


@pytest.mark.parametrize("case", GREY)
def test_grey_and_flat_inputs(case):
    shape, nodes = GREY[case]
    constants = {
        "s": [-1, 1, 7, 7],
        "s4": [-1, 7, 7, 1],
        "one": [1],
        "three": [3],
        "half": np.float32(0.5),
        "w": integers(1, 2, 1, 3, 3),
        "g": integers(3, 49 if nodes[-1].input[0] == "i" else 18, 5),
    }
    document = model(nodes, shape, constants)
    x = integers(2, 3 if shape[0] == "n" else 1, *shape[1:], low=-9, high=9)
    program = check_exact(document, x)
    np.testing.assert_array_equal(npu.Native(program).run(x)["y"], floats(document, x)["y"])
    assert all(
        instruction.op not in ("v_pick", "v_shape") for chain in program.chains for instruction in chain.instructions
    )


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
@pytest.mark.parametrize("size", [5, 6])
def test_average_pool_with_padding_and_ceil_mode(include, ceil, pads, size):
    pool = node(
        "AveragePool",
        "c",
        "y",
        kernel_shape=[3, 2],
        strides=[2, 2],
        pads=pads,
        ceil_mode=ceil,
        count_include_pad=include,
    )
    document = model([CONV, pool], [1, 4, size, size], {"w": W}, opset=19)
    x = integers(3, 1, 4, size, size)
    program = npu.compile(document, fmt=EXACT)
    expected = floats(document, x)["y"]
    for run in (npu.reference.run(program, x), npu.Native(program).run(x)):
        np.testing.assert_allclose(run["y"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("how", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("sizes", [(12, 12), (9, 3), (5, 13)])
def test_resize(mode, how, sizes):
    given = {"z": [1, 4, *sizes], "e": np.zeros(0, np.float32)}
    document = behind_conv(
        node("Resize", "c e e z", "y", mode=mode, coordinate_transformation_mode=how), **given, opset=18, batch=1
    )
    x = integers(3, 1, 4, 6, 6)
    program = npu.compile(document, fmt=EXACT)
    expected = floats(document, x)["y"]
    for run in (npu.reference.run(program, x), npu.Native(program).run(x)):
        np.testing.assert_allclose(run["y"], expected, rtol=1e-5, atol=1e-5)


CURVES = {
    "Sigmoid": [node("Sigmoid", "c", "y")],
    "SiLU": [node("Sigmoid", "c", "s"), node("Mul", "c s", "y")],
    "HardSigmoid": [node("HardSigmoid", "c", "y", alpha=0.125)],
    "HardSwish": [node("HardSwish", "c", "y")],
    "HardSwish of two": [node("HardSigmoid", "c", "s", alpha=1 / 6), node("Mul", "s c", "y")],
    "HardSwish of four": [
        node("Add", "c three", "a"),
        node("Clip", "a zero six", "b"),
        node("Mul", "c b", "d"),
        node("Div", "d six", "y"),
    ],
    "LRN": [node("LRN", "c", "y", size=3, alpha=0.5, beta=0.75, bias=2.0)],
    "squeeze and excite": [
        node("GlobalAveragePool", "c", "g"),
        node("Conv", "g v", "h"),
        node("Relu", "h", "r"),
        node("Conv", "r v", "i"),
        node("Sigmoid", "i", "j"),
        node("Mul", "c j", "y"),
    ],
}


@pytest.mark.parametrize("case", CURVES)
def test_curves(case):
    constants = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6), "v": integers(7, 4, 4, 1, 1) / 8}
    document = behind_conv(*CURVES[case], **constants)
    x = integers(3, 2, 4, 6, 6) / 4
    program = npu.compile(document, fmt=EXACT)
    expected = floats(document, x)["y"]
    for run in (npu.reference.run(program, x), npu.Native(program).run(x)):
        np.testing.assert_allclose(run["y"], expected, rtol=2e-2 if "excite" in case else 3e-6, atol=1e-6)
    ops = [i.op for chain in program.chains for i in chain.instructions]
    assert ("v_silu" in ops) == (case == "SiLU") and ("v_hswish" in ops) == (case in ("HardSwish", "HardSwish of two"))


def test_broadcasting_of_old_opsets_goes_by_the_named_axis():
    add = node("Add", "t b", "y", broadcast=1, axis=3)
    document = model(
        [CONV, node("Transpose", "c", "t", perm=[0, 2, 3, 1]), add],
        [1, 4, 6, 6],
        {"w": W, "b": np.float32([1, 2, 3, 4])},
        opset=6,
    )
    x = integers(3, 1, 4, 6, 6)
    new = behind_conv(
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Add", "t b", "y"), b=np.float32([1, 2, 3, 4])
    )
    np.testing.assert_array_equal(npu.reference.run(npu.compile(document, fmt=EXACT), x)["y"], floats(new, x)["y"])
    along = model(
        [CONV, node("Add", "c b", "y", broadcast=1, axis=1)],
        [1, 4, 6, 6],
        {"w": W, "b": np.float32([1, 2, 3, 4])},
        opset=6,
    )
    spread = behind_conv(node("Add", "c b", "y"), b=np.float32([1, 2, 3, 4]).reshape(4, 1, 1))
    np.testing.assert_array_equal(npu.reference.run(npu.compile(along, fmt=EXACT), x)["y"], floats(spread, x)["y"])


def test_random_graphs_equal_onnx_runtime():
    for seed in range(60):
        assert difference(seed) is None


@pytest.mark.parametrize("name", ["depthwise", "depthwise with a multiplier", "depthwise, BatchNorm"])
def test_a_depthwise_convolution_is_the_vector_units_work_in_float32(name):
    program = npu.compile(BEHIND_CONV[name], fmt=EXACT)
    assert [i.op for i in program.chains[1].instructions][:2] == ["v_rd", "v_filter"]
