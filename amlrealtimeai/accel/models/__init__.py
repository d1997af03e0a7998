"""The networks, as graph-mode TensorFlow: each in float32 and as a quantised twin with the same variables.

One module per architecture (resnet.py, densenet.py, vgg.py, ssd.py), one for the variables and layers (layers.py), one
for the quantiser (quantizer.py), one for where weights come from (weights.py). `utils` holds the image preprocessing,
`ssdvgg` what SSD-VGG's outputs mean (without TensorFlow).
"""

from typing import TYPE_CHECKING, Any

from amlrealtimeai import lazy
from amlrealtimeai.convert.quiet import tensorflow

if TYPE_CHECKING:
    from amlrealtimeai.accel.models import utils
    from amlrealtimeai.accel.models.densenet import Densenet121, QuantizedDensenet121
    from amlrealtimeai.accel.models.resnet import QuantizedResnet50, QuantizedResnet152, Resnet50, Resnet152
    from amlrealtimeai.accel.models.ssd import QuantizedSsdVgg, SsdVgg
    from amlrealtimeai.accel.models.utils import preprocess_array
    from amlrealtimeai.accel.models.vgg import QuantizedVgg16, Vgg16

__all__ = [
    "Densenet121",
    "QuantizedDensenet121",
    "QuantizedResnet50",
    "QuantizedResnet152",
    "QuantizedSsdVgg",
    "QuantizedVgg16",
    "Resnet50",
    "Resnet152",
    "SsdVgg",
    "Vgg16",
    "preprocess_array",
    "utils",
]

_NETWORKS = {
    "Densenet121": "densenet",
    "Resnet50": "resnet",
    "Resnet152": "resnet",
    "SsdVgg": "ssd",
    "Vgg16": "vgg",
}
_UTILS = {"preprocess_array": "utils", "utils": "utils"}
_HOMES = {**_NETWORKS, **{f"Quantized{name}": home for name, home in _NETWORKS.items()}, **_UTILS}
_find = lazy.attributes(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        tensorflow()  # here, so that its start-up lines are not the first thing that a notebook shows
    return _find(name)
