"""ResNet v1 (K. He et al. 2016) as keras.applications has it: the stride sits in a block's first 1x1 convolution."""

from functools import partial

import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder, softmax_classifier

_BLOCKS = {50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
_FEATURES = 2048
_CLASSES = 1000

# Images are RGB minus their means: about 70 grey levels of deviation, which He's initialisation doubles in variance.
_FIRST_LAYER_VARIANCE = 2 * 70.0**2
_RANDOM_BRANCH_GAIN = 0.25


def _unit(b: Builder, x: tf.Tensor, filters: int, stride: int, scope: str, keras: str, project: bool) -> tf.Tensor:
    """One bottleneck unit: x [n, h, w, c] -> [n, h/stride, w/stride, 4 * filters]."""
    place = f"{scope}/bottleneck_v1"
    seen = b.activation(x, f"{place}/input")
    y = b.conv_bn(seen, filters, 1, stride=stride, scope=f"{place}/conv1", keras=f"{keras}_1")
    y = b.activation(tf.nn.relu(y, name=f"{place}/conv1/Relu"), f"{place}/conv2/input")
    y = b.conv_bn(y, filters, 3, scope=f"{place}/conv2", keras=f"{keras}_2")
    y = b.activation(tf.nn.relu(y, name=f"{place}/conv2/Relu"), f"{place}/conv3/input")
    if project:
        x = b.conv_bn(seen, 4 * filters, 1, stride=stride, scope=f"{place}/shortcut", keras=f"{keras}_0")
    y = b.conv_bn(y, 4 * filters, 1, scope=f"{place}/conv3", keras=f"{keras}_3", gain=_RANDOM_BRANCH_GAIN)
    return tf.nn.relu(tf.add(x, y, name=f"{place}/add"), name=f"{place}/Relu")


def featurizer(b: Builder, x: tf.Tensor, depth: int, bgr: bool = True) -> list[tf.Tensor]:
    """Images [n, h, w, 3] -> features [n, 1, 1, 2048]. bgr: weight files expect BGR where the images are RGB."""
    x = tf.pad(b.image(x, "conv1/input"), [[0, 0], [3, 3], [3, 3], [0, 0]], name="conv1/Pad")
    first = partial(b.conv_bn, scope="conv1", keras="conv1", first=True, bgr=bgr, input_variance=_FIRST_LAYER_VARIANCE)
    x = first(x, 64, 7, stride=2, padding="VALID")
    x = tf.pad(tf.nn.relu(x, name="conv1/Relu"), [[0, 0], [1, 1], [1, 1], [0, 0]], name="pool1/Pad")
    x = tf.nn.max_pool2d(x, 3, 2, "VALID", name="pool1/MaxPool")
    for stage, units in enumerate(_BLOCKS[depth], start=1):
        for unit in range(1, units + 1):
            stride = 2 if unit == 1 and stage > 1 else 1
            scope, keras = f"block{stage}/unit_{unit}", f"conv{stage + 1}_block{unit}"
            x = _unit(b, x, 64 * 2 ** (stage - 1), stride, scope, keras, project=unit == 1)
    return [tf.reduce_mean(x, [1, 2], keepdims=True, name="pool5")]


def _network(depth: int, keras_file: tuple[str, str]) -> Network:
    return Network(
        name=f"resnet{depth}",
        scope=f"resnet_v1_{depth}",
        version="1.0.0",
        input_dims=[224, 224, 3],
        output_dims=[[1, 1, _FEATURES]],
        featurizer=partial(featurizer, depth=depth),
        classifier=softmax_classifier,
        classifier_shapes={"predictions/kernel": (_FEATURES, _CLASSES), "predictions/bias": (_CLASSES,)},
        keras_file=keras_file,
        output_names=("pool5",),
        classifier_name="predictions/Softmax",
    )


RESNET50 = _network(50, ("resnet/resnet50_weights_tf_dim_ordering_tf_kernels.h5", "2cb95161c43110f7111970584f804107"))
RESNET152 = _network(
    152, ("resnet/resnet152_weights_tf_dim_ordering_tf_kernels.h5", "100835be76be38e30d865e96f2aaae62")
)


class Resnet50(FloatModel):
    """ResNet-50 in float32. Features: [n, 1, 1, 2048], "resnet_v1_50/pool5:0"."""

    network = RESNET50


class QuantizedResnet50(QuantizedModel):
    """ResNet-50 in block floating point, with the variables of Resnet50. Features: [n, 1, 1, 2048]."""

    network = RESNET50


class Resnet152(FloatModel):
    """ResNet-152 in float32. Features: [n, 1, 1, 2048], "resnet_v1_152/pool5:0"."""

    network = RESNET152


class QuantizedResnet152(QuantizedModel):
    """ResNet-152 in block floating point, with the variables of Resnet152. Features: [n, 1, 1, 2048]."""

    network = RESNET152
