"""azureml.core.image.container: where old code finds ContainerImage."""

from amlrealtimeai.core.image.image import ContainerImage

__all__ = ["ContainerImage"]
