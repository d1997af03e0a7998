"""The converter over a workspace; the conversion itself is tested in tests/convert."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from amlrealtimeai.accel import AccelInferenceConfig, AccelOnnxConverter, client_from_service
from amlrealtimeai.core import ComputeTarget, Model, Workspace
from amlrealtimeai.errors import ConversionError, InvalidInputError
from tests.convert import onnx_models

OUTPUT = "classifier/probabilities:0"


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.convert import networks

    return networks.whole(tmp_path_factory.mktemp("network") / "small")


def test_a_registered_model_becomes_a_converted_one(
    workspace: Workspace, saved_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Model.register(workspace, saved_model, "small")
    source = Model.register(workspace, saved_model, "small")
    request = AccelOnnxConverter.convert_tf_model(workspace, source, "Placeholder:0", OUTPUT)
    assert request.get_status() == "Running" and repr(request) == "ConversionRequest(small:2, Running)"
    with pytest.raises(ConversionError, match=r"still running. Call wait_for_completion\(\) first"):
        request.result  # noqa: B018
    assert request.wait_for_completion(show_output=True) is True
    assert "100%" in capsys.readouterr().err
    converted = request.result
    assert (request.get_status(), converted.id) == ("Succeeded", "small.2.accelonnx:1")
    assert converted.is_converted and converted.parent_id == "small:2" and converted.filename == "small.accelonnx"
    assert "compared with TensorFlow on a sample" in str(converted.description)
    again = AccelOnnxConverter.convert_tf_model(workspace, source.id, "Placeholder:0", [OUTPUT])
    assert again.wait_for_completion() and again.result.id == "small.2.accelonnx:2"
    assert again.result.url == converted.url  # the same bytes
    assert list(workspace.store.blobs.temporary.iterdir()) == []
    with pytest.raises(InvalidInputError, match=r"'small.2.accelonnx:1' is a converted one already"):
        AccelOnnxConverter.convert_tf_model(workspace, converted, "Placeholder:0", OUTPUT)


def test_a_failed_conversion_returns_false_and_says_why(
    workspace: Workspace, saved_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Model.register(workspace, saved_model, "small")
    request = AccelOnnxConverter.convert_tf_model(workspace, source, "Placeholder:0", "nothing:0")
    assert request.wait_for_completion(show_output=True) is False
    assert "The model 'small:1' was not converted: " in capsys.readouterr().out
    assert request.get_status() == "Failed"
    with pytest.raises(InvalidInputError, match="nothing:0"):
        request.result  # noqa: B018
    assert [model.id for model in Model.list(workspace)] == ["small:1"]
    file = Model.register(workspace, saved_model / "saved_model.pb", "file")
    with pytest.raises(InvalidInputError, match=r"is the file 'saved_model.pb'; expected a SavedModel folder"):
        AccelOnnxConverter.convert_tf_model(workspace, file, "Placeholder:0", OUTPUT)


def test_model_deploy_converts_on_the_way(
    workspace: Workspace, saved_model: Path, cluster: ComputeTarget, picture: Path
) -> None:
    source = Model.register(workspace, saved_model, "small")
    config = AccelInferenceConfig(input_tensor="Placeholder:0", output_tensor=OUTPUT)
    service = Model.deploy(workspace, "small-svc", [source], config, None, cluster)
    service.wait_for_deployment()
    assert service.models[0].id == "small.1.accelonnx:1"
    answer = client_from_service(service).score_file(picture, outputs=OUTPUT)
    assert answer.shape == (10,) and np.isclose(answer.sum(), 1.0)


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = onnx_models.Network(x=onnx_models.IMAGE)
    maps = net.conv(net.add("Erf", net.conv("x", 3, 8)), 8, 8)
    flat = net.add("Flatten", net.add("GlobalAveragePool", maps))
    net.nodes.append(helper.make_node("Softmax", [net.add("Gemm", flat, net.weights(8, 5))], ["scores"], axis=1))
    return onnx_models.save(tmp_path_factory.mktemp("onnx"), net.model("scores", maps))


def test_a_registered_onnx_model_is_converted_deployed_and_asked(
    workspace: Workspace, onnx_file: Path, cluster: ComputeTarget
) -> None:
    source = Model.register(workspace, onnx_file, "network")
    request = AccelOnnxConverter.convert_onnx_model(workspace, "network", number_format="msfp16")
    assert request.wait_for_completion(), request.result
    assert (request.result.id, request.result.parent_id) == ("network.1.accelonnx:1", "network:1")
    description = str(request.result.description)
    assert "(Erf): the NPU has no such operation" in description and "compared with ONNX Runtime" in description
    service = Model.deploy(workspace, "network-svc", [request.result], AccelInferenceConfig(), None, cluster)
    service.wait_for_deployment()
    images = onnx_models.image(1, 3, 3, 16, 16)
    expected = onnx_models.floats(onnx.load(onnx_file), {"x": images})
    client = client_from_service(service)
    scores, maps = client.score_numpy_arrays({"x": images}, outputs=list(expected))
    assert list(expected) == ["scores", "relu4"]
    np.testing.assert_allclose(scores, expected["scores"], atol=0.01)
    np.testing.assert_allclose(maps, expected["relu4"], atol=0.03 * expected["relu4"].max())
    with pytest.raises(InvalidInputError, match=r"expected shape \[\?, 3, 16, 16\], got \[1, 16, 16, 3\]"):
        client.score_numpy_arrays({"x": np.zeros((1, 16, 16, 3), np.float32)})
    with pytest.raises(InvalidInputError, match=r"AccelOnnxConverter.convert_onnx_model\(workspace, model\)"):
        AccelOnnxConverter.convert_tf_model(workspace, source, "x", "scores")


def test_model_deploy_converts_an_onnx_model_on_the_way(
    workspace: Workspace, onnx_file: Path, cluster: ComputeTarget
) -> None:
    source = Model.register(workspace, onnx_file.parent, "network")
    config = AccelInferenceConfig(output_tensor="scores")
    service = Model.deploy(workspace, "network-svc", [source], config, None, cluster)
    service.wait_for_deployment()
    answer = client_from_service(service).score_numpy_arrays({"x": onnx_models.image(1, 1, 3, 16, 16)})
    assert answer.shape == (1, 5) and np.isclose(answer.sum(), 1.0)


KILLED = """
import sys
from amlrealtimeai.accel import AccelOnnxConverter
from amlrealtimeai.core import Model, Workspace
workspace = Workspace.get(sys.argv[1])
request = AccelOnnxConverter.convert_tf_model(workspace, Model(workspace, "small"), "Placeholder:0", sys.argv[2])
print("converting", flush=True)
request.wait_for_completion()
print("done", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_a_conversion_that_was_killed_leaves_nothing(workspace: Workspace, saved_model: Path) -> None:
    Model.register(workspace, saved_model, "small")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, workspace.name, OUTPUT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "converting\n"
    deadline = time.monotonic() + 60
    while not list(workspace.store.blobs.temporary.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert [model.id for model in Model.list(workspace)] == ["small:1"]
    assert list(Workspace.get(workspace.name).store.blobs.temporary.iterdir()) == []
