"""The one exception tree. Every message says what was expected, what came, and what to do next.

AmlRealtimeAiError
├── InvalidInputError (also ValueError)      an argument or a file's content is wrong
├── UnsupportedError  (also NotImplementedError)  understood, but not something that we can do
├── NotFoundError     (also LookupError)     a name, a file or a resource is not there
├── InUseError                               refused, because something else still needs it
├── ConfigError                              a workspace or service configuration cannot be used
├── StoreError                               the store could not write or read (disk full, damaged)
├── WeightsError                             a weights file is missing, damaged or of another network
├── ConversionError                          a model could not be converted, or its result differs
├── ContainerError                           an image could not be built or run
└── DeploymentError                          a service could not be started or reached
"""


class AmlRealtimeAiError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidInputError(AmlRealtimeAiError, ValueError):
    """An argument or a file's content is wrong."""


class UnsupportedError(AmlRealtimeAiError, NotImplementedError):
    """Understood, but not something that we can do."""


class NotFoundError(AmlRealtimeAiError, LookupError):
    """A name, a file or a resource is not there."""


class InUseError(AmlRealtimeAiError):
    """Refused, because something else still needs it."""


class ConfigError(AmlRealtimeAiError):
    """A workspace or service configuration cannot be used."""


class StoreError(AmlRealtimeAiError):
    """The store could not write or read."""


class WeightsError(AmlRealtimeAiError):
    """A weights file is missing, damaged or of another network."""


class ConversionError(AmlRealtimeAiError):
    """A model could not be converted, or the result differs from the original."""


class ContainerError(AmlRealtimeAiError):
    """A container image could not be built or run."""


class DeploymentError(AmlRealtimeAiError):
    """A service could not be started, updated or reached."""
