"""The reference against Python integers and fractions, and against pools and sums worked out by hand."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from amlrealtimeai import npu
from amlrealtimeai.npu import reference
from amlrealtimeai.npu.config import configs
from amlrealtimeai.npu.formats import BlockFormat
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Window
from tests.npu.graphs import integers, model, node


def exponent(values, fmt: BlockFormat) -> int:
    """Shared exponent by frexp; float32 subnormals count as zero."""
    largest = max(abs(float(v)) for v in values)
    lowest, highest = fmt.exponent_range
    return lowest if largest < 2.0**-126 else min(max(math.frexp(largest)[1] - 1, lowest), highest)


def mantissa(value, step: Fraction, fmt: BlockFormat) -> int:
    """Python's round() of a fraction goes to even."""
    limit = 2**fmt.mantissa_bits - 1
    return max(-limit, min(limit, round(Fraction(float(value)) / step)))


def step_of(e: int, fmt: BlockFormat) -> Fraction:
    return Fraction(2) ** (e - (fmt.mantissa_bits - 1))


def add(total: np.float32, dot: int, step: Fraction) -> np.float32:
    term = np.float32(float(dot * step))
    assert Fraction(float(term)) == dot * step  # the product is exact
    return np.float32(total + term)


def naive_by_channels(x, matrix: Matrix, window: Window, fmt: BlockFormat) -> np.ndarray:
    """Six loops over plain numbers; taps outside the image are left out."""
    height, width, channels = x.shape
    length = matrix.mantissas.shape[3]
    rows, columns = window.output_size(height, width)
    y = np.zeros((rows, columns, matrix.outputs), np.float32)
    for r, c, o in np.ndindex(y.shape):
        total = np.float32(0)
        for ky in range(window.kernel[0]):
            for kx in range(window.kernel[1]):
                i = r * window.strides[0] + ky * window.dilations[0] - window.pads[0]
                j = c * window.strides[1] + kx * window.dilations[1] - window.pads[1]
                if not (0 <= i < height and 0 <= j < width):
                    continue
                for b, first in enumerate(range(0, channels, length)):
                    block = x[i, j, first : first + length]
                    step = step_of(exponent(block, fmt), fmt)
                    tap = ky * window.kernel[1] + kx
                    weights = [int(q) for q in matrix.mantissas[o, tap, b]]
                    dot = sum(mantissa(v, step, fmt) * q for v, q in zip(block, weights, strict=False))
                    total = add(total, dot, step * step_of(int(matrix.exponents[o, tap, b]), fmt))
        y[r, c, o] = total
    return y


def naive_by_rows(x, matrix: Matrix, window: Window, fmt: BlockFormat) -> np.ndarray:
    """One block per filter row; one exponent for all of x."""
    height, width, channels = x.shape
    step = step_of(exponent(x.reshape(-1), fmt), fmt)
    rows, columns = window.output_size(height, width)
    y = np.zeros((rows, columns, matrix.outputs), np.float32)
    for r, c, o in np.ndindex(y.shape):
        total = np.float32(0)
        for ky in range(window.kernel[0]):
            i, dot = r * window.strides[0] + ky - window.pads[0], 0
            for kx, k in itertools.product(range(window.kernel[1]), range(channels)):
                j = c * window.strides[1] + kx - window.pads[1]
                if 0 <= i < height and 0 <= j < width:
                    dot += mantissa(x[i, j, k], step, fmt) * int(matrix.mantissas[o, ky, 0, kx * channels + k])
            total = add(total, dot, step * step_of(int(matrix.exponents[o, ky, 0]), fmt))
        y[r, c, o] = total
    return y


def random_matrix(rng, outputs: int, kernel, channels: int, fmt: BlockFormat, blocking: str = "channels") -> Matrix:
    empty = Matrix(np.zeros((outputs, 1, 1, 1), np.int8), np.zeros(1, np.int32), kernel, channels, blocking)
    shape = (outputs, *empty.expected_shape(fmt))
    limit = fmt.largest_mantissa
    mantissas = rng.integers(-limit, limit, shape, endpoint=True).astype(np.int8)
    used = channels if blocking == "channels" else kernel[1] * channels
    flat = mantissas.reshape(outputs, shape[1], -1)
    flat[:, :, used:] = 0
    low, high = fmt.exponent_range
    exponents = rng.integers(max(low, -6), min(high, 6), shape[:3], endpoint=True).astype(np.int32)
    return Matrix(mantissas, exponents, kernel, channels, blocking)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_every_pair_of_blocks_of_four_with_two_bits():
    """7**4 activation blocks times 7**4 weight blocks: 5.8 million dot products against integers."""
    fmt = BlockFormat(4, 2, 8)
    grid = np.array(list(itertools.product(range(-3, 4), repeat=4)), np.int64)
    matrix = Matrix(grid.astype(np.int8).reshape(2401, 1, 1, 4), np.full((2401, 1, 1), -4, np.int32), (1, 1), 4)
    image = (grid * 2.0**5).astype(np.float32).reshape(49, 49, 4)
    found = reference.mv_mul(image, matrix, Window((1, 1)), fmt).reshape(2401, 2401)
    # activations are q * 2**5; weights q * 2**(-4 - 1)
    np.testing.assert_array_equal(found, grid @ grid.T)


