"""Windows, padding, layouts and dense layers: everything equal to ONNX Runtime to the last bit."""

import numpy as np
import pytest

from amlrealtimeai import npu
from amlrealtimeai.npu.program import Window
from tests.npu.graphs import check_exact, integers, model, node, operations


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 1], "pads": [0, 1, 2, 1]},
        {"dilations": [2, 1], "pads": [2, 0, 1, 3]},
        {"strides": [3, 2], "dilations": [1, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
    ],
    ids=str,
)
def test_windows_of_convolutions(attributes):
    w = integers(10, 3, 5, 3, 2)
    check_exact(model([node("Conv", "x w", "y", **attributes)], [1, 5, 8, 7], {"w": w}), integers(11, 1, 5, 8, 7))


def test_an_image_is_blocked_by_filter_rows():
    graph = model(
        [node("Conv", "x w", "y", strides=[2, 2], pads=[3] * 4)], [1, 3, 9, 9], {"w": integers(1, 2, 3, 7, 7)}
    )
    program = check_exact(graph, integers(2, 1, 3, 9, 9, low=-120, high=120))
    matrix = program.matrices["y_node"]
    assert (matrix.blocking, matrix.mantissas.shape, matrix.channels) == ("rows", (2, 7, 1, 24), 3)


def test_rows_are_only_for_the_input_with_few_channels_and_no_dilation():
    nodes = [node("Conv", "x w", "a"), node("Conv", "a v", "y")]
    program = npu.compile(model(nodes, [1, 3, 5, 5], {"w": integers(1, 3, 3, 3, 3), "v": integers(1, 3, 3, 1, 1)}))
    assert [m.blocking for m in program.matrices.values()] == ["rows", "channels"]
    dilated = model([node("Conv", "x w", "y", dilations=[2, 2])], [1, 3, 5, 5], {"w": integers(1, 3, 3, 2, 2)})
    assert check_exact(dilated, integers(3, 1, 3, 5, 5)).matrices["y_node"].blocking == "channels"
    wide = model([node("Conv", "x w", "y")], [1, 5, 5, 5], {"w": integers(1, 3, 5, 3, 3)})
    assert npu.compile(wide).matrices["y_node"].blocking == "channels"


def test_a_zero_pad_joins_the_window_behind_it():
    nodes = [
        node("Pad", "x p", "q"),
        node("Conv", "q w", "c", pads=[0, 1, 0, 0]),
        node("Relu", "c", "r"),
        node("Pad", "r p2 zero", "s", mode="constant"),
        node("MaxPool", "s", "y", kernel_shape=[3, 3], strides=[2, 2]),
    ]
    constants = {
        "p": [0, 0, 2, 1, 0, 0, 1, 0],
        "p2": [0, 0, 1, 1, 0, 0, 1, 1],
        "zero": np.float32(0),
        "w": integers(1, 4, 5, 3, 3),
    }
    program = check_exact(model(nodes, [1, 5, 6, 6], constants), integers(2, 1, 5, 6, 6))
    assert operations(program) == ["rd mv_mul relu wr", "rd max wr"]
    assert program.chains[0].instructions[1].window == Window((3, 3), pads=(2, 2, 1, 0))
    assert program.chains[1].instructions[1].window == Window((3, 3), (2, 2), pads=(1, 1, 1, 1))


