"""The middle edition's pipeline: the first edition's, with sessions given to its NPU stage."""

from amlrealtimeai.contrib.brainwave.pipeline.brainwave_stage import BrainWaveStage
from amlrealtimeai.contrib.brainwave.pipeline.model_definition import ModelDefinition
from amlrealtimeai.pipeline import KerasStage, TensorflowStage

__all__ = ["BrainWaveStage", "KerasStage", "ModelDefinition", "TensorflowStage"]
