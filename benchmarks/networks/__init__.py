"""The five networks (SSD-VGG300 in two parts) and two small ones as ONNX featurizers, written without TensorFlow.

ResNet-50 has the workshop's trained weights, the others seeded random ones. `style` is "tensorflow" (NHWC image and a
Transpose, as tf2onnx writes it) or "pytorch" (NCHW image).
"""

import functools
from collections.abc import Callable

import numpy as np
import onnx

from benchmarks.networks import densenet, efficientnet, mobilenet, resnet, ssd, vgg

NETWORKS: dict[str, Callable[..., onnx.ModelProto]] = {
    "resnet50": resnet.resnet50,
    "resnet152": resnet.resnet152,
    "densenet121": densenet.densenet121,
    "vgg16": vgg.vgg16,
    "ssdvgg300": ssd.ssdvgg300,
    "ssdvgg300_block4": ssd.block4_heads,
    "mobilenet_v2": mobilenet.mobilenet_v2,
    "efficientnet_b0": efficientnet.efficientnet_b0,
}
SIZES = {"ssdvgg300": 300, "ssdvgg300_block4": 37}


@functools.lru_cache(3)
def model(name: str, size: int | None = None, style: str = "tensorflow") -> onnx.ModelProto:
    """The network `name` for images of `size` x `size` (default: its own, such as 224)."""
    return NETWORKS[name](size or SIZES.get(name, 224), style)


def image(document: onnx.ModelProto, batch: int = 1, seed: int = 0) -> np.ndarray:
    """A made-up picture in the model's shape, as preprocessing leaves it: RGB minus the means, float32.

    For a model that does not read an image of three channels: activations behind a ReLU.
    """
    sizes = [dim.dim_value for dim in document.graph.input[0].type.tensor_type.shape.dim]
    nchw = sizes[2] == sizes[3]
    height, width, channels = (*sizes[2:], sizes[1]) if nchw else sizes[1:]
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 60, (batch, -(-height // 8), -(-width // 8), channels))
    smooth = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    lowest = -123 if channels == 3 else 0
    picture = np.clip(smooth + rng.normal(0, 12, smooth.shape), lowest, 151).astype(np.float32)
    return np.ascontiguousarray(picture.transpose(0, 3, 1, 2)) if nchw else picture
