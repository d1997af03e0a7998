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
from amlrealtimeai.errors import MissingFileError as ModelPathNotFoundException
from amlrealtimeai.errors import WorkspaceException as ProjectSystemException


class _NeverRaisedException(AzureMLException):
    """Nothing here raises it: there is nobody to log in to, and there are no runs."""


AuthenticationException = _NeverRaisedException
ActivityFailedException = ExperimentExecutionException = RunConfigurationException = _NeverRaisedException
RunEnvironmentException = TrainingException = ServiceException = _NeverRaisedException

__all__ = [
    "ActivityFailedException",
    "AuthenticationException",
    "AzureMLException",
    "ComputeTargetException",
    "ExperimentExecutionException",
    "ImageException",
    "ModelNotFoundException",
    "ModelPathNotFoundException",
    "ProjectSystemException",
    "RunConfigurationException",
    "RunEnvironmentException",
    "ServiceException",
    "TrainingException",
    "UserErrorException",
    "WebserviceException",
    "WorkspaceException",
]
