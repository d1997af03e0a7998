"""The variables and layers of a network: plain float32, or quantised with the batch normalisation folded in.

A network is built through one of the two builders; both create the same variables with the same names, so weights of
one fit the other. Names follow TF-slim, as in the original models: `<scope>/weights`, `<scope>/BatchNorm/gamma`.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import quantizer
from amlrealtimeai.npu.formats import BlockFormat

BATCH_NORM_EPSILON = 1.001e-5
"""Of keras.applications' ResNet and DenseNet."""

_MOVING_AVERAGE_DECAY = 0.99


@dataclass(frozen=True)
class Entry:
    """One variable and where its value is found.

    name: its name in checkpoints, whatever scope the graph was imported in.
    key: its name in Keras' naming, which weight files use ("conv1_conv/kernel").
    minus: key of an array to subtract where the file has it (Keras' convolution bias, taken out of the moving mean).
    swap_colours: the file's kernel expects BGR, the graph feeds RGB: reverse its input channels.
    stored_shape: shape in Keras' naming, where it is not the variable's: a dense layer that is a convolution here.
    typical: mean of random values, where it is not the kind's usual one; for a kernel, a factor on He's deviation.
    """

    variable: tf.Variable
    name: str
    key: str
    minus: str = ""
    swap_colours: bool = False
    stored_shape: tuple[int, ...] | None = None
    typical: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape."""
        return tuple(self.variable.shape.as_list())


class Builder:
    """Float32 layers. `scope` is the network's prefix in checkpoints; `entries` are the variables made so far.

    parts: (input, outputs) of each piece that the NPU runs, where the host computes something between them; empty for
    a network that the NPU runs from its images to its outputs.
    """

    def __init__(self, scope: str, trainable: bool, training: tf.Tensor | None = None) -> None:
        self._scope = scope
        self._trainable = trainable
        self._training = training
        self.entries: list[Entry] = []
        self.parts: list[tuple[tf.Tensor, list[tf.Tensor]]] = []

    def image(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """What the first convolution sees of the image batch `x`. scope: a name that nothing else in the graph has."""
        return x

    def activation(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """What a convolution sees of the activations `x`. scope: a name that nothing else in the graph has."""
        return x

    def conv_bn(
        self,
        x: tf.Tensor,
        filters: int,
        kernel: int,
        *,
        scope: str,
        keras: str,
        stride: int = 1,
        padding: str = "SAME",
        first: bool = False,
        bgr: bool = True,
        gain: float = 1.0,
        input_variance: float = 1.0,
    ) -> tf.Tensor:
        """Convolution without bias, then batch normalisation: x [n, h, w, in] -> [n, h', w', filters].

        x has to come from `image` (first=True) or `activation`. keras: the layer's name in Keras without _conv / _bn.
        bgr: whether weight files expect a first layer's image in BGR.
        gain and input_variance place random weights where activations keep their size.
        """
        with tf.name_scope(scope):
            shape = [kernel, kernel, channels(x), filters]
            weights = self._variable(scope, "weights", shape, f"{keras}_conv/kernel", swap_colours=first and bgr)
            norm = self._batch_norm_variables(scope, f"{keras}_bn", filters, gain, input_variance, f"{keras}_conv/bias")
            return self._convolve(x, weights, norm, stride, padding, first)

    def conv(
        self,
        x: tf.Tensor,
        filters: int,
        kernel: int,
        *,
        scope: str,
        keras: str,
        stride: int = 1,
        padding: str = "SAME",
        dilation: int = 1,
        bias: bool = True,
        first: bool = False,
        gain: float | None = None,
        stored_shape: tuple[int, ...] | None = None,
    ) -> tf.Tensor:
        """Convolution, with a bias unless told: x [n, h, w, in] -> [n, h', w', filters].

        x has to come from `image` (first=True; weight files expect BGR) or `activation`. keras: the layer's name in
        Keras. gain: factor on random weights. stored_shape: of the kernel in Keras' naming, where it is not the same.
        """
        with tf.name_scope(scope):
            shape = [kernel, kernel, channels(x), filters]
            weights = self._variable(
                scope,
                "weights",
                shape,
                f"{keras}/kernel",
                swap_colours=first,
                stored_shape=stored_shape,
                typical=gain,
            )
            result = tf.nn.conv2d(x, self._kernel(weights, first), stride, padding, dilations=dilation, name="Conv2D")
            if not bias:
                return result
            return tf.nn.bias_add(result, self._variable(scope, "biases", [filters], f"{keras}/bias"), name="BiasAdd")

    def batch_norm(self, x: tf.Tensor, *, scope: str, keras: str) -> tf.Tensor:
        """Batch normalisation that no convolution comes before: x [n, h, w, c] -> the same shape."""
        with tf.name_scope(scope):
            return self._normalize(x, self._batch_norm_variables(scope, keras, channels(x), 1.0, 1.0))

    def l2_normalize(self, x: tf.Tensor, *, scope: str, keras: str, typical: float) -> tf.Tensor:
        """Each site's channels divided by their length, times a trained gamma per channel (random ones: `typical`).

        The host's work: the NPU has no such operation. x [n, h, w, c] -> the same shape.
        """
        with tf.name_scope(scope):
            gamma = self._variable(scope, "gamma", [channels(x)], f"{keras}/gamma", typical=typical)
            return tf.multiply(tf.nn.l2_normalize(x, axis=3, epsilon=1e-12), gamma, name="scaled")

    def dropout(self, x: tf.Tensor, rate: float, name: str) -> tf.Tensor:
        """x, a share `rate` of it set to zero while the network's phase tensor says training."""
        if self._training is None:
            return x
        # a choice, not a tf.cond: gradients of a cond cannot be added once a session has run the graph
        return tf.where_v2(self._training, tf.nn.dropout(x, rate=rate), x, name=name)

    def _kernel(self, weights: tf.Variable, first: bool) -> tf.Tensor:
        """The kernel as the convolution multiplies it."""
        return weights

    def _batch_norm_variables(
        self, scope: str, key: str, size: int, gain: float, variance: float, bias: str = ""
    ) -> tuple[tf.Variable, tf.Variable, tf.Variable, tf.Variable]:
        """gamma, beta, moving mean and variance. bias: key of a convolution's bias, to be taken out of the mean."""
        place = f"{scope}/BatchNorm"
        with tf.name_scope("BatchNorm"):
            return (
                self._variable(place, "gamma", [size], f"{key}/gamma", typical=gain),
                self._variable(place, "beta", [size], f"{key}/beta"),
                self._variable(place, "moving_mean", [size], f"{key}/moving_mean", trainable=False, minus=bias),
                self._variable(
                    place, "moving_variance", [size], f"{key}/moving_variance", trainable=False, typical=variance
                ),
            )

    def _variable(
        self, scope: str, name: str, shape: list[int], key: str, trainable: bool = True, **place: object
    ) -> tf.Variable:
        # NaN until weights are restored: a forgotten restore_weights shows, where zeros would look like a result
        variable = tf.Variable(
            lambda: tf.fill(shape, np.float32(np.nan)),
            trainable=self._trainable and trainable,
            name=name,
            dtype=tf.float32,
            use_resource=True,
            shape=shape,
        )
        self.entries.append(Entry(variable, f"{self._scope}/{scope}/{name}", key, **place))  # type: ignore[arg-type]
        return variable

    def _convolve(
        self, x: tf.Tensor, weights: tf.Variable, norm: tuple, stride: int, padding: str, first: bool
    ) -> tf.Tensor:
        result = tf.nn.conv2d(x, weights, strides=stride, padding=padding, name="Conv2D")
        return self._normalize(result, norm)

    def _normalize(self, x: tf.Tensor, norm: tuple) -> tf.Tensor:
        if self._training is None:
            return _normalize(x, norm)
        gamma, beta, *moving = norm
        batch = tf.nn.moments(x, [0, 1, 2])
        mean, variance = (tf.where_v2(self._training, new, old) for new, old in zip(batch, moving, strict=True))
        with tf.control_dependencies([self._update(moving, batch)]):
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, BATCH_NORM_EPSILON, name="BatchNorm")

    def _update(self, moving: list[tf.Variable], batch: list[tf.Tensor]) -> tf.Tensor:
        """Move the moving statistics towards the batch's while training."""

        def update() -> tf.Tensor:
            steps = [
                old.assign_sub((old - new) * (1 - _MOVING_AVERAGE_DECAY), read_value=False)
                for old, new in zip(moving, batch, strict=True)
            ]
            with tf.control_dependencies(steps):
                return tf.constant(True)

        return tf.cond(self._training, update, lambda: tf.constant(False), name="phase")


