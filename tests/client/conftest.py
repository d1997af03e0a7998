"""Servers for both editions' clients: one plain with one model, one with TLS, keys and two models."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.models import encode, image_model, many_output_model, picture


@pytest.fixture(scope="session")
def means(tmp_path_factory: pytest.TempPathFactory) -> ConvertedModel:
    return ConvertedModel.load(image_model(tmp_path_factory.mktemp("means") / "means.accelonnx"))


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> ConvertedModel:
    return ConvertedModel.load(many_output_model(tmp_path_factory.mktemp("heads") / "heads.accelonnx"))


@pytest.fixture(scope="session")
def plain(means: ConvertedModel) -> Iterator[Server]:
    with Server() as server:
        server.add_model("means", means)
        yield server


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def secure(means: ConvertedModel, heads: ConvertedModel, authority: Authority) -> Iterator[Server]:
    with Server(tls=authority.issue("localhost")) as server:
        server.add_model("means", means, keys=["primary", "secondary"])
        server.add_model("heads", heads)
        yield server


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "picture.jpg"
    path.write_bytes(encode(picture(), "JPEG"))
    return path
