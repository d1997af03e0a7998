"""The old path of amlrealtimeai.pipeline.definition."""

from amlrealtimeai.pipeline.definition import ServiceDefinition

__all__ = ["ServiceDefinition"]
