"""The one exception tree. Every message says what was expected, what came, and what to do next.

AmlRealtimeAiError                           the original's AzureMLException
├── UserErrorException                       something that the caller can put right
│   ├── InvalidInputError (also ValueError)      an argument or a file's content is wrong
│   ├── UnsupportedError  (also NotImplementedError)  understood, but not something that we can do
│   ├── NotFoundError     (also LookupError)     a name, a file or a resource is not there
│   │   └── MissingFileError (also FileNotFoundError)
│   ├── InUseError                               refused, because something else still needs it
│   ├── MissingExtraError (also ImportError)     an optional part of the installation is not there
│   └── ConfigError                              a workspace or service configuration cannot be used
├── StoreError                               the store could not write or read (disk full, damaged)
├── WeightsError                             a weights file is missing, damaged or of another network
├── ConversionError                          a model could not be converted, or its result differs
├── ContainerError                           an image could not be built or run
├── WorkspaceException                       about one kind of object, as the original says it:
├── ComputeTargetException
└── WebserviceException                      services, and models and images too
    ├── DeploymentError                          a service could not be started or reached
    ├── ModelNotFoundException
    └── ImageException

What is about an object and of a kind is both: ComputeTargetNotFoundError is a NotFoundError and a
ComputeTargetException. `except ComputeTargetException: create` then does not swallow a full disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager

# What each extra of pyproject.toml brings that is imported.
_EXTRAS = {
    "author": ("tensorflow", "tf_keras", "tf2onnx", "onnx", "h5py", "ziglang", "cyclonedx"),
    "lab": ("matplotlib", "ipywidgets", "IPython", "nbclient", "nbformat", "jupyterlab"),
    "cluster": ("kubernetes", "yaml"),
}


class AmlRealtimeAiError(Exception):
    """Base of every error that this package raises on purpose."""

    @property
    def message(self) -> str:
        """The text; old code looks into it, for example for "ComputeTargetNotFound"."""
        return str(self)


class UserErrorException(AmlRealtimeAiError):
    """Something that the caller can put right."""


class InvalidInputError(UserErrorException, ValueError):
    """An argument or a file's content is wrong."""


class UnsupportedError(UserErrorException, NotImplementedError):
    """Understood, but not something that we can do."""


class NotFoundError(UserErrorException, LookupError):
    """A name, a file or a resource is not there."""


class MissingFileError(NotFoundError, FileNotFoundError):
    """A file or a folder is not there."""


class InUseError(UserErrorException):
    """Refused, because something else still needs it."""


class ConfigError(UserErrorException):
    """A workspace or service configuration cannot be used."""


class StoreError(AmlRealtimeAiError):
    """The store could not write or read."""


class WeightsError(AmlRealtimeAiError):
    """A weights file is missing, damaged or of another network."""


class ConversionError(AmlRealtimeAiError):
    """A model could not be converted, or the result differs from the original."""


class ContainerError(AmlRealtimeAiError):
    """A container image could not be built or run."""


class WorkspaceException(AmlRealtimeAiError):
    """About a workspace."""


class ComputeTargetException(AmlRealtimeAiError):
    """About a compute target."""


class WebserviceException(AmlRealtimeAiError):
    """About a service, or what it serves."""


class DeploymentError(WebserviceException):
    """A service could not be started, updated or reached."""


class ModelNotFoundException(WebserviceException):
    """No such model."""


class ImageException(WebserviceException):
    """About an image."""


class WorkspaceNotFoundError(NotFoundError, WorkspaceException):
    """No such workspace."""


class ComputeTargetNotFoundError(NotFoundError, ComputeTargetException):
    """No such compute target."""


class ComputeTargetInputError(InvalidInputError, ComputeTargetException):
    """A compute target cannot be made like that."""


class WebserviceNotFoundError(NotFoundError, WebserviceException):
    """No such service."""


class WebserviceInputError(InvalidInputError, WebserviceException):
    """A service cannot be deployed or changed like that."""


class ModelNotFoundError(NotFoundError, ModelNotFoundException):
    """No such model."""


class ImageNotFoundError(NotFoundError, ImageException):
    """No such image."""


class ImageInputError(InvalidInputError, ImageException):
    """An image cannot be made like that."""


class MissingExtraError(UserErrorException, ImportError):
    """An optional part of the installation is not there."""


@contextmanager
def extras_named() -> Iterator[None]:
    """A module that is missing in the body, and belongs to an extra, is a MissingExtraError that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        for extra, modules in _EXTRAS.items():
            if module in modules:
                raise MissingExtraError(
                    f"this needs {module}, which the basic installation leaves out: pip install amlrealtimeai[{extra}]"
                ) from None
        raise
