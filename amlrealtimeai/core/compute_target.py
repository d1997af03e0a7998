"""azureml.core.compute_target: where old code finds ComputeTarget's exception."""

from amlrealtimeai.core.compute import AksCompute, ComputeTarget
from amlrealtimeai.exceptions import ComputeTargetException

__all__ = ["AksCompute", "ComputeTarget", "ComputeTargetException"]
