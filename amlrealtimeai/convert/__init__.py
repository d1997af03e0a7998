"""From a TensorFlow SavedModel or an ONNX model to a converted model: stages, ONNX for the host, a program for the NPU.

The only room below the authoring side that imports TensorFlow; it does so on first use, never on import.
"""

import os
from typing import TYPE_CHECKING

from amlrealtimeai import lazy

# Keras 2, for which the networks and old code are written; TensorFlow reads it when tf.keras is first used.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

if TYPE_CHECKING:
    from amlrealtimeai.convert.convert import convert_saved_model
    from amlrealtimeai.convert.from_onnx import convert_onnx
    from amlrealtimeai.convert.report import Check, ConversionReport, StageReport

__all__ = ["Check", "ConversionReport", "StageReport", "convert_onnx", "convert_saved_model"]

__getattr__ = lazy.attributes(
    __name__,
    {
        "convert_saved_model": "convert",
        "convert_onnx": "from_onnx",
        "Check": "report",
        "ConversionReport": "report",
        "StageReport": "report",
    },
)
