"""DenseNet-121 (G. Huang et al. 2017) as keras.applications has it: batch normalisation comes before convolutions.

A normalisation that directly follows a convolution is folded into it; the others are products and sums per channel.
"""

import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder, channels, softmax_classifier

_BLOCKS = (6, 12, 24, 16)
_GROWTH = 32
_FEATURES = 1024
_CLASSES = 1000

# Images are RGB minus their means times 0.017: about 1.2 of deviation, which He's initialisation doubles in variance.
_FIRST_LAYER_VARIANCE = 2 * 1.2**2


def _layer(b: Builder, x: tf.Tensor, scope: str, keras: str) -> tf.Tensor:
    """x [n, h, w, c] -> [n, h, w, c + 32]."""
    y = tf.nn.relu(b.batch_norm(x, scope=scope, keras=f"{keras}_0_bn"), name=f"{scope}/Relu")
    y = b.activation(y, f"{scope}/conv1/input")
    y = tf.nn.relu(b.conv_bn(y, 4 * _GROWTH, 1, scope=f"{scope}/conv1", keras=f"{keras}_1"), name=f"{scope}/conv1/Relu")
    y = b.activation(y, f"{scope}/conv2/input")
    y = b.conv(y, _GROWTH, 3, scope=f"{scope}/conv2", keras=f"{keras}_2_conv", bias=False)
    return tf.concat([x, y], axis=3, name=f"{scope}/concat")


def _transition(b: Builder, x: tf.Tensor, scope: str, keras: str) -> tf.Tensor:
    """x [n, h, w, c] -> [n, h/2, w/2, c/2]."""
    y = tf.nn.relu(b.batch_norm(x, scope=scope, keras=f"{keras}_bn"), name=f"{scope}/Relu")
    y = b.activation(y, f"{scope}/conv/input")
    y = b.conv(y, channels(x) // 2, 1, scope=f"{scope}/conv", keras=f"{keras}_conv", bias=False)
    return tf.nn.avg_pool2d(y, 2, 2, "VALID", name=f"{scope}/AvgPool")


def _featurizer(b: Builder, x: tf.Tensor) -> list[tf.Tensor]:
    """Images [n, h, w, 3] -> features [n, 1, 1, 1024]."""
    x = tf.pad(b.image(x, "conv1/input"), [[0, 0], [3, 3], [3, 3], [0, 0]], name="conv1/Pad")
    x = b.conv_bn(
        x,
        64,
        7,
        stride=2,
        padding="VALID",
        scope="conv1",
        keras="conv1",
        first=True,
        bgr=False,
        input_variance=_FIRST_LAYER_VARIANCE,
    )
    x = tf.pad(tf.nn.relu(x, name="conv1/Relu"), [[0, 0], [1, 1], [1, 1], [0, 0]], name="pool1/Pad")
    x = tf.nn.max_pool2d(x, 3, 2, "VALID", name="pool1/MaxPool")
    for block, layers in enumerate(_BLOCKS, start=1):
        for layer in range(1, layers + 1):
            x = _layer(b, x, f"dense_block{block}/conv_block{layer}", f"conv{block + 1}_block{layer}")
        if block < len(_BLOCKS):
            x = _transition(b, x, f"transition_block{block}", f"pool{block + 1}")
    x = tf.nn.relu(b.batch_norm(x, scope="final_block", keras="bn"), name="final_block/Relu")
    return [tf.reduce_mean(x, [1, 2], keepdims=True, name="pool5")]


DENSENET121 = Network(
    name="densenet121",
    scope="densenet121",
    version="1.0.0",
    input_dims=[224, 224, 3],
    output_dims=[[1, 1, _FEATURES]],
    featurizer=_featurizer,
    classifier=softmax_classifier,
    classifier_shapes={"predictions/kernel": (_FEATURES, _CLASSES), "predictions/bias": (_CLASSES,)},
    keras_file=("densenet/densenet121_weights_tf_dim_ordering_tf_kernels.h5", "9d60b8095a5708f2dcce2bca79d332c7"),
    output_names=("pool5",),
    classifier_name="predictions/Softmax",
)


class Densenet121(FloatModel):
    """DenseNet-121 in float32, for RGB images times 0.017. Features: [n, 1, 1, 1024], "densenet121/pool5:0".

    Keras' own preprocessing divides each colour by its deviation, 0.0171 to 0.0175 times: the one factor is the
    original's approximation of it.
    """

    network = DENSENET121


class QuantizedDensenet121(QuantizedModel):
    """DenseNet-121 in block floating point, with the variables of Densenet121. Features: [n, 1, 1, 1024]."""

    network = DENSENET121
