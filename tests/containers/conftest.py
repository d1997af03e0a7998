import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from amlrealtimeai import npu
from amlrealtimeai.artifact.converted import write_converted
from amlrealtimeai.artifact.definition import document
from amlrealtimeai.containers import ImageInfo, build_image

# Mean over the pixels, then two outputs: the red mean, and green minus blue.
WEIGHTS = np.array([[1, 0], [0, 1], [0, -1]], np.float32)


FLOAT32 = onnx.TensorProto.FLOAT


def onnx_model(nodes: list[onnx.NodeProto], inputs: list, outputs: list, weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT32, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, FLOAT32, shape) for name, shape in outputs],
        [helper.make_tensor(name, FLOAT32, value.shape, value.tobytes(), raw=True) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def stage(kind: str, reads: dict[str, str], writes: dict[str, str], **more: object) -> dict[str, object]:
    return {"type": kind, "name": f"{kind} stage", "inputs": reads, "outputs": writes, **more}


DECODE = stage(
    "preprocess",
    {"images": "Placeholder:0"},
    {"output": "x:0"},
    parameters={
        "order": "RGB",
        "scaling_factor": 1.0,
        "output_height": 8,
        "output_width": 8,
        "preserve_aspect_ratio": True,
    },
)


def write_model(path: Path, stages: list[dict[str, object]], files: dict[str, bytes | Path]) -> Path:
    inputs = {"images": {"tensor": "Placeholder:0", "dtype": "string", "shape": [None]}}
    outputs = {"output_alias": {"tensor": "y:0", "dtype": "float32", "shape": [None, 2]}}
    write_converted(path, document("tiny", inputs, outputs, [DECODE, *stages]), files)
    return path


def write_tiny_model(path: Path) -> Path:
    """Decode and one host stage."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["y"]),
    ]
    host = onnx_model(nodes, [("x", [None, 8, 8, 3])], [("y", [None, 2])], {"weights": WEIGHTS})
    return write_model(path, [stage("onnx", {"x": "x:0"}, {"y": "y:0"}, file="host.onnx")], {"host.onnx": host})


def write_npu_model(path: Path) -> Path:
    """Decode, an NPU stage that only quantises, clips at zero and averages, and a host stage."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels_first", "identity"], ["same"]),
        helper.make_node("Relu", ["same"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["means"]),
        helper.make_node("Transpose", ["means"], ["features"], perm=[0, 2, 3, 1]),
    ]
    identity = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    shapes = [("x", [1, 8, 8, 3])], [("features", [1, 1, 1, 3])]
    program = npu.compile(onnx.load_from_string(onnx_model(nodes, *shapes, {"identity": identity})))
    program.save(path.with_suffix(".npu"))
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["flat"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["flat", "weights"], ["y"]),
    ]
    host = onnx_model(nodes, [("features", [None, 1, 1, 3])], [("y", [None, 2])], {"weights": WEIGHTS})
    stages = [
        stage("npu", {"x": "x:0"}, {"features": "features:0"}, file="tiny.npu"),
        stage("onnx", {"features": "features:0"}, {"y": "y:0"}, file="host.onnx"),
    ]
    return write_model(path, stages, {"tiny.npu": path.with_suffix(".npu"), "host.onnx": host})


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
