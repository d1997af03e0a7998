"""The networks, as graph-mode TensorFlow: each in float32 and as a quantised twin with the same variables.

One module per architecture (resnet.py), one for the variables and layers (layers.py), one for the quantiser
(quantizer.py), one for where weights come from (weights.py). `utils` holds the image preprocessing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from amlrealtimeai.convert.quiet import tensorflow

if TYPE_CHECKING:
    from amlrealtimeai.accel.models import utils
    from amlrealtimeai.accel.models.resnet import QuantizedResnet50, Resnet50

__all__ = ["QuantizedResnet50", "Resnet50", "utils"]

_HOMES = {"QuantizedResnet50": "resnet", "Resnet50": "resnet", "utils": "utils"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'amlrealtimeai.accel.models' has no attribute {name!r}")
    tensorflow()  # here, so that its start-up lines are not the first thing that a notebook shows
    module = import_module(f"amlrealtimeai.accel.models.{_HOMES[name]}")
    return module if name == "utils" else getattr(module, name)
