"""The TensorFlow quantiser against amlrealtimeai.npu, to the last bit."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai import npu
from amlrealtimeai.accel.models import quantizer
from amlrealtimeai.npu import BlockFormat

FORMATS = [*npu.formats.values(), BlockFormat(4, 1, 8), BlockFormat(400, 7, 5)]


def evaluate(build, value):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, value.shape)
        return session.run(build(x), {x: value})


def reference(value, fmt):
    """Quantised along the last axis by NumPy."""
    mantissas, exponents = npu.quantize(value, fmt)
    return npu.dequantize(mantissas, exponents, fmt)


def hard_values(shape, seed=0):
    """Random magnitudes from 2^-60 to 2^40, zeros, subnormals, halfway points, and neighbours of powers of two."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * np.exp2(rng.integers(-60, 40, (*shape[:-1], 1)))
    flat = values.astype(np.float32).ravel()
    powers = np.exp2(np.arange(-40, 40)).astype(np.float32)
    special = np.concatenate(
        [np.zeros(8), [1e-40, -1e-40], powers, np.nextafter(powers, 0), np.nextafter(powers, np.inf), powers * 1.5]
    ).astype(np.float32)
    flat[rng.choice(flat.size, special.size, replace=False)] = special * rng.choice([-1, 1], special.size)
    return flat.reshape(shape)


def assert_same_bits(got, expected):
    assert got.dtype == np.float32
    # adding zero makes -0 and 0 one: a mantissa has no signed zero
    assert np.array_equal((got + 0).view(np.int32), (expected + 0).view(np.int32))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.block}-{fmt.mantissa_bits}-{fmt.exponent_bits}")
@pytest.mark.parametrize("channels", [3, 64, 130])
def test_activations(fmt, channels):
    value = hard_values((2, 5, 7, 16 * channels))[..., :channels].copy()

    assert_same_bits(evaluate(lambda x: quantizer.quantize_channels(x, fmt), value), reference(value, fmt))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.block}-{fmt.mantissa_bits}-{fmt.exponent_bits}")
def test_kernels_in_blocks_of_input_channels(fmt):
    value = hard_values((3, 3, 130, 8))

    expected = np.swapaxes(reference(np.ascontiguousarray(np.swapaxes(value, 2, 3)), fmt), 2, 3)
    assert_same_bits(evaluate(lambda x: quantizer.quantize_kernel(x, fmt), value), expected)


def test_a_first_kernel_has_one_block_per_filter_row():
    fmt = BlockFormat(128, 5, 5)
    value = hard_values((7, 7, 3, 64))

    rows = np.ascontiguousarray(value.transpose(0, 3, 1, 2)).reshape(7, 64, 21)
    expected = reference(rows, fmt).reshape(7, 64, 7, 3).transpose(0, 2, 3, 1)
    assert_same_bits(evaluate(lambda x: quantizer.quantize_image_kernel(x, fmt), value), expected)


def test_a_filter_row_stays_one_block_in_a_shorter_format():
    fmt = BlockFormat(16, 3, 8)
    value = np.full((1, 7, 3, 1), 0.25, np.float32)
    value[0, 0, 0, 0] = 8.0

    assert_same_bits(
        evaluate(lambda x: quantizer.quantize_image_kernel(x, fmt), value), np.where(value == 8.0, value, np.float32(0))
    )


def test_every_image_has_its_own_exponent():
    fmt = BlockFormat(16, 3, 8)
    value = np.stack([np.full((2, 2, 3), 100.0), np.full((2, 2, 3), 0.3)]).astype(np.float32)
    value[0, 0, 0, 0] = 7.0

    result = evaluate(lambda x: quantizer.quantize_images(x, fmt), value)

    assert result[0, 0, 0, 0] == 0.0  # a step is 16
    assert result[0, 1, 1, 2] == 96.0
    assert (result[1] == np.float32(0.3125)).all()  # a step is 1/16


def test_worked_by_hand():
    """Largest 2.9: E = 1, three mantissa bits: a step is 0.5; 0.25 and 0.75 are halfway and round to even."""
    value = np.array([[[[1.0, 0.3, -0.45, 2.9]], [[0.25, 0.75, -0.75, 2.0]]]], np.float32)

    result = evaluate(lambda x: quantizer.quantize_channels(x, BlockFormat(4, 3, 8)), value)

    assert result.tolist() == [[[[1.0, 0.5, -0.5, 3.0]], [[0.0, 1.0, -1.0, 2.0]]]]


def test_the_gradient_passes_except_where_the_mantissa_saturates():
    """3.9 would need mantissa 8 of at most 7."""
    fmt = BlockFormat(4, 3, 8)
    value = np.array([[[[3.9, 3.5, -3.9, 0.1]]]], np.float32)
    upstream = np.array([[[[1.0, 2.0, 3.0, 4.0]]]], np.float32)

    def gradient(x):
        y = quantizer.quantize_channels(x, fmt)
        return [y, tf.gradients(y, x, grad_ys=[tf.constant(upstream)])[0]]

    quantized, slope = evaluate(gradient, value)
    assert quantized.tolist() == [[[[3.5, 3.5, -3.5, 0.0]]]]
    assert slope.tolist() == [[[[0.0, 2.0, 0.0, 4.0]]]]


def test_beyond_the_exponent_range_values_saturate_or_vanish():
    fmt = BlockFormat(4, 5, 5)
    value = np.array([[[[1e30, -1e30, 1.0, 0.0]], [[1e-9, -1e-9, 0.0, 0.0]]]], np.float32)

    result = evaluate(lambda x: quantizer.quantize_channels(x, fmt), value)

    assert result.tolist() == [[[[126976.0, -126976.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]]]


def test_a_quantiser_is_marked_by_its_scope():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4, 4, 8], name="x")
        with tf.name_scope("layer"):
            result = quantizer.quantize_channels(x, npu.formats["bw_cnn"])

        assert result.name == "layer/bfp_quantize/output:0"
        start = graph.get_operation_by_name("layer/bfp_quantize/input")
        assert (start.type, start.inputs[0].name) == ("Identity", "x:0")
        assert result.op.type == "Identity"
        assert result.shape.as_list() == [None, 4, 4, 8]
