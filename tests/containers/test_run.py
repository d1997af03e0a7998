"""Built images in a real podman: they start, answer over gRPC, are locked down, and leave nothing behind."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.client import PredictionClient
from amlrealtimeai.containers import ImageInfo, Mount, SecretFolder, build_image, find_engine, run
from amlrealtimeai.containers import running as running_module
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.errors import ContainerError, DeploymentError, InvalidInputError
from amlrealtimeai.npu import native
from amlrealtimeai.serving.protocol import protos
from tests.containers.conftest import write_npu_model
from tests.serving.processes import eventually

pytestmark = pytest.mark.container
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def nothing_left(podman: str, image: ImageInfo) -> Iterator[None]:
    yield
    left = subprocess.run([podman, "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True)
    assert image.name not in left.stdout
    subprocess.run([podman, "image", "rm", "--force", image.id], capture_output=True)
    images = subprocess.run([podman, "images", "-a", "--format", "{{.Id}}"], capture_output=True, text=True, check=True)
    assert image.id.removeprefix("sha256:")[:12] not in images.stdout


def batch(colour: tuple[int, int, int]) -> np.ndarray:
    png = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(png, "PNG")
    return np.array([png.getvalue()], object)


def predict(address: str, colour: tuple[int, int, int]) -> list[float]:
    """One PNG of one colour through Predict; returns the output's numbers."""
    png = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(png, "PNG")
    request = protos.PredictRequest()
    tensor = request.inputs["images"]
    tensor.dtype = 7
    tensor.tensor_shape.dim.add().size = 1
    tensor.string_val.append(png.getvalue())
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=protos.PredictRequest.SerializeToString,
            response_deserializer=protos.PredictResponse.FromString,
        )
        output = method(request, timeout=20).outputs["output_alias"]
    values = np.frombuffer(output.tensor_content, np.float32) if output.tensor_content else output.float_val
    return [round(float(value), 3) for value in values]


# The means that preprocessing subtracts are 123.68, 116.779, 103.939; the outputs are red and green - blue.
EXPECTED = [76.32, -32.84]
COLOUR = (200, 100, 120)


def test_container_predicts_and_is_locked_down(image: ImageInfo) -> None:
    with run(image, cpus=1, memory="512m") as service:
        assert service.address == f"127.0.0.1:{service.port}"
        assert predict(service.address, COLOUR) == EXPECTED
        assert service.is_running
        assert f"ready on {service.address}" in service.logs()
        shown = ["inspect", "--format", "{{.State.Pid}} {{.HostConfig.Memory}} {{.HostConfig.ReadonlyRootfs}}"]
        pid, memory, read_only = service.engine.call(*shown, service.id).split()
        assert (memory, read_only) == ("536870912", "true")
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert lines["CapEff"].strip() == "0000000000000000"
        assert lines["NoNewPrivs"].strip() == "1"
        assert int(lines["VmRSS"].split()[0]) < 250_000  # kB; measured 84,000
        assert image.name in service.name
        assert "--threads 1" in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    assert not service.is_running
    assert service.logs() == ""
    assert not service.engine.succeeds("inspect", "--type", "container", service.id)
    service.stop()


