"""Packages whose names are imported on first use: each name is there, another one is an AttributeError."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("", ".core", ".accel", ".accel.models", ".convert", ".containers", ".lab")


@pytest.mark.parametrize("package", [f"amlrealtimeai{end}" for end in PACKAGES])
def test_every_public_name_is_found_and_no_other(package: str) -> None:
    module = importlib.import_module(package)

    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"^module '{package}' has no attribute 'absent'$"):
        _ = module.absent


def test_a_name_is_imported_when_it_is_asked_for() -> None:
    code = "; ".join(
        (
            "import sys, amlrealtimeai, amlrealtimeai.core, amlrealtimeai.accel, amlrealtimeai.convert",
            "import amlrealtimeai.containers, amlrealtimeai.lab",
            "print([name for name in ('numpy', 'grpc', 'tensorflow', 'onnxruntime') if name in sys.modules])",
            "amlrealtimeai.PredictionClient",
            "print(sorted({'numpy', 'grpc', 'tensorflow', 'onnxruntime'} & set(sys.modules)))",
        )
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)

    assert done.stdout == "[]\n['numpy']\n"


def test_importing_the_package_sets_nothing_for_the_process() -> None:
    code = "import os; before = dict(os.environ); import amlrealtimeai, amlrealtimeai.core; print(os.environ == before)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "True\n"


def test_importing_a_client_loads_numpy_and_nothing_else_that_is_large() -> None:
    large = ("grpc", "google.protobuf", "PIL", "onnxruntime", "onnx", "tensorflow", "cryptography")
    code = f"import sys, amlrealtimeai.client; print([name for name in {large} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "[]\n"
