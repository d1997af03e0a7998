"""azureml.core.compute.compute: where old code finds ComputeTarget and its exception."""

from amlrealtimeai.core.compute.target import ComputeTarget
from amlrealtimeai.errors import ComputeTargetException

__all__ = ["ComputeTarget", "ComputeTargetException"]
