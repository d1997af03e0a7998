"""The workshop's ResNet-50 as an ONNX featurizer, and a real picture for it."""

import functools

import numpy as np
import onnx

from amlrealtimeai import resources
from amlrealtimeai.artifact.preprocess import preprocess_images
from benchmarks import networks


def onnx_model() -> onnx.ModelProto:
    return networks.model("resnet50")


@functools.cache
def sample_image() -> np.ndarray:
    """A real picture, preprocessed as the weights want it: BGR minus the means, float32 [1, 224, 224, 3]."""
    jpeg = sorted(resources.path("images").glob("*.jpg"))[0].read_bytes()
    parameters = {
        "order": "BGR",
        "scaling_factor": 1.0,
        "output_height": 224,
        "output_width": 224,
        "preserve_aspect_ratio": True,
    }
    return preprocess_images(np.array([jpeg], object), parameters)
