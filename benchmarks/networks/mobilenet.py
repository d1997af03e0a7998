"""MobileNetV2 (M. Sandler et al. 2018): depthwise convolutions between a wider and a narrower 1x1, ReLU6."""

import onnx

from benchmarks.networks.builder import IMAGE_VARIANCE, Builder

# of each stage: times the channels inside a block, channels behind it, blocks, stride of the first
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# what a branch adds to its shortcut is small, as training begins with it: else a small change of the image grows
_BRANCH = 0.2


def mobilenet_v2(size: int = 224, style: str = "tensorflow") -> onnx.ModelProto:
    """With random weights. Output: features [1, 1, 1, 1280]."""
    b = Builder("mobilenet_v2", style, seed=2)
    x = b.relu6(b.conv_bn(b.image(size), "stem", 32, 3, stride=2, pad=1, variance=2 * IMAGE_VARIANCE), "stem/relu6")
    for stage, (expansion, channels, blocks, stride) in enumerate(_STAGES, start=1):
        for block in range(1, blocks + 1):
            x = _block(b, x, f"stage{stage}_{block}", expansion, channels, stride if block == 1 else 1)
    x = b.relu6(b.conv_bn(x, "head", 1280, 1), "head/relu6")
    b.result(b.add("GlobalAveragePool", [x], "features_nchw"), "features")
    return b.model()


def _block(b: Builder, x: str, name: str, expansion: int, channels: int, stride: int) -> str:
    inside = expansion * b.channels[x]
    y = x
    if expansion > 1:
        y = b.relu6(b.conv_bn(y, f"{name}_expand", inside, 1), f"{name}_expand/relu6")
    y = b.conv_bn(y, f"{name}_depthwise", inside, 3, stride=stride, pad=1, groups=inside)
    same = stride == 1 and b.channels[x] == channels
    y = b.relu6(y, f"{name}_depthwise/relu6")
    y = b.conv_bn(y, f"{name}_project", channels, 1, gain=_BRANCH if same else 1.0)
    return b.add("Add", [x, y], f"{name}_add") if same else y
