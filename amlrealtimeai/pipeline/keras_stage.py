"""The old path of amlrealtimeai.pipeline.stages."""

from amlrealtimeai.pipeline.stages import KerasStage

__all__ = ["KerasStage"]
