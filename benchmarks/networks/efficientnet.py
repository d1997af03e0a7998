"""EfficientNet-B0 (M. Tan and Q. Le 2019): MobileNetV2's blocks with SiLU and gates (squeeze-and-excitation)."""

import onnx

from benchmarks.networks.builder import IMAGE_VARIANCE, Builder

# of each stage: times the channels inside a block, kernel, channels behind it, blocks, stride of the first
_STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
# a gate is about one half: what passes has a quarter of the variance, and SiLU leaves about a third of it
_GATED_GAIN = 8.0
# what a branch adds to its shortcut is small, as training begins with it: else a small change of the image grows
_BRANCH = 0.2


def efficientnet_b0(size: int = 224, style: str = "tensorflow") -> onnx.ModelProto:
    """With random weights. Output: features [1, 1, 1, 1280]."""
    b = Builder("efficientnet_b0", style, seed=0)
    x = b.silu(b.conv_bn(b.image(size), "stem", 32, 3, stride=2, pad=1, variance=2 * IMAGE_VARIANCE), "stem/silu")
    for stage, (expansion, kernel, channels, blocks, stride) in enumerate(_STAGES, start=1):
        for block in range(1, blocks + 1):
            x = _block(b, x, f"stage{stage}_{block}", expansion, kernel, channels, stride if block == 1 else 1)
    x = b.silu(b.conv_bn(x, "head", 1280, 1), "head/silu")
    b.result(b.add("GlobalAveragePool", [x], "features_nchw"), "features")
    return b.model()


def _block(b: Builder, x: str, name: str, expansion: int, kernel: int, channels: int, stride: int) -> str:
    inside = expansion * b.channels[x]
    y = x
    if expansion > 1:
        y = b.silu(b.conv_bn(y, f"{name}_expand", inside, 1), f"{name}_expand/silu")
    y = b.conv_bn(y, f"{name}_depthwise", inside, kernel, stride=stride, pad=kernel // 2, groups=inside)
    y = _gated(b, b.silu(y, f"{name}_depthwise/silu"), name, b.channels[x] // 4)
    same = stride == 1 and b.channels[x] == channels
    y = b.conv_bn(y, f"{name}_project", channels, 1, weight_gain=_GATED_GAIN, gain=_BRANCH if same else 1.0)
    return b.add("Add", [x, y], f"{name}_add") if same else y


def _gated(b: Builder, x: str, name: str, squeezed: int) -> str:
    mean = b.add("GlobalAveragePool", [x], f"{name}_mean")
    y = b.silu(b.conv(mean, f"{name}_squeeze", squeezed, 1), f"{name}_squeeze/silu")
    gate = b.add("Sigmoid", [b.conv(y, f"{name}_excite", b.channels[x], 1)], f"{name}_gate")
    return b.add("Mul", [x, gate], f"{name}_gated")
