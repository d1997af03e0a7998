"""Workspaces in a home of the test run, small converted models, and one image for the whole room."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Picture

from amlrealtimeai.accel import AccelContainerImage
from amlrealtimeai.core import AksCompute, ComputeTarget, Image, Model, Workspace
from tests.serving.certificates import Authority
from tests.serving.models import image_model

_numbers = itertools.count()

# Channel means of a picture of (10, 20, 30) after subtracting ImageNet's (123.68, 116.779, 103.939).
MEANS = [-113.68, -96.779, -73.939]


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(session_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(session_home))
    monkeypatch.chdir(tmp_path)
    return session_home


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    made = Workspace.create(f"test-{next(_numbers)}")
    yield made
    made.delete(delete_dependent_resources=True)


@pytest.fixture(scope="session")
def converted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_model(tmp_path_factory.mktemp("converted") / "means.accelonnx")


@pytest.fixture(scope="session")
def doubled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers twice what converted_file answers."""
    return image_model(tmp_path_factory.mktemp("doubled") / "means.accelonnx", scaling_factor=2.0)


@pytest.fixture
def model(workspace: Workspace, converted_file: Path) -> Model:
    return Model.register(workspace, converted_file, "means")


@pytest.fixture
def cluster(workspace: Workspace) -> ComputeTarget:
    return ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration(agent_count=2))


@pytest.fixture(scope="session")
def image(session_home: Path, converted_file: Path) -> Image:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMLREALTIMEAI_HOME", str(session_home))
        shared = Workspace.create("shared")
        registered = Model.register(shared, converted_file, "means")
        configuration = AccelContainerImage.image_configuration(tags={"lesson": "3"}, description="channel means")
        made = Image.create("means", [registered], configuration, shared)
        made.wait_for_creation()
        return made


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "plain.png"
    stream = io.BytesIO()
    Picture.new("RGB", (40, 30), (10, 20, 30)).save(stream, "PNG")
    path.write_bytes(stream.getvalue())
    return path


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tls_files(authority: Authority, tmp_path: Path) -> dict[str, str]:
    tls = authority.issue("localhost")
    (tmp_path / "cert.pem").write_bytes(tls.certificate)
    (tmp_path / "key.pem").write_bytes(tls.key)
    return {
        "ssl_cname": "localhost",
        "ssl_cert_pem_file": str(tmp_path / "cert.pem"),
        "ssl_key_pem_file": str(tmp_path / "key.pem"),
    }
