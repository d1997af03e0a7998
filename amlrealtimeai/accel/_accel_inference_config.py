"""The old path of amlrealtimeai.accel.inference_config."""

from amlrealtimeai.accel.inference_config import AccelInferenceConfig

__all__ = ["AccelInferenceConfig"]
