"""A network of two convolutions: what a model class does, without a ResNet's seconds."""

import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder


def _featurizer(b: Builder, x: tf.Tensor) -> list[tf.Tensor]:
    x = tf.nn.relu(b.conv_bn(b.image(x, "first/input"), 8, 3, scope="first", keras="first", first=True))
    x = b.conv_bn(b.activation(x, "second/input"), 4, 1, scope="second", keras="second")
    return [tf.reduce_mean(x, [1, 2], keepdims=True, name="mean"), tf.identity(x, name="map")]


NETWORK = Network(
    name="tiny",
    scope="tiny_v1",
    version="0.1.0",
    input_dims=[16, 16, 3],
    output_dims=[[1, 1, 4], [16, 16, 4]],
    featurizer=_featurizer,
    classifier=None,
    classifier_shapes={},
    keras_file=("tiny.h5", ""),
)


class Tiny(FloatModel):
    network = NETWORK


class QuantizedTiny(QuantizedModel):
    network = NETWORK
