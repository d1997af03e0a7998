"""Asking a service: what every client shares, and the first edition's PredictionClient.

The clients work against this package's server and against TensorFlow Serving, and load neither TensorFlow nor a model.
gRPC is loaded with the first call. A call's way: prediction -> arrays -> channel (address, proxy) -> errors.
"""

from typing import TYPE_CHECKING

from amlrealtimeai import lazy
from amlrealtimeai.client.prediction import PredictionClient, ServiceClient

if TYPE_CHECKING:
    from amlrealtimeai.client.arrays import as_batch, read_file, tensor_of, without_batch
    from amlrealtimeai.client.errors import ServiceError

__all__ = [
    "PredictionClient",
    "ServiceClient",
    "ServiceError",
    "as_batch",
    "read_file",
    "tensor_of",
    "without_batch",
]

_ARRAYS = ("as_batch", "read_file", "tensor_of", "without_batch")
__getattr__ = lazy.attributes(__name__, {"ServiceError": "errors", **dict.fromkeys(_ARRAYS, "arrays")})
