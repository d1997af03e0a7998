"""What a child process is started with."""

import os
from pathlib import Path

import amlrealtimeai


def with_this_package() -> dict[str, str]:
    """This process's environment, in which a child finds the same package as this process."""
    root = str(Path(amlrealtimeai.__file__).resolve().parent.parent)
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