@pytest.mark.parametrize("m", range(1, 8))
def test_largest_dot_products_are_exact(m):
    """All mantissas at their limit in the longest block, with a sum that is odd: float32 must hold it."""
    fmt = BlockFormat(400, m, 8)
    limit = fmt.largest_mantissa
    matrix = Matrix(np.full((1, 1, 1, 400), limit, np.int8), np.zeros((1, 1, 1), np.int32), (1, 1), 400)
    image = np.full((1, 1, 400), limit / 2.0 ** (m - 1), np.float32)
    image[0, 0, 0] = (limit - 1) / 2.0 ** (m - 1)
    found = reference.mv_mul(image, matrix, Window((1, 1)), fmt)
    assert float(found[0, 0, 0]) * 4 ** (m - 1) == 400 * limit * limit - limit


WINDOWS = [
    Window((1, 1)),
    Window((3, 2), pads=(1, 0, 1, 1)),
    Window((2, 3), (2, 1), pads=(0, 2, 1, 0)),
    Window((2, 2), (1, 2), (2, 3), (1, 3, 2, 0)),
    Window((4, 5)),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("fmt", [BlockFormat(4, 1, 5), BlockFormat(8, 3, 5), BlockFormat(4, 7, 8)], ids=str)
def test_blocks_of_channels_against_six_loops(window, fmt):
    rng = np.random.default_rng(7)
    x = (rng.normal(size=(4, 5, 10)) * 2.0 ** rng.integers(-20, 20, (4, 5, 10))).astype(np.float32)
    x[0, 0] = 0
    x[1, 1, :4] = 1e-40
    matrix = random_matrix(rng, 3, window.kernel, 10, fmt)
    assert matrix.mantissas.shape[2] > 1
    assert_same_bits(reference.mv_mul(x, matrix, window, fmt), naive_by_channels(x, matrix, window, fmt))


@pytest.mark.parametrize("window", [w for w in WINDOWS if w.dilations == (1, 1)], ids=str)
@pytest.mark.parametrize("fmt", [BlockFormat(4, 1, 5), BlockFormat(128, 5, 5), BlockFormat(16, 7, 8)], ids=str)
def test_blocks_of_rows_against_loops(window, fmt):
    rng = np.random.default_rng(8)
    x = (rng.normal(size=(4, 5, 3)) * 100).astype(np.float32)
    matrix = random_matrix(rng, 3, window.kernel, 3, fmt, "rows")
    assert_same_bits(reference.mv_mul(x, matrix, window, fmt), naive_by_rows(x, matrix, window, fmt))


def test_taps_go_row_by_row_and_blocks_ascend_inside_a_tap():
    """Four terms, 2**24, 1, -2**24, 1, in the places that the order visits: 1 is lost first, kept last."""
    fmt = BlockFormat(4, 7, 8)
    mantissas = np.zeros((1, 4, 2, 4), np.int8)
    mantissas[..., 0] = 64  # 1.0
    matrix = Matrix(mantissas, np.zeros((1, 4, 2), np.int32), (2, 2), 8)
    big = 2.0**24
    for order, expected in {
        ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)): 1.0,  # blocks inside a tap, then the next tap
        ((0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1)): 1.0,  # kx before ky
        ((0, 0, 0), (1, 1, 1), (1, 0, 1), (1, 1, 0)): 2.0,  # visited as 2**24, -2**24, 1, 1
    }.items():
        x = np.zeros((2, 2, 8), np.float32)
        for (row, column, block), value in zip(order, (big, 1, -big, 1), strict=True):
            x[row, column, 4 * block] = value
        assert reference.mv_mul(x, matrix, Window((2, 2)), fmt).tolist() == [[[expected]]]


def test_padding_adds_nothing():
    fmt = BlockFormat(4, 7, 8)
    matrix = Matrix(np.full((1, 9, 1, 4), -64, np.int8), np.zeros((1, 9, 1), np.int32), (3, 3), 4)
    found = reference.mv_mul(np.full((1, 1, 4), 5, np.float32), matrix, Window((3, 3), pads=(1, 1, 1, 1)), fmt)
    assert found.tolist() == [[[-20.0]]]
    alone = reference.mv_mul(np.full((1, 1, 4), 5, np.float32), matrix, Window((3, 3), pads=(3, 3, 3, 3)), fmt)
    # the corner sees padding alone, whose sum is +0
    assert alone[0, 0, 0] == 0 and not np.signbit(alone[0, 0, 0])


