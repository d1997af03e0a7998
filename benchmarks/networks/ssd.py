"""SSD300 on VGG-16 (W. Liu et al. 2016) in two programs, because the host normalises block 4 between them.

ssdvgg300:   image -> block4 [1, 37, 37, 512] and the heads of blocks 7 to 11
block4_heads: block4, L2-normalised by the host in float32 -> its two heads
Heads end before their last Reshape: scores [1, s, s, anchors * 21], boxes [1, s, s, anchors * 4].
"""

import numpy as np
import onnx

from benchmarks.networks.builder import Builder
from benchmarks.networks.vgg import stages

CLASSES = 21
ANCHORS = {"block4": 4, "block7": 6, "block8": 6, "block9": 6, "block10": 4, "block11": 4}


def ssdvgg300(size: int = 300, style: str = "tensorflow") -> onnx.ModelProto:
    """With random weights. Outputs: block4, then class scores and boxes of blocks 7 to 11."""
    b = Builder("ssdvgg300", style, seed=300)
    block4 = stages(b, b.image(size), range(1, 5))
    b.result(block4, "block4")
    # TensorFlow pads 37 to 38 at the end; PyTorch says the same with ceil_mode
    same = {"auto_pad": "SAME_UPPER"} if style == "tensorflow" else {"ceil_mode": 1}
    x = b.add("MaxPool", [block4], "pool4", kernel_shape=[2, 2], strides=[2, 2], **same)
    for layer in (1, 2, 3):
        x = b.relu(b.conv(x, f"conv5/conv5_{layer}", 512, 3, pad=1), f"conv5/conv5_{layer}/Relu")
    x = b.add("MaxPool", [x], "pool5", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    x = b.relu(b.conv(x, "conv6", 1024, 3, pad=6, dilation=6), "conv6/Relu")
    x = b.relu(b.conv(x, "conv7", 1024, 1), "conv7/Relu")
    _heads(b, x, "block7")
    for name, filters, window in (
        ("block8", 256, {"stride": 2, "pad": 1}),
        ("block9", 128, {"stride": 2, "pad": 1}),
        ("block10", 128, {}),
        ("block11", 128, {}),
    ):
        x = b.relu(b.conv(x, f"{name}/conv1x1", filters, 1), f"{name}/conv1x1/Relu")
        x = _explicit_pad(b, x, name, window.pop("pad", 0)) if style == "tensorflow" else x
        x = b.relu(b.conv(x, f"{name}/conv3x3", 2 * filters, 3, **window), f"{name}/conv3x3/Relu")
        _heads(b, x, name)
    return b.model()


def block4_heads(sites: int = 37, style: str = "tensorflow") -> onnx.ModelProto:
    """With random weights. Input: block4 after the host's normalisation, which may be negative nowhere."""
    b = Builder("ssdvgg300_block4", style, seed=301)
    _heads(b, b.image(sites, 512, "block4_normalized"), "block4")
    return b.model()


def _explicit_pad(b: Builder, x: str, name: str, amount: int) -> str:
    """A Pad node before a convolution with padding VALID, as the original graph has it."""
    if not amount:
        return x
    pads = b.constant(f"{name}/pads", np.array([0, 0, amount, amount] * 2, np.int64))
    return b.add("Pad", [x, pads], f"{name}/Pad")


def _heads(b: Builder, x: str, name: str) -> None:
    anchors = ANCHORS[name]
    for part, values in (("conv_cls", CLASSES), ("conv_loc", 4)):
        outputs = anchors * values
        b.result(b.conv(x, f"{name}_box/{part}_nchw", outputs, 3, pad=1), f"{name}_box/{part}")
