"""SSD300 on VGG-16 (W. Liu et al. 2016), in two NPU parts: the host normalises block 4 between them."""

import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import vgg
from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder
from amlrealtimeai.accel.models.ssdvgg import ANCHORS, BLOCKS, CLASSES, EXTRA, SITES

_NORM_GAIN = 20.0
_CONTEXT = 1024


def _featurizer(b: Builder, x: tf.Tensor) -> list[tf.Tensor]:
    """Images [n, 300, 300, 3] -> class scores [n, s, s, a, 21] of six blocks, then boxes [n, s, s, a, 4]."""
    images = x
    block4 = x = vgg.convolutions(b, x, (1, 2, 3, 4))
    # 37 sites need padding here to give 19
    x = tf.nn.max_pool2d(x, 2, 2, "SAME", name="pool4/MaxPool")
    for layer in (1, 2, 3):
        x = _conv(b, x, 512, 3, f"conv5/conv5_{layer}", f"block5_conv{layer}")
    x = tf.nn.max_pool2d(x, 3, 1, "SAME", name="pool5/MaxPool")
    x = _conv(b, x, _CONTEXT, 3, "conv6", dilation=6)
    x = _conv(b, x, _CONTEXT, 1, "conv7")
    heads = {"block7": _head(b, x, "block7")}
    for block, (filters, stride, pad) in EXTRA.items():
        x = _conv(b, x, filters, 1, f"{block}/conv1x1")
        x = _conv(b, x, 2 * filters, 3, f"{block}/conv3x3", stride=stride, pad=pad)
        heads[block] = _head(b, x, block)
    b.parts.append((images, [block4, *(tensor for head in heads.values() for tensor in head)]))
    scope = "block4_box/L2Normalization"
    normalized = b.l2_normalize(block4, scope=scope, keras=scope, typical=_NORM_GAIN)
    heads["block4"] = _head(b, normalized, "block4")
    b.parts.append((normalized, list(heads["block4"])))
    return _outputs(heads)


def _conv(
    b: Builder,
    x: tf.Tensor,
    filters: int,
    kernel: int,
    scope: str,
    keras: str = "",
    *,
    stride: int = 1,
    dilation: int = 1,
    pad: int | None = None,
) -> tf.Tensor:
    """Convolution and ReLU. pad: zeros on every side of the map; None keeps its size."""
    x = b.activation(x, f"{scope}/input")
    if pad:
        x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]], name=f"{scope}/Pad")
    padding = "SAME" if pad is None else "VALID"
    x = b.conv(x, filters, kernel, scope=scope, keras=keras or scope, stride=stride, padding=padding, dilation=dilation)
    return tf.nn.relu(x, name=f"{scope}/Relu")


def _head(b: Builder, x: tf.Tensor, block: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The block's class scores and boxes, before their last axis is split by anchors."""
    x = b.activation(x, f"{block}_box/input")
    places = ((f"{block}_box/conv_cls", CLASSES), (f"{block}_box/conv_loc", 4))
    scores, boxes = (b.conv(x, ANCHORS[block] * size, 3, scope=scope, keras=scope) for scope, size in places)
    return scores, boxes


def _outputs(heads: dict[str, tuple[tf.Tensor, tf.Tensor]]) -> list[tf.Tensor]:
    """All class scores, then all boxes, with an axis of anchors."""
    results = []
    for part, (size, name) in enumerate(((CLASSES, "Reshape_1"), (4, "Reshape"))):
        for block in BLOCKS:
            shape = [-1, SITES[block], SITES[block], ANCHORS[block], size]
            results.append(tf.reshape(heads[block][part], shape, name=f"{block}_box/{name}"))
    return results


SSDVGG = Network(
    name="ssdvgg",
    scope="ssd_300_vgg",
    version="1.0.0",
    input_dims=[300, 300, 3],
    output_dims=[[SITES[block], SITES[block], ANCHORS[block], size] for size in (CLASSES, 4) for block in BLOCKS],
    featurizer=_featurizer,
    classifier=None,
    classifier_shapes={},
    keras_file=None,
    output_names=tuple(f"{block}_box/{part}" for part in ("Reshape_1", "Reshape") for block in BLOCKS),
)


class SsdVgg(FloatModel):
    """SSD300 on VGG-16 in float32, for RGB images of 300 x 300. Twelve outputs: see amlrealtimeai.accel.models.ssdvgg.

    "ssd_300_vgg/block{4,7,8,9,10,11}_box/Reshape_1:0" are class scores before the softmax [n, s, s, a, 21], then
    ".../Reshape:0" boxes [n, s, s, a, 4].
    """

    network = SSDVGG


class QuantizedSsdVgg(QuantizedModel):
    """SSD300 on VGG-16 in block floating point, with the variables and outputs of SsdVgg."""

    network = SSDVGG
