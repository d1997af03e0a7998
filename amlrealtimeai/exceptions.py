"""The exception names of azureml.exceptions, for code that catches them. The tree is in amlrealtimeai.errors."""

from amlrealtimeai.errors import AmlRealtimeAiError as AzureMLException
from amlrealtimeai.errors import (
    ComputeTargetException,
    ImageException,
    ModelNotFoundException,
    UserErrorException,
    WebserviceException,
    WorkspaceException,
)

__all__ = [
    "AzureMLException",
    "ComputeTargetException",
    "ImageException",
    "ModelNotFoundException",
    "UserErrorException",
    "WebserviceException",
    "WorkspaceException",
]
