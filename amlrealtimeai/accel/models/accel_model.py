"""The old path of the base of all networks."""

from amlrealtimeai.accel.models.base import FloatModel as AccelModel

__all__ = ["AccelModel"]
