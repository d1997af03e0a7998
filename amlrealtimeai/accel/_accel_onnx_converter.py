"""The old path of amlrealtimeai.accel.converter."""

from amlrealtimeai.accel.converter import AccelOnnxConverter

__all__ = ["AccelOnnxConverter"]
