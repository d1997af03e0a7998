"""Runs of the reference that several tests compare with: it is what costs most in them."""

import functools
from typing import Any

import numpy as np

from amlrealtimeai import npu
from benchmarks import networks, resnet50


@functools.lru_cache(8)
def traced_run(name: str, size: int, fmt: str) -> tuple[npu.Program, np.ndarray, dict[str, Any]]:
    """A network's program, a picture, and every tensor of the reference's run."""
    document = networks.model(name, size)
    image = resnet50.sample_image() if name == "resnet50" else networks.image(document)
    program = npu.compile(document, fmt=fmt)
    return program, image, npu.reference.run(program, image, trace=True)
