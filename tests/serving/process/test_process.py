"""The command: starts fast, says what is wrong, drains on SIGTERM."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

from amlrealtimeai.serving.process.watch import Watcher
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.conftest import predict, refused, request_of
from tests.serving.models import arithmetic_model, encode, image_model, many_output_model, picture, slow_model
from tests.serving.ports.test_server import ROUTE, outputs_of, status
from tests.serving.processes import Service, eventually, service

IMAGES = np.array([encode(picture(), "JPEG")], object)


def test_serves_one_model_and_stops_on_sigterm(tmp_path: Path) -> None:
    with service(image_model(tmp_path / "m.accelonnx"), "--port", 0, "--port-file", tmp_path / "port") as running:
        assert running.line.startswith("ready on 127.0.0.1:")
        assert (tmp_path / "port").read_text() == f"{running.port}\n"
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            assert predict(channel, request_of(images=IMAGES)).model_spec.name == "means"
        assert running.terminate() == (0, "")
    assert running.seconds < 5, "of this process' own time; about 1 as a rule"


def test_a_server_imports_no_tensorflow(tmp_path: Path) -> None:
    code = f"""
import os, sys
import amlrealtimeai.accel.client, amlrealtimeai.client, amlrealtimeai.serving.process.run
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from amlrealtimeai.serving.process.watch import Watcher

model = ConvertedModel.load({str(image_model(tmp_path / "m.accelonnx"))!r})
model.warm_up()
with Server() as server:
    server.add_model("m", model)
heavy = {{"tensorflow", "keras", "tf_keras", "onnx", "tf2onnx", "matplotlib", "torch"}} & set(sys.modules)
assert not heavy, heavy
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])


def test_json_log_lines_and_the_rest_port(tmp_path: Path) -> None:
    model = image_model(tmp_path / "m.accelonnx")
    arguments = ("--port", 0, "--rest-port", 0, "--log-format", "json", "--log-level", "info")
    with service(model, *arguments) as running:
        assert running.process.stdout is not None
        rest = int(running.process.stdout.readline().removeprefix("REST API on port "))
        with urllib.request.urlopen(f"http://127.0.0.1:{rest}/v1/models/means", timeout=30) as response:
            assert json.load(response)["model_version_status"][0]["state"] == "AVAILABLE"
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            predict(channel, request_of(images=IMAGES))
        code, errors = running.terminate()
    lines = [json.loads(line) for line in errors.splitlines()]
    asked = next(line for line in lines if line.get("method") == "Predict")
    assert (code, asked["model"], asked["code"], asked["level"]) == (0, "means", "OK", "INFO")
    assert asked["us"]["decode"] > 0 and asked["bytes"] > 1000 and len(asked["request"]) == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_requests_in_flight_finish_on_signals(tmp_path: Path, number: signal.Signals) -> None:
    model = slow_model(tmp_path / "slow.accelonnx", products=60)
    with service(model, "--port", 0, "--threads", 1, "--grace", 120, "--admin-port", 0) as running:
        assert running.process.stdout is not None
        admin = int(running.process.stdout.readline().removeprefix("probes on port "))

        def in_flight() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=20) as found:
                return b"\namlrealtimeai_in_flight 1.0\n" in found.read()

        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict").future(
                request_of(x=np.ones(1, np.float32)).SerializeToString(), timeout=120
            )
            assert eventually(in_flight)
            assert not call.done(), "the request is still running"
            running.process.send_signal(number)
            code, errors = running.finish(timeout=120)
            assert (code, errors, call.code()) == (0, "", grpc.StatusCode.OK)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at what a process has loaded in /proc")
