"""The first edition's preprocessing: the same as accel.models.utils, in BGR."""

from typing import Any


def preprocess_array(in_images: Any) -> Any:
    """Encoded images, string [n] -> float32 [n, 224, 224, 3] in BGR minus the means, as this edition's model takes."""
    from amlrealtimeai.accel.models import utils

    return utils.preprocess_array(in_images, order="BGR")
