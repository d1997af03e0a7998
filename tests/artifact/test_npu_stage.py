"""The whole pipeline with an NPU stage: image -> preprocessing -> compiled featurizer -> ONNX classifier."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from amlrealtimeai import npu
from amlrealtimeai.artifact.converted import ConvertedModel, write_converted
from amlrealtimeai.artifact.definition import document
from amlrealtimeai.artifact.preprocess import preprocess_images
from amlrealtimeai.errors import InvalidInputError
from tests.serving.models import encode, graph, picture

PARAMETERS = {"output_height": 16, "output_width": 16, "scaling_factor": 0.017}
IMAGES = np.array([encode(picture(), "JPEG"), encode(picture(400, 280), "PNG"), encode(picture(50, 60), "PNG")], object)


def featurizer() -> Any:
    """image float32 [1, 16, 16, 3] -> features [1, 1, 1, 8]: convolution, ReLU, average."""

    weights = {"w": np.random.default_rng(7).standard_normal((8, 3, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Transpose", ["p"], ["features"], perm=[0, 2, 3, 1]),
    ]
    inputs = {"image": (TensorProto.FLOAT, [1, 16, 16, 3])}
    return onnx.load_from_string(graph(nodes, inputs, {"features": (TensorProto.FLOAT, [1, 1, 1, 8])}, weights))


@pytest.fixture(scope="module")
def program() -> npu.Program:
    compiled: npu.Program = npu.compile(featurizer())
    return compiled


def converted(folder: Path, program: npu.Program, from_images: bool = True) -> Path:
    program.save(folder / "featurizer.npu")
    classifier = graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Softmax", ["f"], ["y"], axis=1)],
        {"x": (TensorProto.FLOAT, ["n", 1, 1, 8])},
        {"y": (TensorProto.FLOAT, ["n", 8])},
    )
    (name, _), (features, _) = program.inputs[0], program.outputs[0]
    preprocess = {
        "type": "preprocess",
        "name": "preprocess",
        "inputs": {"images": "Placeholder:0"},
        "outputs": {"output": "prepared:0"},
        "parameters": PARAMETERS,
    }
    encoded = {"tensor": "Placeholder:0", "dtype": "string", "shape": [None]}
    prepared = {"tensor": "prepared:0", "dtype": "float32", "shape": [None, 16, 16, 3]}
    definition = document(
        "small",
        {"images": encoded if from_images else prepared},
        {
            "output_alias": {"tensor": "softmax:0", "dtype": "float32", "shape": [None, 8]},
            "features": {"tensor": "pool:0", "dtype": "float32", "shape": [None, 1, 1, 8]},
        },
        [
            *([preprocess] if from_images else []),
            {
                "type": "npu",
                "name": "featurizer",
                "file": "featurizer.npu",
                "inputs": {name: "prepared:0"},
                "outputs": {features: "pool:0"},
            },
            {
                "type": "onnx",
                "name": "classifier",
                "file": "classifier.onnx",
                "inputs": {"x": "pool:0"},
                "outputs": {"y": "softmax:0"},
            },
        ],
    )
    path = folder / "small.accelonnx"
    write_converted(path, definition, {"featurizer.npu": folder / "featurizer.npu", "classifier.onnx": classifier})
    return path


def test_a_batch_gives_what_the_reference_gives_item_by_item(tmp_path: Path, program: npu.Program) -> None:
    model = ConvertedModel.load(converted(tmp_path, program), threads=2)
    model.warm_up()
    got = model.predict({"images": IMAGES})
    assert list(got.timings) == ["decode", "npu", "classifier"]
    (name, _) = program.outputs[0]
    for i, data in enumerate(IMAGES):
        expected = npu.reference.run(program, preprocess_images([data], PARAMETERS))[name]
        np.testing.assert_array_equal(got.outputs["features"][i : i + 1], expected)
    np.testing.assert_allclose(got.outputs["output_alias"].sum(axis=1), 1, rtol=1e-5)
    assert len({tuple(row) for row in got.outputs["output_alias"].tolist()}) == 3


def test_not_a_number_stops_before_the_npu(tmp_path: Path, program: npu.Program) -> None:
    model = ConvertedModel.load(converted(tmp_path, program, from_images=False))
    x = np.zeros((2, 16, 16, 3), np.float32)
    assert model.predict({"images": x}).outputs["output_alias"].shape == (2, 8)
    for bad in (np.nan, np.inf, -np.inf):
        x[1, 3, 4, 2] = bad
        with pytest.raises(InvalidInputError, match="expected finite numbers"):
            model.predict({"images": x})


def test_a_program_with_other_names_is_refused(tmp_path: Path, program: npu.Program) -> None:
    path = converted(tmp_path, program)
    definition = {**definition_of(path)}
    definition["pipeline"][1]["inputs"] = {"picture": "prepared:0"}
    files = {"featurizer.npu": tmp_path / "featurizer.npu", "classifier.onnx": file_of(path, "classifier.onnx")}
    write_converted(path, definition, files)
    with pytest.raises(InvalidInputError, match=r"featurizer\.npu has inputs \['image'\]"):
        ConvertedModel.load(path)
    files["featurizer.npu"].write_bytes(b"no program")
    write_converted(path, definition, files)
    with pytest.raises(InvalidInputError, match="is not a usable converted model"):
        ConvertedModel.load(path)


def definition_of(path: Path) -> dict[str, Any]:

    loaded: dict[str, Any] = json.loads(file_of(path, "service_def.json"))
    return loaded


def file_of(path: Path, name: str) -> bytes:

    with zipfile.ZipFile(path) as archive:
        return archive.read(name)
