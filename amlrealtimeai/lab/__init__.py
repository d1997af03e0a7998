"""What lessons import: pictures, plots, measurements, exercise checks, the doctor, cleaning up.

Nothing here is needed to use the package; no submodule loads before it is asked for.
"""

import os

from amlrealtimeai import lazy

# TensorFlow reads it when it is imported: its start-up lines would be the first thing that a learner sees.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_HOMES = {
    "KeepAsking": "security",
    "blocks": "blocks",
    "check": "check",
    "clean_up": "lesson",
    "deploy": "deploy",
    "detection": "detection",
    "diagrams": "diagrams",
    "doctor": "diagnosis",
    "guessed": "measurement",
    "images": "images",
    "inside": "inside",
    "measure": "measurement",
    "handshake": "security",
    "own_name": "lesson",
    "plots": "plots",
    "program_of": "blocks",
    "programs_of": "blocks",
    "sample": "pictures",
    "sheet": "pictures",
    "short_error": "errors",
    "show": "pictures",
    "start": "lesson",
    "small_model": "security",
    "top": "pictures",
    "transfer": "transfer",
    "widgets": "widgets",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy.attributes(__name__, _HOMES)
