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
from amlrealtimeai.errors import WorkspaceException as ProjectSystemException


class AuthenticationException(AzureMLException):
    """Nothing here raises it: there is nobody to log in to."""


__all__ = [
    "AuthenticationException",
    "AzureMLException",
    "ComputeTargetException",
    "ImageException",
    "ModelNotFoundException",
    "ProjectSystemException",
    "UserErrorException",
    "WebserviceException",
    "WorkspaceException",
]
