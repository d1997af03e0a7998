"""ONNX Runtime, imported on first use, and never without its telemetry switched off."""

import os
from importlib import import_module
from typing import Any


def onnxruntime() -> Any:
    """The onnxruntime module."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    return import_module("onnxruntime")
