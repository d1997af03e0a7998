"""The wheel in an empty environment serves a network and asks it, without TensorFlow, Jupyter, ONNX or a compiler."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.npu import native
from tests.serving.models import encode, image_model, picture

ROOT = Path(__file__).parents[2]
ABSENT = ("tensorflow", "tf_keras", "onnx", "tf2onnx", "h5py", "ziglang", "jupyterlab", "matplotlib", "ipywidgets")

ASK = """
import sys
from importlib.util import find_spec
import amlrealtimeai
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.npu import kernel_info
from amlrealtimeai.serving.server import Server

model, image, absent = sys.argv[1:]
assert "site-packages" in amlrealtimeai.__file__
assert not [name for name in absent.split(",") if find_spec(name)]
assert kernel_info()["isa"]
with Server() as server:
    server.add_model("means", ConvertedModel.load(model))
    from amlrealtimeai.accel import PredictionClient
    with PredictionClient("127.0.0.1", server.port) as client:
        print(client.score_file(image, "images", "output_alias").tolist())
"""


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and what it requires, and no more."""
    folder, uv = tmp_path_factory.mktemp("installed"), Path(sys.executable).with_name("uv")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    run(uv, "venv", "-q", "--python", sys.executable, folder / "empty")
    python = folder / "empty" / "bin" / "python"
    install = (uv, "pip", "install", "-q", "--python", python, "-c", ROOT / "requirements.lock", wheel)
    offline = subprocess.run([str(part) for part in (*install, "--offline")], capture_output=True, check=False)
    if offline.returncode:
        run(*install)
    return python


def test_the_wheel_serves_and_asks_without_what_authors_need(installed: Path, tmp_path: Path) -> None:
    image = tmp_path / "picture.jpg"
    image.write_bytes(encode(picture(), "JPEG"))
    model = image_model(tmp_path / "means.accelonnx")
    kernel = native.library_path()
    (tmp_path / "cache" / "amlrealtimeai").mkdir(parents=True)
    shutil.copy(kernel, tmp_path / "cache" / "amlrealtimeai")  # as a wheel for this system would bring it
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    answer = run(installed, "-c", ASK, model, image, ",".join(ABSENT), cwd=tmp_path, env=environment)
    expected = ConvertedModel.load(model).predict({"images": np.array([image.read_bytes()], object)})
    assert answer.strip() == str(expected.outputs["output_alias"][0].tolist())


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from amlrealtimeai.accel.models import QuantizedResnet50", "author"),
        ("from amlrealtimeai.resnet50 import model", "author"),
        ("from amlrealtimeai.npu import compile", "author"),
        ("from amlrealtimeai.convert.quiet import tensorflow; tensorflow()", "author"),
        ("from amlrealtimeai.lab import quickstart; quickstart.run()", "lab"),
    ],
)
def test_what_an_extra_would_bring_is_named(installed: Path, tmp_path: Path, code: str, extra: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [str(installed), "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode and f"pip install amlrealtimeai[{extra}]" in done.stderr.splitlines()[-1], done.stderr
