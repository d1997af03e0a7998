"""AccelContainerImage: an image that serves a converted model over gRPC."""

from dataclasses import dataclass
from typing import Any

from amlrealtimeai.core.arguments import known_keywords
from amlrealtimeai.core.image import ContainerImage


@dataclass(frozen=True)
class AccelImageConfiguration:
    """What is noted about an image, beside its model."""

    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    description: str | None = None
    flavor: str = "accel"


class AccelContainerImage(ContainerImage):
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

    @known_keywords
    def run(self, input_data: Any = None, port: int = 0, engine: str | None = None) -> Any:
        """Run the image with podman or docker on this machine.

        Without `input_data`: returns the running container (a context manager with .address and .stop()). With an image
        file's path, its bytes, or an array: scores that, stops the container and returns the answer. Raises
        ContainerError when there is no engine.
        """
        from amlrealtimeai import containers

        self._required()
        running = containers.run(str(self.image_location), port=port, engine=engine)
        if input_data is None:
            return running
        with running:
            return _score(running.address, self.name, input_data)


def _score(address: str, name: str, input_data: Any) -> Any:
    import numpy as np

    from amlrealtimeai.accel.client import PredictionClient

    host, _, port = address.rpartition(":")
    client = PredictionClient(address=host, port=int(port), service_name=name)
    if isinstance(input_data, np.ndarray):
        return client.score_numpy_arrays({"images": input_data})
    if isinstance(input_data, bytes):
        return client.score_numpy_arrays({"images": np.array([input_data], dtype=object)})
    return client.score_file(input_data)
