"""What every module of tests finds and leaves: the same random numbers, and a process as it was before.

No example of hypothesis has a deadline, because machines are shared.
"""

import os

# As make does, before NumPy and ONNX Runtime are loaded. Two threads for small products mostly wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("shared machines", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machines")

# Set once for the whole process by libraries when they are imported.
_OF_LIBRARIES = (
    "GRPC",
    "TF",
    "TPU",
    "ENABLE_RUNTIME_UPTIME",
    "HDF5",
    "KMP",
    "PYTEST",
    "MPL",
    "JUPYTER",
    "JPY",
    "PYDEVD",
    "COLUMNS",
    "LINES",
)


@pytest.fixture(autouse=True)
def the_same_numbers_each_time() -> None:
    """Keras and NumPy's old functions draw from these."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="module", autouse=True)
def nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """A signal handler, a variable or a folder that a module leaves behind would show in somebody else's test."""
    before = _process()
    yield
    after = _process()
    changed = sorted(what for what in before | after if before.get(what) != after.get(what))
    assert not changed, f"{request.node.nodeid} leaves behind, not as before: {', '.join(changed)}"


def _process() -> dict[str, object]:
    mask = os.umask(0)
    os.umask(mask)
    handlers = {f"handler of {number.name}": signal.getsignal(number) for number in signal.Signals}
    variables = {f"${name}": value for name, value in os.environ.items() if not name.startswith(_OF_LIBRARIES)}
    return {"working folder": Path.cwd(), "umask": mask} | handlers | variables
