import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from amlrealtimeai.containers import ImageInfo, build_image
from amlrealtimeai.serving.converted import write_converted

# Mean over the pixels, then two outputs: the red mean, and green minus blue.
WEIGHTS = np.array([[1, 0], [0, 1], [0, -1]], np.float32)


def write_tiny_model(path: Path) -> Path:
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["y"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", float32, [None, 8, 8, 3])],
        [helper.make_tensor_value_info("y", float32, [None, 2])],
        [helper.make_tensor("weights", float32, WEIGHTS.shape, WEIGHTS.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    parameters = {
        "order": "RGB",
        "scaling_factor": 1.0,
        "output_height": 8,
        "output_width": 8,
        "preserve_aspect_ratio": True,
    }
    definition = {
        "format": "amlrealtimeai.service",
        "format_version": 1,
        "name": "tiny",
        "created_with": "0.1.0",
        "signature": {
            "name": "serving_default",
            "inputs": {"images": {"tensor": "Placeholder:0", "dtype": "string", "shape": [None]}},
            "outputs": {"output_alias": {"tensor": "y:0", "dtype": "float32", "shape": [None, 2]}},
        },
        "pipeline": [
            {
                "type": "preprocess",
                "name": "decode",
                "inputs": {"images": "Placeholder:0"},
                "outputs": {"output": "x:0"},
                "parameters": parameters,
            },
            {
                "type": "onnx",
                "name": "classifier",
                "file": "classifier.onnx",
                "inputs": {"x": "x:0"},
                "outputs": {"y": "y:0"},
            },
        ],
    }
    write_converted(path, definition, {"classifier.onnx": model.SerializeToString()})
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.accelonnx")


@pytest.fixture(scope="session")
def layer_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def use_layer_cache(layer_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(layer_cache))


@pytest.fixture(scope="session")
def image(tiny_model: Path, layer_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageInfo:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMLREALTIMEAI_HOME", str(layer_cache))
        # The name is in every container's and image's name: what is left over can be told from others' work.
        name = f"tiny-{os.getpid()}"
        return build_image(tiny_model, tmp_path_factory.mktemp("image") / f"{name}.tar", name=name, tag="1")


@pytest.fixture(scope="session")
def podman() -> str:
    found = shutil.which("podman")
    if found:
        return found
    if os.environ.get("AMLREALTIMEAI_REQUIRE_PODMAN"):
        pytest.fail("podman is required here and not installed: apt install podman runc")
    pytest.skip("podman is not installed: apt install podman runc")
