"""Block floating point in a TensorFlow graph: the values of amlrealtimeai.npu.quantize, bit for bit, with a gradient.

Every quantiser is a name scope that ends in "bfp_quantize"; it starts at the Identity "<scope>/input" and ends at the
Identity "<scope>/output", so that a converter can take it out again.
"""

from collections.abc import Callable

import tensorflow.compat.v1 as tf

from amlrealtimeai.npu.formats import BlockFormat

_EXPONENT_BIAS = 127
_FRACTION_BITS = 23


def _power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    """float32 2^exponent for int32 exponents in -126..127, made from its bits."""
    return tf.bitcast(tf.bitwise.left_shift(exponent + _EXPONENT_BIAS, _FRACTION_BITS), tf.float32)


def _round_to_step(x: tf.Tensor, maxima: tf.Tensor, fmt: BlockFormat) -> tf.Tensor:
    """Round `x` to the format's grid, given its blocks' maxima (broadcastable to x, float32, >= 0).

    The exponent comes from the bits of the maximum (a subnormal's field gives -127, which the range clamps away), the
    rounding is half to even. Gradient: straight through, zero where the mantissa saturates.
    """
    bits = tf.bitcast(maxima, tf.int32)
    exponent = tf.bitwise.right_shift(bits, _FRACTION_BITS) - _EXPONENT_BIAS
    step = tf.clip_by_value(exponent, *fmt.exponent_range) - (fmt.mantissa_bits - 1)
    largest = float(fmt.largest_mantissa)

    @tf.custom_gradient
    def grid(value: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        mantissa = tf.round(value * _power_of_two(-step))
        unsaturated = tf.abs(mantissa) <= largest
        rounded = tf.clip_by_value(mantissa, -largest, largest) * _power_of_two(step)
        return rounded, lambda upstream: tf.where(unsaturated, upstream, tf.zeros_like(upstream))

    return grid(x)


def _blockwise(x: tf.Tensor, fmt: BlockFormat, axis: int) -> tf.Tensor:
    """Quantise in blocks of fmt.block consecutive elements along `axis` of x, whose length there is static."""
    length = x.shape.as_list()[axis]  # after disable_v2_tensorshape x.shape[axis] is no int
    block = min(fmt.block, length)
    padding = -length % block
    before, after = tf.shape(x)[:axis], tf.shape(x)[axis + 1 :]
    padded = tf.pad(x, [[0, padding if i == axis else 0] for i in range(x.shape.rank)]) if padding else x
    split = tf.reshape(padded, tf.concat([before, [(length + padding) // block, block], after], axis=0))
    rounded = _round_to_step(split, tf.reduce_max(tf.abs(split), axis=axis + 1, keepdims=True), fmt)
    joined = tf.reshape(rounded, tf.concat([before, [length + padding], after], axis=0))
    return tf.slice(joined, [0] * x.shape.rank, tf.shape(x)) if padding else joined


def _quantizer(x: tf.Tensor, quantize: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Run `quantize` inside the scope and between the two Identity operations that mark a quantiser."""
    with tf.name_scope("bfp_quantize"):
        rounded = quantize(tf.identity(x, name="input"))
        rounded.set_shape(x.shape)
        return tf.identity(rounded, name="output")


def quantize_channels(x: tf.Tensor, fmt: BlockFormat) -> tf.Tensor:
    """Quantise activations float32 [n, h, w, c] in blocks of consecutive channels of one pixel."""
    return _quantizer(x, lambda value: _blockwise(value, fmt, axis=3))


def quantize_images(x: tf.Tensor, fmt: BlockFormat) -> tf.Tensor:
    """Quantise images float32 [n, h, w, 3] with one exponent for each whole image."""
    return _quantizer(
        x, lambda value: _round_to_step(value, tf.reduce_max(tf.abs(value), axis=[1, 2, 3], keepdims=True), fmt)
    )


def quantize_kernel(kernel: tf.Tensor, fmt: BlockFormat) -> tf.Tensor:
    """Quantise a kernel float32 [kh, kw, in, out] per output channel and tap, in blocks of consecutive inputs."""
    return _quantizer(kernel, lambda value: _blockwise(value, fmt, axis=2))


def quantize_image_kernel(kernel: tf.Tensor, fmt: BlockFormat) -> tf.Tensor:
    """Quantise a first layer's kernel float32 [kh, kw, 3, out], one block per output channel and filter row."""
    return _quantizer(
        kernel, lambda value: _round_to_step(value, tf.reduce_max(tf.abs(value), axis=[1, 2], keepdims=True), fmt)
    )
