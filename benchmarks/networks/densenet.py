"""DenseNet-121 (G. Huang et al. 2017): batch normalisation and ReLU come before each convolution."""

import onnx

from benchmarks.networks.builder import IMAGE_VARIANCE, Builder

_GROWTH = 32
_BLOCKS = (6, 12, 24, 16)
_EPSILON = 1.001e-5


def densenet121(size: int = 224, style: str = "tensorflow") -> onnx.ModelProto:
    """With random weights. Output: features [1, 1, 1, 1024]."""
    b = Builder("densenet121", style, seed=121)
    x = b.conv(b.image(size), "conv1/conv", 64, 7, stride=2, pad=3, bias=False)
    x = b.relu(b.batch_norm(x, "conv1/bn", _EPSILON, variance=2 * IMAGE_VARIANCE), "conv1/relu")
    x = b.add("MaxPool", [x], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for number, layers in enumerate(_BLOCKS, start=2):
        for layer in range(1, layers + 1):
            x = _dense_layer(b, x, f"conv{number}_block{layer}")
        if number < len(_BLOCKS) + 1:
            x = _transition(b, x, f"pool{number}")
    x = b.relu(b.batch_norm(x, "bn", _EPSILON), "relu")
    b.result(b.add("GlobalAveragePool", [x], "features_nchw"), "features")
    return b.model()


def _dense_layer(b: Builder, x: str, name: str) -> str:
    y = b.relu(b.batch_norm(x, f"{name}_0_bn", _EPSILON), f"{name}_0_relu")
    y = b.conv(y, f"{name}_1_conv", 4 * _GROWTH, 1, bias=False)
    y = b.relu(b.batch_norm(y, f"{name}_1_bn", _EPSILON), f"{name}_1_relu")
    y = b.conv(y, f"{name}_2_conv", _GROWTH, 3, pad=1, bias=False)
    return b.add("Concat", [x, y], f"{name}_concat", b.channels[x] + _GROWTH, axis=1)


def _transition(b: Builder, x: str, name: str) -> str:
    y = b.relu(b.batch_norm(x, f"{name}_bn", _EPSILON), f"{name}_relu")
    y = b.conv(y, f"{name}_conv", b.channels[x] // 2, 1, bias=False)
    return b.add("AveragePool", [y], f"{name}_pool", kernel_shape=[2, 2], strides=[2, 2])