def test_ctrl_c_while_it_starts_leaves_no_trace(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "amlrealtimeai.serving", image_model(tmp_path / "m.accelonnx"), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    eventually(lambda: "_multiarray_umath" in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "" and process.returncode in (0, 130, -signal.SIGINT)


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    model, pipe = image_model(tmp_path / "m.accelonnx"), tmp_path / "pipe"
    os.mkfifo(pipe)
    for more in ((), ("--supervise",)):
        told = failing(model, "--port", 0, "--port-file", pipe, *more)
        assert f"--port-file: expected a file, or none yet; {pipe} is something else, and stays" in told
        told = failing(model, "--port", 0, "--port-file", tmp_path / "absent" / "port", *more)
        assert f"--port-file: there is no folder {tmp_path / 'absent'} to write port into" in told
    assert pipe.is_fifo()


def test_the_host_may_have_the_brackets_of_an_address(tmp_path: Path) -> None:
    assert "9.9.9.9:0: Cannot assign" in failing(
        image_model(tmp_path / "m.accelonnx"), "--host", "[9.9.9.9]", "--port", 0
    )


def test_tls_and_key_file(tmp_path: Path) -> None:
    authority = Authority()
    tls = authority.issue()
    for name, data in (("cert.pem", tls.certificate), ("key.pem", tls.key), ("keys", b"first\nsecond\n")):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    files = ["--ssl-cert", tmp_path / "cert.pem", "--ssl-key", tmp_path / "key.pem"]
    with service(
        image_model(tmp_path / "m.accelonnx"), "--port", 0, "--key-file", tmp_path / "keys", *files
    ) as running:
        target = f"localhost:{running.port}"
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(authority.pem)) as channel:
            assert refused(lambda: predict(channel, request_of(images=IMAGES)))[0] == "UNAUTHENTICATED"
            predict(channel, request_of(images=IMAGES), metadata=[("authorization", "Bearer second")])

        renewed = Authority()
        again = renewed.issue()
        (tmp_path / "cert.pem").write_bytes(again.certificate)
        (tmp_path / "key.pem").write_bytes(again.key)

        def trusted() -> bool:
            with grpc.secure_channel(target, grpc.ssl_channel_credentials(renewed.pem)) as channel:
                predict(channel, request_of(images=IMAGES), metadata=[("authorization", "first")], timeout=2)
            return True

        assert eventually(trusted)
        code, errors = running.terminate()
        assert code == 0 and "first" not in errors and "second" not in errors


def failing(*arguments: object) -> str:
    running = Service(*arguments)
    code, errors = running.finish()
    assert code in (1, 2) and running.line == "" and "Traceback" not in errors, errors
    return errors


def test_what_cannot_start_says_why(tmp_path: Path, server: Server) -> None:
    model = image_model(tmp_path / "m.accelonnx")
    assert f"port {server.port} is taken" in failing(model, "--port", server.port)
    assert "no converted model at" in failing(tmp_path / "gone.accelonnx")
    assert "nothing to serve" in failing()
    (tmp_path / "keys").write_text("k\n")
    (tmp_path / "keys").chmod(0o600)
    assert "keys need TLS" in failing(model, "--key-file", tmp_path / "keys")
    assert "belong together" in failing(model, "--ssl-cert", tmp_path / "keys")
    assert "expected NAME=NUMBER" in failing(model, "--limit", "nope=1")


def test_stops_when_its_parent_is_gone(tmp_path: Path) -> None:
    model = image_model(tmp_path / "m.accelonnx")
    code = (
        "import subprocess, sys, os\n"
        "child = subprocess.Popen([sys.executable, '-m', 'amlrealtimeai.serving', sys.argv[1], '--port', '0',"
        " '--with-parent', str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, timeout=60, check=True)
    child = int(done.stdout)

    def gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    try:
        assert eventually(gone)
    finally:
        if not gone():
            os.kill(child, signal.SIGKILL)


class Watched:
    """The watch file and what the server says about it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "services.json"
        self.generation = 0

    def write(self, **services: dict) -> None:
        self.generation += 1
        temporary = self.path.with_name("services.tmp")
        temporary.write_text(json.dumps({"generation": self.generation, "services": services}))
        temporary.replace(self.path)

    def applied(self) -> dict:
        def read() -> dict | None:
            status = json.loads(self.path.with_name("services.json.status").read_text())
            return status if status["generation"] == self.generation else None

        found: dict = eventually(read)
        return found["services"]


def test_a_watched_file_controls_the_models(tmp_path: Path) -> None:
    means, heads = image_model(tmp_path / "means.accelonnx"), many_output_model(tmp_path / "heads.accelonnx")
    pair = np.array([[1, 2]], np.float32)
    watched = Watched(tmp_path)
    watched.write()
    with service("--watch", watched.path, "--port", 0) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            assert refused(lambda: predict(channel, request_of(x=pair)))[0] == "NOT_FOUND"

            watched.write(a={"model": str(means)}, b={"model": str(heads), "version": 4})
            assert watched.applied() == {
                "a": {"version": 1, "state": "AVAILABLE", "error": ""},
                "b": {"version": 4, "state": "AVAILABLE", "error": ""},
            }
            assert predict(channel, request_of("b", x=pair)).model_spec.version.value == 4
            assert (
                len(predict(channel, request_of(images=IMAGES), metadata=[(ROUTE, "/api/v1/service/a")]).outputs) == 1
            )

            (tmp_path / "broken.accelonnx").write_bytes(b"no zip")
            watched.write(
                a={"model": str(tmp_path / "broken.accelonnx"), "version": 2}, b={"model": str(means), "version": 5}
            )
            services = watched.applied()
            assert services["b"] == {"version": 5, "state": "AVAILABLE", "error": ""}
            assert services["a"]["state"] == "END" and "not a whole zip" in services["a"]["error"]
            assert predict(channel, request_of("a", images=IMAGES)).model_spec.version.value == 1, (
                "the old one serves on"
            )
            assert [entry[:2] for entry in status(channel, "a")] == [(2, 50), (1, 30)]
            watched.write(a={"model": str(means)}, b={"model": str(means), "version": 5})
            assert watched.applied()["a"] == {"version": 1, "state": "AVAILABLE", "error": ""}, "taken back"

            watched.write(b={"model": str(means), "version": 5})
            assert watched.applied().keys() == {"b"}
            assert refused(lambda: predict(channel, request_of("a", images=IMAGES)))[0] == "NOT_FOUND"

            watched.path.write_text("{broken")
            eventually(
                lambda: "cannot use" in json.loads(watched.path.with_name("services.json.status").read_text())["error"]
            )
            assert predict(channel, request_of("b", images=IMAGES)).model_spec.version.value == 5
        assert running.terminate()[0] == 0


def test_a_shells_usual_limit_on_files_does_not_bound_connections(tmp_path: Path) -> None:
    command = f'ulimit -Sn 256; exec {sys.executable} -m amlrealtimeai.serving "$@"'
    model = image_model(tmp_path / "m.accelonnx")
    arguments = ["bash", "-c", command, "-", model, "--port", "0"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        opened = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(400)]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert predict(channel, request_of(images=IMAGES)).model_spec.name == "means"
        for one in opened:
            one.close()
    finally:
        process.kill()
        process.communicate()


def test_services_with_the_same_file_share_the_model(tmp_path: Path) -> None:
    heads, watched = many_output_model(tmp_path / "heads.accelonnx"), Watched(tmp_path)
    with Server() as server:
        watched.write(a={"model": str(heads)}, b={"model": str(heads), "version": 2})
        watcher = Watcher(server, watched.path)
        watcher.start()
        assert server.table.get("a").model is server.table.get("b").model
        watched.write(a={"model": str(heads), "version": 3}, b={"model": str(heads), "version": 2})
        watched.applied()
        assert server.table.get("a").model is server.table.get("b").model
        many_output_model(heads, count=3)  # the file itself has changed
        watched.write(a={"model": str(heads), "version": 4}, b={"model": str(heads), "version": 2})
        watched.applied()
        assert [len(server.table.get(name).model.signature.outputs) for name in "ab"] == [3, 12]
        watcher.stop()


def test_watched_keys_need_tls_and_rotate(tmp_path: Path) -> None:
    heads = many_output_model(tmp_path / "heads.accelonnx")
    pair = np.array([[1, 2]], np.float32)
    authority, watched = Authority(), Watched(tmp_path)
    tls = authority.issue()
    (tmp_path / "cert.pem").write_bytes(tls.certificate)
    (tmp_path / "key.pem").write_bytes(tls.key)
    (tmp_path / "key.pem").chmod(0o600)
    watched.write(h={"model": str(heads), "keys": ["one"]})
    files = ["--ssl-cert", tmp_path / "cert.pem", "--ssl-key", tmp_path / "key.pem"]
    with service("--watch", watched.path, "--port", 0, *files) as running:
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with grpc.secure_channel(f"localhost:{running.port}", credentials) as channel:
            predict(channel, request_of(x=pair), metadata=[("authorization", "one")])
            watched.write(h={"model": str(heads), "keys": ["two"]})
            watched.applied()
            predict(channel, request_of(x=pair), metadata=[("authorization", "two")])
            call = lambda: predict(channel, request_of(x=pair), metadata=[("authorization", "one")])  # noqa: E731
            assert refused(call)[0] == "UNAUTHENTICATED"
    with service("--watch", watched.path, "--port", 0):
        assert "keys need TLS" in watched.applied()["h"]["error"]


def test_keys_that_cannot_be_asked_for_close_the_service(tmp_path: Path) -> None:
    heads, watched = str(many_output_model(tmp_path / "heads.accelonnx")), Watched(tmp_path)
    request = request_of("h", x=np.array([[1, 2]], np.float32))
    watched.write(h={"model": heads})
    with (
        service("--watch", watched.path, "--port", 0) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        predict(channel, request)
        watched.write(h={"model": heads, "keys": ["secret"]})
        assert watched.applied()["h"]["state"] == "END" and "keys need TLS" in watched.applied()["h"]["error"]
        assert refused(lambda: predict(channel, request))[0] == "NOT_FOUND", "not left open"
        ((_, state, text),) = status(channel, "h")
        assert state == 50 and "secret" not in text
        watched.write(h={"model": heads})
        assert watched.applied()["h"] == {"version": 1, "state": "AVAILABLE", "error": ""}
        predict(channel, request)


def test_a_service_that_failed_to_load_tells_no_path(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    (tmp_path / "broken.accelonnx").write_bytes(b"no zip")
    watched.write(a={"model": str(tmp_path / "broken.accelonnx")}, b={"model": str(tmp_path / "gone.accelonnx")})
    with (
        service("--watch", watched.path, "--port", 0) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        assert str(tmp_path) in watched.applied()["b"]["error"], "its owner reads the whole of it in the status file"
        for name in ("a", "b"):
            ((version, state, text),) = status(channel, name)
            assert (version, state) == (1, 50) and "could not be loaded" in text
            assert str(tmp_path) not in text and "accelonnx" not in text


@pytest.mark.parametrize("supervised", [False, True])
def test_a_signal_while_loading_ends_at_once(tmp_path: Path, supervised: bool) -> None:
    watched, heads = Watched(tmp_path), many_output_model(tmp_path / "heads.accelonnx")
    models = {}
    for number in range(400):  # copies: the same file would be loaded once
        copy = tmp_path / f"{number}.accelonnx"
        copy.write_bytes(heads.read_bytes())
        models[f"m{number}"] = {"model": str(copy)}
    watched.write(**models)
    command = [sys.executable, "-m", "amlrealtimeai.serving", "--watch", watched.path, "--port", "0"]
    command += ["--log-level", "info", *(["--supervise"] if supervised else [])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    assert process.stderr is not None
    assert "serving 'm0'" in process.stderr.readline()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors
    assert errors.count("serving 'm") < 300, "the others were not loaded"


def test_a_signal_while_an_update_is_loading_is_not_held_up(tmp_path: Path) -> None:
    heads, slow = many_output_model(tmp_path / "h.accelonnx"), slow_model(tmp_path / "slow.accelonnx", products=1200)
    watched = Watched(tmp_path)
    watched.write(h={"model": str(heads)})
    with (
        service("--watch", watched.path, "--port", 0, "--threads", 1, "--grace", 5) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        watched.write(h={"model": str(heads)}, s={"model": str(slow)})  # its warming up takes seconds
        assert eventually(lambda: status(channel, "s") == [(1, 20, "")]), "loading"
        start = time.monotonic()
        assert running.terminate() == (0, "")
        print(f"{time.monotonic() - start:.1f} s")


def test_a_model_update_under_load_loses_no_request(tmp_path: Path) -> None:
    first = arithmetic_model(tmp_path / "first.accelonnx")
    second = arithmetic_model(tmp_path / "second.accelonnx")
    pair = np.array([[1, 2]], np.float32)
    watched = Watched(tmp_path)
    watched.write(m={"model": str(first), "version": 1})
    with service("--watch", watched.path, "--port", 0) as running:
        seen: list[int] = []
        stop = threading.Event()

        def load() -> None:
            with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
                while not stop.is_set():
                    response = predict(channel, request_of("m", a=pair, b=pair))
                    assert outputs_of(response)["sum:0"] == [[2, 4]]
                    seen.append(response.model_spec.version.value)

        threads = [threading.Thread(target=load) for _ in range(2)]
        failures: list[BaseException] = []
        threading.excepthook, hook = lambda arguments: failures.append(arguments.exc_value), threading.excepthook
        try:
            for thread in threads:
                thread.start()
            for version in range(2, 7):
                watched.write(m={"model": str(second if version % 2 else first), "version": version})
                watched.applied()
            stop.set()
            for thread in threads:
                thread.join(20)
        finally:
            threading.excepthook = hook
    assert failures == [] and seen[-1] == 6 and len(set(seen)) >= 2
