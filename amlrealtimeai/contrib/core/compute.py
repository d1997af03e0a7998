"""Compute targets of azureml.contrib.core."""

from amlrealtimeai.core.cloud import names_of_azure

__getattr__ = names_of_azure(
    __name__, {"IotHubCompute": "A device that runs containers is an EdgeCompute (amlrealtimeai.core.compute)."}
)
