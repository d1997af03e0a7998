"""The networks, as graph-mode TensorFlow: each in float32 and as a quantised twin with the same variables.

One module per architecture (resnet.py), one for the variables and layers (layers.py), one for the quantiser
(quantizer.py), one for where weights come from (weights.py). `utils` holds the image preprocessing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amlrealtimeai.accel.models.resnet import QuantizedResnet50, Resnet50

__all__ = ["QuantizedResnet50", "Resnet50"]

_HOMES = {"QuantizedResnet50": "resnet", "Resnet50": "resnet"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'amlrealtimeai.accel.models' has no attribute {name!r}")
    return getattr(import_module(f"amlrealtimeai.accel.models.{_HOMES[name]}"), name)
