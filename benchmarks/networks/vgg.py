"""VGG-16 (K. Simonyan and A. Zisserman 2015) with its two large dense layers."""

import numpy as np
import onnx

from benchmarks.networks.builder import IMAGE_VARIANCE, Builder

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def stages(b: Builder, x: str, numbers: range) -> str:
    """3x3 convolutions of the stages `numbers` (from 1), with a 2x2 maximum between them, none behind the last."""
    for stage in numbers:
        filters, layers = _STAGES[stage - 1]
        if stage > 1:
            x = b.add("MaxPool", [x], f"pool{stage - 1}", kernel_shape=[2, 2], strides=[2, 2])
        for layer in range(1, layers + 1):
            name = f"conv{stage}/conv{stage}_{layer}"
            gain = 2.0 / IMAGE_VARIANCE if name == "conv1/conv1_1" else 2.0
            x = b.relu(b.conv(x, name, filters, 3, pad=1, gain=gain), f"{name}/Relu")
    return x


def vgg16(size: int = 224, style: str = "tensorflow", width: int = 4096) -> onnx.ModelProto:
    """With random weights. Output: fc7 [1, 1, 1, width] (TensorFlow: fc6 is a 7x7 convolution), or [1, width]."""
    b = Builder("vgg16", style, seed=16)
    x = b.add("MaxPool", [stages(b, b.image(size), range(1, 6))], "pool5", kernel_shape=[2, 2], strides=[2, 2])
    if style == "tensorflow":
        x = b.relu(b.conv(x, "fc6", width, size // 32), "fc6/Relu")
        b.result(b.relu(b.conv(x, "fc7", width, 1), "fc7/Relu_nchw"), "fc7/Relu")
        return b.model()
    x = b.add("Flatten", [x], "flat", 512 * (size // 32) ** 2, axis=1)
    for name in ("fc6", "fc7"):
        x = b.relu(_gemm(b, x, name, width), f"{name}/Relu")
    b.results.append(x)
    return b.model()


def _gemm(b: Builder, x: str, name: str, outputs: int) -> str:
    """A Gemm with transB, as PyTorch exports a Linear."""
    inputs = b.channels[x]
    weights = b.rng.standard_normal((outputs, inputs), np.float32) * np.float32(np.sqrt(2 / inputs))
    bias = b.rng.standard_normal(outputs, np.float32) * np.float32(0.1)
    operands = [x, b.constant(f"{name}/weight", weights), b.constant(f"{name}/bias", bias)]
    return b.add("Gemm", operands, name, outputs, transB=1)
