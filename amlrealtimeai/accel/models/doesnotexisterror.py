"""The old path of the error that get_default_classifier raises where there is none."""

from amlrealtimeai.accel.models.base import DoesNotExistError

__all__ = ["DoesNotExistError"]