def image(*rows) -> np.ndarray:
    return np.float32(rows)[..., None]


def test_max_pool_by_hand():
    x = image([-1, -2, -3], [-4, -5, -6], [-7, -8, -9])
    assert reference.v_max(x, Window((2, 2))).tolist() == [[[-1], [-2]], [[-4], [-5]]]
    padded = reference.v_max(x, Window((2, 2), (2, 2), pads=(1, 1, 0, 0)))
    assert padded.tolist() == [[[-1], [-2]], [[-4], [-5]]]
    assert reference.v_max(x, Window((2, 2), dilations=(2, 1))).tolist() == [[[-1], [-2]]]
    assert reference.v_max(x, Window((1, 3), (2, 1))).tolist() == [[[-1]], [[-7]]]


@pytest.mark.parametrize(("first", "second"), [(0.0, -0.0), (-0.0, 0.0)])
def test_max_pool_keeps_the_first_zero(first, second):
    found = reference.v_max(image([first, second]), Window((1, 2)))
    assert np.signbit(found[0, 0, 0]) == np.signbit(first)


def test_average_pool_sums_in_row_order_and_multiplies_with_the_reciprocal():
    # 2**24 + 1 = 2**24; - 2**24 = 0; + 1 = 1; a quarter of it. Column by column it would be 0.5
    assert reference.v_avg(image([2.0**24, 1], [-(2.0**24), 1]), Window((2, 2))).tolist() == [[[0.25]]]
    # 5 / 3 in float32 is 1.66666663; 5 * float32(1/3) is 1.66666675
    assert reference.v_avg(image([1, 3, 1]), Window((1, 3))).tolist() == [[[1.6666667461395264]]]
    assert reference.v_avg(image([1, 3, 2, 6]), Window((1, 2), (1, 2))).tolist() == [[[2], [4]]]


def program(*steps: Instruction, vectors=None, size=(1, 1, 4)) -> Program:
    chain = Chain("c", (Instruction("v_rd", ("x",)), *steps, Instruction("v_wr", ("y",))))
    ports = (Port("in", "x"),), (Port("out", "y"),)
    return Program("p", configs["bw_a10"], *ports, {"x": size, "y": size}, (chain,), {}, vectors or {})


def test_multiply_and_add_round_twice():
    """(1 + 2**-12)**2 = 1 + 2**-11 + 2**-24: a fused multiply-add would keep the last term."""
    g, b = np.full(4, 1 + 2.0**-12, np.float32), np.full(4, -(1 + 2.0**-11), np.float32)
    steps = Instruction("vv_mul", ("g",)), Instruction("vv_add", ("b",))
    found = npu.reference.run(program(*steps, vectors={"g": g, "b": b}), g.reshape(1, 1, 1, 4))
    assert found["out"].tolist() == [[[[0.0] * 4]]]


def test_relu_gives_plus_zero():
    found = npu.reference.run(program(Instruction("v_relu")), np.float32([-1, -0.0, 0, 2]).reshape(1, 1, 1, 4))["out"]
    assert found.reshape(-1).tolist() == [0, 0, 0, 2]
    assert not np.signbit(found).any()


def test_adding_a_tensor():
    found = npu.reference.run(program(Instruction("vv_add", ("x",))), np.float32([1, 2, 3, 4]).reshape(1, 1, 1, 4))
    assert found["out"].reshape(-1).tolist() == [2, 4, 6, 8]


def test_images_of_a_batch_do_not_touch_each_other():
    """The first layer's exponent is that of one image, not of the batch."""
    graph = model([node("Conv", "x w", "y")], ["n", 3, 4, 4], {"w": integers(1, 2, 3, 3, 3)})
    compiled = npu.compile(graph)
    x = np.concatenate([integers(2, 1, 3, 4, 4), integers(3, 1, 3, 4, 4) * 2.0**-12]).astype(np.float32)
    together = npu.reference.run(compiled, x)["y"]
    alone = [npu.reference.run(compiled, one[None])["y"][0] for one in x]
    assert_same_bits(together, np.stack(alone))
    assert np.abs(together[1]).max() > 0


def test_trace_holds_every_tensor():
    graph = model(
        [node("Conv", "x w", "a"), node("Relu", "a", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2]),
         node("GlobalAveragePool", "p", "y")],
        [1, 3, 4, 4],
        {"w": integers(1, 2, 3, 1, 1)},
    )  # fmt: skip
    traced = npu.reference.run(npu.compile(graph), integers(2, 2, 3, 4, 4), trace=True)
    shapes = {name: value.shape for name, value in traced.items()}
    assert shapes == {"x": (2, 4, 4, 3), "r": (2, 4, 4, 2), "p": (2, 3, 3, 2), "y": (2, 1, 1, 2)}
