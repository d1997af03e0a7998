"""The NPU: formats, compiler, program and its three readers (reference, native, timing).

Imports NumPy and the native library only; the compiler also imports onnx, when it is used.
"""

from importlib import import_module
from typing import Any

from amlrealtimeai.errors import extras_named
from amlrealtimeai.npu.config import NpuConfig, configs
from amlrealtimeai.npu.formats import BlockFormat, dequantize, formats, quantize

_HOMES = {
    "compile": ("amlrealtimeai.npu.compiler", "compile_model"),
    "blockers": ("amlrealtimeai.npu.compiler", "blockers"),
    "Native": ("amlrealtimeai.npu.native", "Native"),
    "kernel_info": ("amlrealtimeai.npu.native", "kernel_info"),
    "Program": ("amlrealtimeai.npu.program", "Program"),
    "load": ("amlrealtimeai.npu.program", "load"),
    "reference": ("amlrealtimeai.npu.reference", None),
    "timing": ("amlrealtimeai.npu.timing", None),
    "snr": ("amlrealtimeai.npu.compare", "snr"),
    "histograms": ("amlrealtimeai.npu.statistics", "histograms"),
    "saturated": ("amlrealtimeai.npu.statistics", "saturated"),
}

__all__ = ["BlockFormat", "NpuConfig", "configs", "dequantize", "formats", "quantize", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'amlrealtimeai.npu' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    with extras_named():
        found = import_module(module)
    return getattr(found, attribute) if attribute else found
