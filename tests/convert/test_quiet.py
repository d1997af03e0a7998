"""Programs without standard error: services, windowed programs, daemons."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys
{before}
from amlrealtimeai.convert.quiet import quiet, tensorflow
with quiet():
    assert tensorflow().__name__ == "tensorflow"
try:
    os.fstat(2)
    print("open")
except OSError:
    print("closed")
"""


@pytest.mark.parametrize(
    ("before", "then"), [("sys.stderr = None", "open"), ("os.close(2)", "closed")], ids=["none", "closed"]
)
def test_tensorflow_loads_without_standard_error(before: str, then: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert process.returncode == 0 and process.stdout.split()[-1] == then
    assert process.stderr == ""  # start-up lines go nowhere, whatever the descriptor was
