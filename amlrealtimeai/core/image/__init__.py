"""Images: a converted model in a container image that podman and docker load."""

from amlrealtimeai.core.image.image import ContainerImage, Image, ImageConfiguration

__all__ = ["ContainerImage", "Image", "ImageConfiguration"]
