"""BrainwaveImage: the middle edition's name of an image."""

from amlrealtimeai.accel.container_image import AccelImageConfiguration
from amlrealtimeai.core.arguments import known_keywords
from amlrealtimeai.core.image import ContainerImage


class BrainwaveImage(ContainerImage, flavor="brainwave"):
    """An image with the gRPC server and one converted model."""

    @staticmethod
    @known_keywords
    def image_configuration(
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
    ) -> AccelImageConfiguration:
        """What to note about the image; the model itself is given to Image.create."""
        return AccelImageConfiguration(tags, properties, description, flavor="brainwave")
