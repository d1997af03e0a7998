"""The old path of amlrealtimeai.accel.models.utils."""

from amlrealtimeai.accel.models.utils import preprocess_array

__all__ = ["preprocess_array"]
