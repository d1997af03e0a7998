"""ONNX Runtime, imported on first use, and never without its telemetry switched off."""

import os
from importlib import import_module
from typing import Any


def onnxruntime() -> Any:
    """The onnxruntime module."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    return import_module("onnxruntime")


def settings(optimised: bool = True) -> Any:
    """SessionOptions that print nothing; optimised False: compute the model node by node, as it is."""
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def session(model: bytes, options: Any) -> Any:
    """An InferenceSession on the CPU, without the optimiser that is wrong.

    Pad_Fusion (1.31) lets a MaxPool pad with minus infinity what the model pads with zeros, and a pool pad more than
    its kernel, which it then refuses.
    """
    return onnxruntime().InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["Pad_Fusion"]
    )