def test_mounts_and_secrets(image: ImageInfo, tmp_path: Path) -> None:
    folder = tmp_path / "a folder, with a comma"
    folder.mkdir()
    (folder / "note.txt").write_text("seen")
    tls = development_certificate(["localhost"])
    secrets = SecretFolder(tmp_path / "secrets")
    secrets.write({"tls.crt": tls.certificate, "tls.key": tls.key, "keys": "the-first-key\n"})
    arguments = ["--ssl-cert", "/run/secrets/tls.crt", "--ssl-key", "/run/secrets/tls.key"]
    arguments += ["--key-file", "/run/secrets/keys"]
    with run(image, mounts=[Mount(folder, "/data")], secrets=secrets, arguments=arguments) as service:
        python = ["exec", service.id, "/usr/local/bin/python3", "-c"]
        assert service.engine.call(*python, "print(open('/data/note.txt').read())") == "seen"
        assert not service.engine.succeeds(*python, "open('/data/more.txt', 'w')"), "read-only"

        def ask(key: str, ca: str) -> list[float]:
            with PredictionClient("localhost", service.port, True, key, root_certificates=ca.encode()) as client:
                return [round(float(value), 3) for value in np.ravel(client.score_numpy_array(batch(COLOUR)))]

        assert ask("the-first-key", tls.ca) == EXPECTED
        with pytest.raises(DeploymentError, match="UNAUTHENTICATED"):
            ask("another-key", tls.ca)
        shown = service.engine.call("inspect", service.id) + service.logs()
        assert "the-first-key" not in shown and tls.key.splitlines()[1] not in shown

        fresh = development_certificate(["localhost"])
        secrets.write({"tls.crt": fresh.certificate, "tls.key": fresh.key})
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(DeploymentError):
                assert ask("the-first-key", fresh.ca) == EXPECTED
                break
        else:
            pytest.fail("the new certificate was not taken")
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0, "nobody else can look into it"
    secrets.remove()
    assert not (tmp_path / "secrets").exists()


