"""Accelerated models: define a network, convert it for the NPU, put it in a container image, consume its service.

Names load on first use, so that a client starts without TensorFlow.
"""

import os
from typing import TYPE_CHECKING

from amlrealtimeai import __version__ as VERSION
from amlrealtimeai import lazy

# Keras 2, for which the networks and old code are written; TensorFlow reads it when tf.keras is first used.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

if TYPE_CHECKING:
    from amlrealtimeai.accel.client import PredictionClient, client_from_service
    from amlrealtimeai.accel.container_image import AccelContainerImage, AccelImageConfiguration
    from amlrealtimeai.accel.converter import AccelOnnxConverter
    from amlrealtimeai.accel.inference_config import AccelInferenceConfig

__version__ = VERSION
__all__ = [
    "VERSION",
    "AccelContainerImage",
    "AccelImageConfiguration",
    "AccelInferenceConfig",
    "AccelOnnxConverter",
    "PredictionClient",
    "client_from_service",
]

__getattr__ = lazy.attributes(
    __name__,
    {
        "AccelContainerImage": "container_image",
        "AccelImageConfiguration": "container_image",
        "AccelInferenceConfig": "inference_config",
        "AccelOnnxConverter": "converter",
        "PredictionClient": "client",
        "client_from_service": "client",
    },
)
