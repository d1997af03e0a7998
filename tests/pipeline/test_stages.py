"""Stages that people write: sessions, names, variables without values, operations that ONNX does not have."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai import DeploymentClient
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.errors import ConversionError, InvalidInputError
from amlrealtimeai.pipeline import ServiceDefinition, TensorflowStage


@pytest.fixture
def session() -> Iterator[tf.Session]:
    with tf.Graph().as_default(), tf.Session() as made:
        yield made


def saved(stage: TensorflowStage, path: Path) -> Path:
    definition = ServiceDefinition()
    definition.pipeline.append(stage)
    definition.save(path)
    return path


@pytest.mark.parametrize("given", [None, "session", 5, tf.Graph()])
def test_a_stage_needs_a_session(given: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"expected a session with the values of the variables"):
        TensorflowStage(given, "x:0", "y:0")


def test_none_is_the_default_session(session: tf.Session, tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    y = tf.identity(2 * x, name="y")
    for source, result in ((x, y), ("x:0", "y:0"), ("x", "y"), (x.op, y.op)):
        path = saved(TensorflowStage(None, source, result, "a-name_1.x"), tmp_path / "a b" / "stäge.zip")
        answer = ConvertedModel.load(path).predict({"images": np.array([[1, 2, 3]], np.float32)}).outputs
        assert answer["output_alias"].tolist() == [[2, 4, 6]]


@pytest.mark.parametrize("name", ["my stage", "é", "a/b", "", "x" * 200, 5])
def test_a_name_that_no_file_can_have(name: Any, session: tf.Session) -> None:
    with pytest.raises(InvalidInputError, match="stage name: expected letters, digits"):
        TensorflowStage(session, "x:0", "y:0", name)


@pytest.mark.parametrize("resource", [False, True])
def test_a_variable_without_a_value_is_named(resource: bool, session: tf.Session, tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    weights = tf.get_variable("my_weights", [3, 2], use_resource=resource)
    with pytest.raises(ConversionError, match=r"has no value in this session \(.*my_weights"):
        saved(TensorflowStage(session, x, tf.matmul(x, weights)), tmp_path / "x.zip")


@pytest.mark.parametrize("op", ["Print", "StringLength"])
def test_an_operation_without_a_form_in_onnx_is_named(op: str, session: tf.Session, tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32 if op == "Print" else tf.string, [None])
    y = tf.Print(x, [x]) * 2 if op == "Print" else tf.strings.length(x)
    with pytest.raises(ConversionError, match=rf"the op {op} in the host stage 'model' has no form in ONNX\. Leave it"):
        saved(TensorflowStage(session, x, y), tmp_path / "x.zip")


def test_the_client_s_files_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: tf.Session) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    client = DeploymentClient("subscription", "group", "first")
    for path in (None, 5, b"x"):
        with pytest.raises(InvalidInputError, match="service_def_path: expected a path"):
            client.register_model("x", path)
    x = tf.placeholder(tf.float32, [None, 3])
    model = client.register_model("x", saved(TensorflowStage(session, x, 2 * x), tmp_path / "x.zip"))
    made = development_certificate(["localhost"])
    service = client.create_service("svc-tls", model, True, made.certificate.encode(), made.key.encode())  # type: ignore[arg-type]
    assert (service.sslEnabled, service.ipAddress) == (True, "localhost")
    client.delete_service(service.id)
