"""The first edition's service definition: stages in TensorFlow, on the NPU and in Keras, saved as one file."""

from amlrealtimeai.pipeline.abstract_stage import AbstractStage, StageEncoder
from amlrealtimeai.pipeline.definition import ServiceDefinition
from amlrealtimeai.pipeline.stages import BrainWaveStage, KerasStage, TensorflowStage

__all__ = ["AbstractStage", "BrainWaveStage", "KerasStage", "ServiceDefinition", "StageEncoder", "TensorflowStage"]
