"""The old path of amlrealtimeai.pipeline.stages."""

from amlrealtimeai.pipeline.stages import TensorflowStage

__all__ = ["TensorflowStage"]
