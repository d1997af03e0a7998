"""AccelContainerImage: an image that serves a converted model over gRPC."""

from dataclasses import dataclass

from amlrealtimeai.core.arguments import known_keywords
from amlrealtimeai.core.image import ContainerImage


@dataclass(frozen=True)
class AccelImageConfiguration:
    """What is noted about an image, beside its model."""

    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    description: str | None = None
    flavor: str = "accel"


class AccelContainerImage(ContainerImage, flavor="accel"):
    """An image with the gRPC server and one converted model."""

    @staticmethod
    @known_keywords
    def image_configuration(
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
    ) -> AccelImageConfiguration:
        """What to note about the image; the model itself is given to Image.create."""
        return AccelImageConfiguration(tags, properties, description)