def channels(x: tf.Tensor) -> int:
    """Static size of the last axis of x [n, h, w, c]; after disable_v2_tensorshape x.shape[3] is no int."""
    return int(x.shape.as_list()[3])


def softmax_classifier(features: tf.Tensor, kernel: np.ndarray, bias: np.ndarray) -> tf.Tensor:
    """Features [n, 1, 1, f] -> probabilities [n, classes]. kernel: float32 [f, classes], bias: float32 [classes]."""
    flat = tf.reshape(features, [-1, len(kernel)], name="SpatialSqueeze")
    logits = tf.nn.bias_add(tf.matmul(flat, tf.constant(kernel, name="logits/weights")), bias, name="logits/BiasAdd")
    return tf.nn.softmax(logits, name="predictions/Softmax")


def _normalize(x: tf.Tensor, norm: tuple) -> tf.Tensor:
    gamma, beta, mean, variance = norm
    return tf.nn.fused_batch_norm(
        x, gamma, beta, mean, variance, epsilon=BATCH_NORM_EPSILON, is_training=False, name="BatchNorm/FusedBatchNorm"
    )[0]


class QuantizedBuilder(Builder):
    """Layers as the NPU computes them: weights with folded batch normalisation and inputs in block floating point."""

    def __init__(self, scope: str, trainable: bool, number_format: BlockFormat) -> None:
        super().__init__(scope, trainable)
        self._format = number_format

    def image(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """The images with one exponent each."""
        with tf.name_scope(scope):
            return quantizer.quantize_images(x, self._format)

    def activation(self, x: tf.Tensor, scope: str) -> tf.Tensor:
        """The activations in blocks of channels."""
        with tf.name_scope(scope):
            return quantizer.quantize_channels(x, self._format)

    def _kernel(self, weights: tf.Tensor, first: bool) -> tf.Tensor:
        quantize = quantizer.quantize_image_kernel if first else quantizer.quantize_kernel
        return quantize(weights, self._format)

    def _convolve(
        self, x: tf.Tensor, weights: tf.Variable, norm: tuple, stride: int, padding: str, first: bool
    ) -> tf.Tensor:
        scale, bias = _scale_and_shift(norm)
        folded = tf.cast(tf.cast(weights, tf.float64) * scale, tf.float32)
        result = tf.nn.conv2d(x, self._kernel(folded, first), strides=stride, padding=padding, name="Conv2D")
        return tf.nn.bias_add(result, bias, name="BiasAdd")

    def _normalize(self, x: tf.Tensor, norm: tuple) -> tf.Tensor:
        # a product rounded to float32, then a sum: what the NPU's vector unit does
        scale, shift = _scale_and_shift(norm)
        return tf.add(tf.multiply(x, tf.cast(scale, tf.float32), name="BatchNorm/mul"), shift, name="BatchNorm/add")


def _scale_and_shift(norm: tuple) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch normalisation as x * scale + shift: float64, and float32 rounded once."""
    gamma, beta, mean, variance = (tf.cast(value, tf.float64) for value in norm)
    # division and square root are correctly rounded everywhere: NumPy computes the same bits
    scale = gamma / tf.sqrt(variance + BATCH_NORM_EPSILON)
    return scale, tf.cast(beta - mean * scale, tf.float32)
