"""The old path of amlrealtimeai.accel.models.ssdvgg."""

from amlrealtimeai.accel.models.ssdvgg import postprocess

__all__ = ["postprocess"]
