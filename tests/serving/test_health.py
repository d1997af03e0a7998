"""`python -m amlrealtimeai.serving.health` beside a running server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amlrealtimeai.serving import health
from tests.serving.models import image_model
from tests.serving.processes import service

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_model(tmp_path_factory.mktemp("model") / "means.accelonnx")


def check(ports: Path | str, *options: str) -> tuple[int, str]:
    command = [sys.executable, *options, "-m", "amlrealtimeai.serving.health"]
    environment = {**os.environ, health.PORTS: str(ports)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers that are started now write their ports."""
    monkeypatch.setenv(health.PORTS, str(tmp_path / "ports.json"))
    return tmp_path / "ports.json"


def test_asks_the_admin_port_without_loading_libraries(model: Path, ports: Path) -> None:
    with service(model, "--port", "0", "--admin-port", "0") as running:
        status, text = check(ports, "-X", "importtime")
        assert status == 0 and "\nhealthy: /readyz on port " in f"\n{text}"
        loaded = {line.rpartition("|")[2].strip() for line in text.splitlines()}
        assert not loaded & {"grpc", "numpy", "h11", "prometheus_client"}
        running.terminate()
    status, text = check(ports)
    assert status == 1 and text.startswith("unhealthy: /readyz on port ")


def test_asks_the_port_of_a_server_that_listens_everywhere(model: Path, ports: Path) -> None:
    with service(model, "--host", "0.0.0.0", "--port", "0") as running:
        assert check(ports) == (0, f"healthy: gRPC health on port {running.port}\n")
        running.process.kill()
        running.process.wait()
        assert check(ports) == (1, f"unhealthy: gRPC health on port {running.port}\n")


def test_server_without_a_place_for_its_ports_serves(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = tmp_path / "absent" / "ports.json"
    monkeypatch.setenv(health.PORTS, str(ports))
    with service(model, "--port", "0") as running:
        assert health.answers("127.0.0.1", running.port, secure=False, seconds=10)
        status, text = check(ports)
    assert status == 1 and text.startswith("unhealthy: no server has written its ports")
    ports.parent.mkdir()
    os.mkfifo(ports)
    with service(model, "--port", "0") as running:
        assert health.answers("127.0.0.1", running.port, secure=False, seconds=10)
        assert ports.is_fifo(), "as /dev/null, it is not replaced"
    ports.unlink()
    for unusable in ("", "[]", "{}", '{"admin_port": "x", "admin_host": 1}'):
        ports.write_text(unusable)
        assert check(ports)[0] == 1


def test_without_a_file_of_ports_it_says_what_to_set() -> None:
    text = (
        "unhealthy: $AMLREALTIMEAI_PORTS is not set, so it is not known which server to ask; start the server and this "
        "check with AMLREALTIMEAI_PORTS=/path/of/a/file, into which the server writes its ports\n"
    )
    assert check("") == (1, text)
    command = [sys.executable, "-m", "amlrealtimeai.serving.health"]
    environment = {name: value for name, value in os.environ.items() if name != health.PORTS}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (1, text, "")
