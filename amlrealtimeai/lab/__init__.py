"""What lessons import: pictures, plots, measurements, exercise checks, the doctor, cleaning up.

Nothing here is needed to use the package; no submodule loads before it is asked for.
"""

import os
from importlib import import_module
from typing import Any

# TensorFlow reads it when it is imported: its start-up lines would be the first thing that a learner sees.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_HOMES = {
    "KeepAsking": "security",
    "blocks": "blocks",
    "check": "check",
    "clean_up": "cleanup",
    "doctor": "diagnosis",
    "images": "images",
    "measure": "measurement",
    "handshake": "security",
    "own_name": "cleanup",
    "program_of": "blocks",
    "sample": "pictures",
    "sheet": "pictures",
    "show": "pictures",
    "small_model": "security",
    "top": "pictures",
    "transfer": "transfer",
}
_MODULES = ("blocks", "check", "images", "transfer")

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'amlrealtimeai.lab' has no attribute {name!r}")
    module = import_module(f"amlrealtimeai.lab.{_HOMES[name]}")
    return module if name in _MODULES else getattr(module, name)
