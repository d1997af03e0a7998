"""ResNet v1 with the stride in a block's first 1x1 convolution (K. He et al. 2016, as keras.applications has it)."""

import onnx

from amlrealtimeai import resources
from amlrealtimeai.accel.models import codec
from benchmarks.networks.builder import IMAGE_VARIANCE, Builder


def resnet50(size: int = 224, style: str = "tensorflow") -> onnx.ModelProto:
    """With the workshop's trained weights. Output: features [1, 1, 1, 2048]."""
    weights = codec.load(resources.path("weights/resnet50.npz"), "resnet50")
    return _resnet(Builder("resnet50", style, weights=weights), (3, 4, 6, 3), size)


def resnet152(size: int = 224, style: str = "tensorflow") -> onnx.ModelProto:
    """With random weights. Output: features [1, 1, 1, 2048]."""
    return _resnet(Builder("resnet152", style, seed=152), (3, 8, 36, 3), size)


def _resnet(b: Builder, units: tuple[int, ...], size: int) -> onnx.ModelProto:
    x = b.conv_bn(b.image(size), "conv1", 64, 7, stride=2, pad=3, variance=2 * IMAGE_VARIANCE)
    x = b.add("MaxPool", [b.relu(x, "conv1_relu")], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, blocks in enumerate(units, start=2):
        for number in range(1, blocks + 1):
            stride = 2 if number == 1 and stage > 2 else 1
            x = _block(b, x, f"conv{stage}_block{number}", 16 * 2**stage, stride, number == 1)
    x = b.add("GlobalAveragePool", [x], "features_nchw")
    b.result(x, "features")
    return b.model()


def _block(b: Builder, x: str, name: str, filters: int, stride: int, project: bool) -> str:
    side = b.conv_bn(x, f"{name}_0", 4 * filters, 1, stride=stride) if project else x
    y = b.relu(b.conv_bn(x, f"{name}_1", filters, 1, stride=stride), f"{name}_1_relu")
    y = b.relu(b.conv_bn(y, f"{name}_2", filters, 3, pad=1), f"{name}_2_relu")
    y = b.conv_bn(y, f"{name}_3", 4 * filters, 1, gain=0.25)
    return b.relu(b.add("Add", [side, y], f"{name}_add"), f"{name}_out")
