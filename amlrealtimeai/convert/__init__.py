"""From a TensorFlow SavedModel to a converted model: stages, ONNX for the host, a program for the NPU.

The only room below the authoring side that imports TensorFlow; it does so on first use, never on import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amlrealtimeai.convert.convert import convert_saved_model
    from amlrealtimeai.convert.report import Check, ConversionReport, StageReport

__all__ = ["Check", "ConversionReport", "StageReport", "convert_saved_model"]

_HOMES = {"convert_saved_model": "convert", "Check": "report", "ConversionReport": "report", "StageReport": "report"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'amlrealtimeai.convert' has no attribute {name!r}")
    return getattr(import_module(f"amlrealtimeai.convert.{_HOMES[name]}"), name)
