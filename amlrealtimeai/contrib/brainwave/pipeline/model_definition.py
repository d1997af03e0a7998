"""ModelDefinition: the middle edition's name of a service definition."""

from pathlib import Path

from amlrealtimeai.pipeline import ServiceDefinition


class ModelDefinition(ServiceDefinition):
    """A list of stages, `pipeline`; save writes them as one file, which Model.register takes."""

    def save(self, model_definition_path: str | Path) -> None:
        """Convert the stages and write them."""
        super().save(model_definition_path)
