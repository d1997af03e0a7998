"""The middle edition's networks: amlrealtimeai.accel.models', usable without restore_weights where they are frozen."""

from typing import TYPE_CHECKING, Any

from amlrealtimeai import lazy
from amlrealtimeai.convert.quiet import tensorflow

if TYPE_CHECKING:
    from amlrealtimeai.contrib.brainwave.models import utils
    from amlrealtimeai.contrib.brainwave.models.networks import (
        Densenet121,
        QuantizedDensenet121,
        QuantizedResnet50,
        QuantizedResnet152,
        QuantizedVgg16,
        Resnet50,
        Resnet152,
        Vgg16,
    )
    from amlrealtimeai.contrib.brainwave.models.utils import preprocess_array

__all__ = [
    "Densenet121",
    "QuantizedDensenet121",
    "QuantizedResnet50",
    "QuantizedResnet152",
    "QuantizedVgg16",
    "Resnet50",
    "Resnet152",
    "Vgg16",
    "preprocess_array",
    "utils",
]

_HOMES = {**dict.fromkeys(__all__, "networks"), "preprocess_array": "utils", "utils": "utils"}
_find = lazy.attributes(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        tensorflow()  # here, so that its start-up lines are not the first thing that a notebook shows
    return _find(name)
