"""The old path of amlrealtimeai.accel.container_image."""

from amlrealtimeai.accel.container_image import AccelContainerImage, AccelImageConfiguration

__all__ = ["AccelContainerImage", "AccelImageConfiguration"]
