"""BrainWaveStage: a featurizer on the NPU, with its weights from a session."""

from pathlib import Path
from typing import Any

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.pipeline import AbstractStage


class BrainWaveStage(AbstractStage):
    """sess: holds the weights of a network that is not frozen. model: of amlrealtimeai.contrib.brainwave.models."""

    on_npu = True

    def __init__(self, sess: Any, model: Any, name: str | None = None) -> None:
        super().__init__(name)
        if not hasattr(model, "convert_featurizer") or not hasattr(model, "input_dims"):
            raise InvalidInputError(
                "BrainWaveStage(session, model) expects a model of amlrealtimeai.contrib.brainwave.models, got "
                f"{type(model).__name__}"
            )
        self.sess = sess
        self.model = model

    def convert(self, path: Path) -> None:
        """Write this stage alone as a converted model."""
        self.model.convert_featurizer(path, self.sess)
