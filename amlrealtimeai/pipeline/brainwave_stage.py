"""The old path of amlrealtimeai.pipeline.stages."""

from amlrealtimeai.pipeline.stages import BrainWaveStage

__all__ = ["BrainWaveStage"]