@pytest.mark.parametrize("value", [-3.0, 3.0])
def test_padding_of_max_pool_itself_never_wins(value):
    nodes = [
        node("Conv", "x w", "c"),
        node("MaxPool", "c", "y", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    ]
    graph = model(nodes, [1, 5, 4, 4], {"w": np.full((2, 5, 1, 1), value, np.float32)})
    check_exact(graph, integers(1, 1, 5, 4, 4, low=1, high=4))


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("kernel", [2, 3])
def test_max_pool_with_ceil_mode(size, pads, kernel):
    """With a kernel of 2 and pads, a last window that starts behind the data is left out."""
    pool = node("MaxPool", "c", "y", kernel_shape=[kernel] * 2, strides=[2, 2], pads=pads, ceil_mode=1)
    graph = model([node("Conv", "x w", "c"), pool], [1, 5, size, size], {"w": integers(1, 2, 5, 1, 1)})
    check_exact(graph, integers(2, 1, 5, size, size))


def test_average_pool():
    pool = node("AveragePool", "c", "y", kernel_shape=[2, 2], strides=[2, 2])
    program = check_exact(
        model([node("Conv", "x w", "c"), pool], [1, 5, 6, 6], {"w": integers(1, 2, 5, 1, 1)}),
        integers(2, 1, 5, 6, 6),
    )
    assert operations(program) == ["rd mv_mul wr", "rd avg wr"]


_ENDS = {
    "nchw": ([node("GlobalAveragePool", "c", "y")], "nchw", (1, 2, 1, 1)),
    "max": ([node("GlobalMaxPool", "c", "y")], "nchw", (1, 2, 1, 1)),
    "flatten": ([node("GlobalAveragePool", "c", "g"), node("Flatten", "g", "y")], "nc", (1, 2)),
    "squeeze": ([node("GlobalAveragePool", "c", "g"), node("Squeeze", "g axes", "y")], "nc", (1, 2)),
    "reshape": ([node("GlobalAveragePool", "c", "g"), node("Reshape", "g flat", "y")], "nc", (1, 2)),
    "mean": ([node("ReduceMean", "c", "y", axes=[-2, 3], keepdims=0)], "nc", (1, 2)),
    "keepdims": (
        [node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("ReduceMean", "t", "y", axes=[1, 2])],
        "nhwc",
        (1, 1, 1, 2),
    ),
    "identity": (
        [node("GlobalAveragePool", "c", "g"), node("Identity", "g", "i"), node("Cast", "i", "y", to=1)],
        "nchw",
        (1, 2, 1, 1),
    ),
    "unsqueeze": (
        [node("ReduceMean", "c", "g", axes=[2, 3], keepdims=0), node("Unsqueeze", "g one_two", "y")],
        "nhwc",
        (1, 1, 1, 2),
    ),
    "nhwc": ([node("Transpose", "c", "y", perm=[0, 2, 3, 1])], "nhwc", (1, 4, 4, 2)),
}


@pytest.mark.parametrize("end", _ENDS)
def test_outputs_keep_their_layout_and_shape(end):
    nodes, layout, shape = _ENDS[end]
    constants = {"w": integers(1, 2, 5, 1, 1), "axes": [2, 3], "flat": [-1, 2], "one_two": [1, 2]}
    graph = model([node("Conv", "x w", "c"), *nodes], [None, 5, 4, 4], constants)
    program = check_exact(graph, integers(2, 3, 5, 4, 4))
    assert program.output_ports[0].layout == layout
    assert program.outputs == [("y", shape)]


def test_reduce_mean_with_axes_as_an_input():
    nodes = [node("Conv", "x w", "c"), node("ReduceMean", "c axes", "y")]
    graph = model(nodes, [1, 5, 4, 4], {"w": integers(1, 2, 5, 1, 1), "axes": [2, 3]}, opset=18)
    check_exact(graph, integers(2, 1, 5, 4, 4))


def test_nhwc_input_with_transposes_around_every_operation():
    nodes = [
        node("Sub", "x mean", "d"),
        node("Transpose", "d", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w", "c"),
        node("Transpose", "c", "u", perm=[0, 2, 3, 1]),
        node("Add", "u bias", "v"),
        node("Relu", "v", "y"),
    ]
    constants = {"mean": np.float32([1, 2, 3]), "w": integers(1, 2, 3, 2, 2), "bias": np.float32([[[[3, -1]]]])}
    program = check_exact(model(nodes, ["n", 4, 5, 3], constants), integers(2, 2, 4, 5, 3))
    assert (program.input_ports[0].layout, program.inputs) == ("nhwc", [("x", (1, 4, 5, 3))])
    assert operations(program) == ["rd vv_add mv_mul vv_add relu wr"]


def test_transposed_weights_are_evaluated():
    nodes = [node("Transpose", "k", "w", perm=[3, 2, 0, 1]), node("Conv", "x w", "y")]
    check_exact(model(nodes, [1, 5, 4, 4], {"k": integers(1, 3, 2, 5, 2)}), integers(2, 1, 5, 4, 4))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_dense_layers_cover_what_was_flattened(layout):
    """VGG's fc6 and fc7: Flatten of NCHW (PyTorch) and of NHWC (TensorFlow) order the inputs differently."""
    nodes = [
        node("Conv", "x w", "c"),
        *([node("Transpose", "c", "t", perm=[0, 2, 3, 1])] if layout == "nhwc" else [node("Identity", "c", "t")]),
        node("Reshape", "t shape", "f"),
        node("Gemm", "f w6 b6", "d", transB=1),
        node("Relu", "d", "r"),
        node("MatMul", "r w7", "m"),
        node("Add", "m b7", "y"),
    ]
    constants = {
        "w": integers(1, 2, 5, 1, 1),
        "shape": [-1, 24],
        "w6": integers(2, 6, 24),
        "b6": np.float32([1, 2, 3, 4, 5, 6]),
        "w7": integers(3, 6, 2),
        "b7": np.float32([7, 8]),
    }
    program = check_exact(model(nodes, [1, 5, 3, 4], constants), integers(4, 1, 5, 3, 4))
    assert operations(program) == ["rd mv_mul wr", "rd mv_mul vv_add relu wr", "rd mv_mul vv_add wr"]
    assert program.matrices["d_node"].kernel == (3, 4)
    assert program.matrices["m_node"].kernel == (1, 1)


def test_flattening_with_an_unknown_batch_size():
    """PyTorch writes x.view(x.size(0), -1) as Shape, Gather, Unsqueeze, Concat, Reshape."""
    nodes = [
        node("Conv", "x w", "c"),
        node("Shape", "c", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n axis", "u"),
        node("Concat", "u rest", "t", axis=0),
        node("Reshape", "c t", "f"),
        node("Gemm", "f w6", "y"),
    ]
    constants = {
        "w": integers(1, 2, 5, 1, 1),
        "zero": np.int64(0),
        "axis": [0],
        "rest": [-1],
        "w6": integers(2, 18, 4),
    }
    check_exact(model(nodes, ["n", 5, 3, 3], constants), integers(4, 2, 5, 3, 3))


def test_matmul_on_channels_is_a_1x1_convolution():
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("MatMul", "t w", "y")]
    program = check_exact(model(nodes, [1, 5, 3, 3], {"w": integers(1, 5, 4)}), integers(2, 1, 5, 3, 3))
    assert program.output_ports[0].layout == "nhwc"


def test_a_network_of_dense_layers_has_a_flat_input():
    program = check_exact(model([node("Gemm", "x w", "y")], ["n", 6], {"w": integers(1, 6, 4)}), integers(2, 3, 6))
    assert program.inputs == [("x", (1, 6))]
