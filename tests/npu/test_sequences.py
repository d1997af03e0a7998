"""Values with three axes: convolutions and pools along one direction, as ECA and signal networks have them."""

import numpy as np
import pytest

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError, UnsupportedError
from tests.npu.graphs import check_exact, integers, model, node, operations

W = integers(1, 6, 4, 3)
SEQUENCES = {
    "Conv": ([node("Conv", "x w", "y")], {"w": W}),
    "every attribute": (
        [node("Conv", "x w b", "y", strides=[2], dilations=[3], pads=[1, 4])],
        {"w": W, "b": integers(2, 6)},
    ),
    "SAME": ([node("Conv", "x w", "y", strides=[2], auto_pad="SAME_UPPER")], {"w": W}),
    "grouped": ([node("Conv", "x w", "y", group=2)], {"w": integers(2, 6, 2, 3)}),
    "depthwise": ([node("Conv", "x w", "y", group=4, pads=[1, 1])], {"w": integers(3, 4, 1, 3)}),
    "transposed": (
        [node("ConvTranspose", "x w", "y", strides=[3], pads=[1, 0], output_padding=[1])],
        {"w": integers(4, 4, 5, 4)},
    ),
    "Pad first": ([node("Pad", "x p", "q"), node("Conv", "q w", "y")], {"w": W, "p": [0, 0, 2, 0, 0, 1]}),
    "pools": (
        [
            node("Conv", "x w", "c"),
            node("MaxPool", "c", "m", kernel_shape=[3], strides=[2], pads=[1, 0]),
            node("AveragePool", "m", "a", kernel_shape=[2], strides=[2], ceil_mode=1),
            node("GlobalMaxPool", "a", "y"),
        ],
        {"w": W},
    ),
    "means": ([node("Conv", "x w", "c"), node("ReduceMax", "c", "y", axes=[2], keepdims=0)], {"w": W}),
    "norm": (
        [node("Conv", "x w", "c"), node("BatchNormalization", "c s s s v", "y", epsilon=0.0)],
        {"w": W, "s": np.float32([1, 2, 1, 2, 1, 2]), "v": np.float32([1, 4, 1, 4, 1, 1])},
    ),
    "flat": (
        [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("Gemm", "f g", "y")],
        {"w": W, "g": integers(5, 48, 3)},
    ),
    "with a gate": (
        [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("GlobalMaxPool", "r", "g"), node("Mul", "c g", "y")],
        {"w": W},
    ),
}


@pytest.mark.parametrize("case", SEQUENCES)
def test_a_sequence_is_an_image_of_one_row(case):
    nodes, constants = SEQUENCES[case]
    program = check_exact(model(nodes, ["n", 4, 10], constants), integers(7, 2, 4, 10, low=-3, high=3))
    x = integers(8, 2, 4, 10)
    found = npu.Native(program, threads=2).run(x)["y"]
    assert found.tobytes() == npu.reference.run(program, x)["y"].tobytes()


def test_a_sequence_costs_no_rearrangement():
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Conv", "r v", "y")]
    program = npu.compile(model(nodes, ["n", 4, 10], {"w": W, "v": integers(2, 5, 6, 3)}))
    assert operations(program) == ["rd mv_mul relu wr", "rd mv_mul wr"]


def test_channel_attention_along_the_channels():
    """ECA: what is left of each channel is a sequence itself."""
    nodes = [
        node("Conv", "x w", "c"),
        node("GlobalMaxPool", "c", "g"),
        node("Reshape", "g a", "s"),
        node("Conv", "s v", "t", pads=[1, 1]),
        node("Reshape", "t b", "u"),
        node("Mul", "c u", "y"),
    ]
    constants = {"w": integers(1, 6, 4, 3, 3), "v": integers(2, 1, 1, 3), "a": [-1, 1, 6], "b": [-1, 6, 1, 1]}
    check_exact(model(nodes, ["n", 4, 8, 8], constants), integers(7, 2, 4, 8, 8))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"strides": [1, 1]}, r"its attribute strides is \[1, 1\], expected 1 "),
        ({"pads": [1]}, r"its attribute pads is \[1\], expected 2 "),
        ({"kernel_shape": [3, 3]}, r"its attribute kernel_shape is \[3, 3\], expected 1 "),
    ],
)
def test_attributes_with_too_few_or_many_numbers_are_named(attributes, said):
    with pytest.raises(InvalidInputError, match=rf"node y_node \(Conv\): {said}"):
        npu.compile(model([node("Conv", "x w", "y", **attributes)], [1, 4, 10], {"w": W}))


def test_three_directions_are_for_the_host():
    document = model(
        [node("Conv", "x w", "c"), node("Unsqueeze", "c a", "u"), node("Conv", "u v", "y")],
        [1, 4, 8, 8],
        {"w": integers(1, 4, 4, 3, 3), "a": [2], "v": integers(1, 4, 4, 1, 3, 3)},
    )
    with pytest.raises(UnsupportedError, match=r"node y_node \(Conv\): its input has the axes .* three or four axes"):
        npu.compile(document)