def test_what_cannot_be_mounted_is_said_before_anything_starts(image: ImageInfo, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent does not exist; a container cannot see it"):
        run(image, mounts=[Mount(tmp_path / "absent", "/data")])
    for target in ("data", "/", "/a/../etc", ""):
        with pytest.raises(InvalidInputError, match="expected an absolute path below /"):
            run(image, mounts=[Mount(tmp_path, target)])
    with pytest.raises(InvalidInputError, match="expected the name of a secret"):
        SecretFolder(tmp_path / "secrets").write({"../key": "x"})


def test_native_kernel_is_ready_without_a_compiler(image: ImageInfo) -> None:
    engine = find_engine()
    code = "from amlrealtimeai.npu import native; print(native.library_path(), native.kernel_info()['isa'])"
    limits = ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--read-only", "--network", "none"]
    loaded = engine.load(image.path)
    python = ["--entrypoint", "/usr/local/bin/python3", loaded, "-c", code]
    path, isa = engine.call("run", "--rm", *limits, *python).split()
    assert path.startswith("/app/amlrealtimeai/npu/native/npu_kernel-")
    assert isa == native.kernel_info()["isa"]


def test_published_port_and_a_chosen_port(image: ImageInfo) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for network in ("bridge", "host"):
        with run(image.path, port=port, network=network) as service:
            assert service.port == port
            assert predict(service.address, COLOUR) == EXPECTED


def test_two_run_side_by_side(image: ImageInfo) -> None:
    with run(image) as first, run(image) as second:
        assert first.port != second.port
        first.stop()
        assert predict(second.address, COLOUR) == EXPECTED


def test_taken_port_is_named(image: ImageInfo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ContainerError, match=rf"port {port} cannot be used.*choose another one, or 0"):
            run(image, port=port)


def test_port_that_is_taken_at_the_last_moment(image: ImageInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "_check_free", lambda port: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ContainerError, match=rf"the container ended at start with exit code 1.*\n.*{port}"):
            run(image, port=port, network="host")
        with pytest.raises(ContainerError, match="podman run failed"):
            run(image, port=port, network="bridge")


@pytest.mark.parametrize("restart", [False, True])
def test_container_that_dies_at_start_shows_its_code_and_its_log(image: ImageInfo, restart: bool) -> None:
    with pytest.raises(ContainerError, match=r"exit code 2. Its log:\n(.|\n)*unrecognized arguments: --nonsense"):
        run(image, arguments=["--nonsense"], restart=restart)


def test_exit_code_of_a_container_that_is_started_again(image: ImageInfo) -> None:
    with run(image, restart=True) as service:
        pid = service.engine.call("inspect", "--format", "{{.State.Pid}}", service.id)
        os.kill(int(pid), signal.SIGKILL)  # the engine's own kill would be an end that was wished for
        eventually(lambda: service.engine.has_died(service.id))
        eventually(lambda: service.is_running)
        assert service.engine.exit_code(service.id) == 137


def test_service_that_does_not_come_up_in_time_is_removed(image: ImageInfo) -> None:
    with pytest.raises(ContainerError, match=r"did not come up within 0 s"):
        run(image, timeout=0.0)


def test_damaged_image_is_refused_before_it_is_loaded(image: ImageInfo, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar"
    data = bytearray(image.path.read_bytes())
    data[len(data) // 2] ^= 255
    damaged.write_bytes(data)
    with pytest.raises(ContainerError, match="damaged or no container image"):
        run(damaged)


def test_container_ends_with_the_process_that_started_it(image: ImageInfo) -> None:
    code = "import sys; from amlrealtimeai.containers import run; print(run(sys.argv[1]).id)"
    command = [sys.executable, "-c", code, image.path]
    container = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    assert not find_engine().succeeds("inspect", "--type", "container", container)


@pytest.mark.parametrize("how", ["plain", "admin port", "TLS"])
def test_health_check_asks_the_running_server(image: ImageInfo, tmp_path: Path, how: str) -> None:
    arguments, secrets = {"plain": [], "admin port": ["--admin-port", "0"]}.get(how, []), None
    if how == "TLS":
        tls = development_certificate(["localhost"])
        secrets = SecretFolder(tmp_path / "secrets")
        secrets.write({"tls.crt": tls.certificate, "tls.key": tls.key})
        arguments = ["--ssl-cert", "/run/secrets/tls.crt", "--ssl-key", "/run/secrets/tls.key"]
    with run(image, arguments=arguments, secrets=secrets) as service:

        def is_healthy() -> bool:
            return service.engine.succeeds("healthcheck", "run", service.id)

        eventually(is_healthy)
        log = service.engine.call("inspect", "--format", "{{json .State.Health.Log}}", service.id)
        asked = {"plain": f"gRPC health on port {service.port}", "TLS": f"TLS handshake on port {service.port}"}
        assert f"healthy: {asked.get(how, '/readyz on port ')}" in log
        service.engine.call("kill", "--signal", "STOP", service.id)
        assert not is_healthy()
        service.engine.call("kill", "--signal", "CONT", service.id)
        eventually(is_healthy)
    if secrets:
        secrets.remove()


def test_stop_reaches_the_server_which_ends_by_itself(image: ImageInfo) -> None:
    with run(image) as service:
        assert predict(service.address, COLOUR) == EXPECTED
        service.engine.call("stop", "--time", "20", service.id)
        assert not service.is_running
        assert service.engine.exit_code(service.id) == 0  # 137: it did not hear SIGTERM and was killed
        with pytest.raises(grpc.RpcError):
            predict(service.address, COLOUR)


def test_npu_stage_runs_in_the_container_and_the_image_is_removed_on_request(image: ImageInfo, tmp_path: Path) -> None:
    model = write_npu_model(tmp_path / "my model-v2.accelonnx")
    info = build_image(model, tmp_path / "x.tar", name=f"{image.name}-b", tag="2")
    service = run(info)
    # Largest magnitude 76.32: exponent 6, five mantissa bits, step 4: 76, -16 (clipped to 0), 16.
    assert predict(service.address, COLOUR) == [76.0, -16.0]
    service.stop(remove_image=True)
    assert not service.engine.succeeds("image", "inspect", info.id)


@pytest.mark.parametrize(
    ("installed", "asked", "message"),
    [
        ([], None, r"no container engine is installed.*apt install podman runc"),
        (["docker"], None, r"docker is installed, but its daemon does not answer: sudo systemctl start docker"),
        (["docker"], "podman", "podman is not installed: apt install podman"),
        (["docker"], "runc", "runc is not installed: apt install runc"),
        ([], "lxc", "expected the engine podman, docker or runc, got 'lxc'"),
    ],
)
def test_missing_engine_is_explained(
    installed: list[str], asked: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in installed:
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContainerError, match=message):
        find_engine(asked)


def test_runc_alone_where_no_other_engine_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("docker", "runc"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_engine().name == find_engine("runc").name == "runc"
