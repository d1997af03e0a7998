"""VGG-16 (K. Simonyan and A. Zisserman 2015); its first two dense layers are convolutions."""

from collections.abc import Iterable

import numpy as np
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder

STAGES = {1: (64, 2), 2: (128, 2), 3: (256, 3), 4: (512, 3), 5: (512, 3)}
"""Stage -> filters and number of its 3x3 convolutions."""

_FEATURES = 4096
_CLASSES = 1000
_DROPOUT = 0.5
_FLAT = 7 * 7 * 512

# Images are RGB minus their means, about 70 grey levels of deviation: random weights bring them to about 1.
_FIRST_LAYER_GAIN = 1 / 70.0


def convolutions(b: Builder, x: tf.Tensor, stages: Iterable[int]) -> tf.Tensor:
    """3x3 convolutions of `stages`, a 2x2 maximum before each but the first: [n, h, w, c] -> [n, h', w', filters]."""
    for stage in stages:
        filters, layers = STAGES[stage]
        if stage > 1:
            x = tf.nn.max_pool2d(x, 2, 2, "VALID", name=f"pool{stage - 1}/MaxPool")
        for layer in range(1, layers + 1):
            first = (stage, layer) == (1, 1)
            scope = f"conv{stage}/conv{stage}_{layer}"
            seen = (b.image if first else b.activation)(x, f"{scope}/input")
            gain = _FIRST_LAYER_GAIN if first else None
            y = b.conv(seen, filters, 3, scope=scope, keras=f"block{stage}_conv{layer}", first=first, gain=gain)
            x = tf.nn.relu(y, name=f"{scope}/Relu")
    return x


def _featurizer(b: Builder, x: tf.Tensor) -> list[tf.Tensor]:
    """Images [n, 224, 224, 3] -> features [n, 1, 1, 4096]."""
    x = tf.nn.max_pool2d(convolutions(b, x, STAGES), 2, 2, "VALID", name="pool5/MaxPool")
    # Keras flattens [7, 7, 512] in this order, so that its matrix is this kernel
    x = b.activation(x, "fc6/input")
    x = b.conv(x, _FEATURES, 7, padding="VALID", scope="fc6", keras="fc1", stored_shape=(_FLAT, _FEATURES))
    x = b.dropout(tf.nn.relu(x, name="fc6/Relu"), _DROPOUT, "dropout6")
    x = b.activation(x, "fc7/input")
    x = b.conv(x, _FEATURES, 1, scope="fc7", keras="fc2", stored_shape=(_FEATURES, _FEATURES))
    return [tf.nn.relu(x, name="fc7/Relu")]


def _classifier(features: tf.Tensor, kernel: np.ndarray, bias: np.ndarray) -> tf.Tensor:
    """Features [n, 1, 1, 4096] -> logits [n, 1000]: the original's classifier ends before the softmax."""
    flat = tf.reshape(features, [-1, _FEATURES], name="fc8/flat")
    return tf.nn.bias_add(tf.matmul(flat, tf.constant(kernel, name="fc8/weights")), bias, name="fc8/squeezed")


VGG16 = Network(
    name="vgg16",
    scope="vgg_16",
    version="1.0.0",
    input_dims=[224, 224, 3],
    output_dims=[[1, 1, _FEATURES]],
    featurizer=_featurizer,
    classifier=_classifier,
    classifier_shapes={"predictions/kernel": (_FEATURES, _CLASSES), "predictions/bias": (_CLASSES,)},
    keras_file=("vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5", "64373286793e3c8b2b4e3219cbf3544b"),
    output_names=("fc7/Relu",),
    classifier_name="fc8/squeezed",
)


class Vgg16(FloatModel):
    """VGG-16 in float32. Features: [n, 1, 1, 4096], "vgg_16/fc7/Relu:0". The default classifier gives logits."""

    network = VGG16


class QuantizedVgg16(QuantizedModel):
    """VGG-16 in block floating point, with the variables of Vgg16. Features: [n, 1, 1, 4096]."""

    network = VGG16
