"""Azure ML Hardware Accelerated Models, offline: the first edition's clients live here, the rest in its rooms.

Importing this package loads neither TensorFlow nor ONNX Runtime, and changes nothing for other packages.
"""

from typing import TYPE_CHECKING

from amlrealtimeai import lazy, retired

if TYPE_CHECKING:
    from amlrealtimeai.client import PredictionClient
    from amlrealtimeai.deployment_client import DeploymentClient

__version__ = "0.1.0"
__all__ = ["DeploymentClient", "PredictionClient", "__version__"]

__getattr__ = lazy.attributes(__name__, {"DeploymentClient": "deployment_client", "PredictionClient": "client"})

retired.name_retired_modules()
