"""Azure ML Hardware Accelerated Models, offline: the first edition's clients live here, the rest in its rooms.

Importing this package loads neither TensorFlow nor ONNX Runtime.
"""

import os
from typing import TYPE_CHECKING

from amlrealtimeai import lazy

# These are read when the other library is imported, so they have to be set before anything of ours imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# gRPC's core prints handshake and port troubles to stderr; all of them reach us as errors with words.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

if TYPE_CHECKING:
    from amlrealtimeai.client import PredictionClient
    from amlrealtimeai.deployment_client import DeploymentClient

__version__ = "0.1.0"
__all__ = ["DeploymentClient", "PredictionClient", "__version__"]

__getattr__ = lazy.attributes(__name__, {"DeploymentClient": "deployment_client", "PredictionClient": "client"})
