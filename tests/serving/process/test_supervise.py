"""--supervise: a server that dies or hangs is replaced, and nothing outlives its end."""

import contextlib
import os
import signal
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from amlrealtimeai import PredictionClient
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import channel_to, predict, refused, request_of
from tests.serving.models import arithmetic_model, image_model, many_output_model, slow_model
from tests.serving.process.test_process import IMAGES, Watched, failing
from tests.serving.processes import eventually, service
from tests.serving.request.test_admission import Gate

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_server_that_dies_is_replaced_on_the_same_port(tmp_path: Path) -> None:
    with service(image_model(tmp_path / "m.accelonnx"), "--port", 0, "--supervise") as running:
        with PredictionClient("127.0.0.1", running.port) as client:
            client.score_numpy_array(IMAGES)
            (before,) = children(running.process.pid)
            os.kill(before, signal.SIGKILL)
            eventually(lambda: client.score_numpy_array(IMAGES).shape == (1, 3), seconds=60)
            (after,) = children(running.process.pid)
            assert after != before
        code, errors = running.terminate()
    assert code == 0 and "ended with status -9; starting another" in errors
    assert not Path(f"/proc/{after}").exists()


def test_a_replaced_server_keeps_its_rest_port(tmp_path: Path) -> None:
    with service(image_model(tmp_path / "m.accelonnx"), "--port", 0, "--rest-port", 0, "--supervise") as running:
        rest = int(running.process.stdout.readline().removeprefix("REST API on port "))
        (before,) = children(running.process.pid)
        os.kill(before, signal.SIGKILL)
        eventually(lambda: children(running.process.pid) not in ([], [before]))

        def healthy() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{rest}/healthz", timeout=30) as response:
                return response.status == 200

        eventually(healthy)
        assert running.terminate()[0] == 0


def test_a_replaced_server_has_its_models_when_its_port_opens(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    models = [many_output_model(tmp_path / f"{number}.accelonnx") for number in range(40)]  # some time to load
    watched.write(**{f"m{number}": {"model": str(model)} for number, model in enumerate(models)})
    request, codes = request_of("m39", x=np.array([[1, 2]], np.float32)), []
    with service("--watch", watched.path, "--port", 0, "--supervise") as running:
        os.kill(children(running.process.pid)[0], signal.SIGKILL)
        end = time.monotonic() + 20
        while "OK" not in codes and time.monotonic() < end:
            with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
                try:
                    predict(channel, request)
                    codes.append("OK")
                except grpc.RpcError as error:
                    codes.append(error.code().name)
        running.terminate()
    assert set(codes) == {"UNAVAILABLE", "OK"}


def test_a_supervising_parent_is_small(tmp_path: Path) -> None:
    with service(image_model(tmp_path / "m.accelonnx"), "--port", 0, "--supervise") as running:
        lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
        (resident,) = (int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
        libraries = Path(f"/proc/{running.process.pid}/maps").read_text()
        running.terminate()
    print(f"{resident:.0f} MiB")
    assert resident < 30 and not any(name in libraries for name in ("cygrpc", "numpy", "onnxruntime"))


def test_a_child_that_does_not_go_is_killed(tmp_path: Path) -> None:
    with service(image_model(tmp_path / "m.accelonnx"), "--port", 0, "--supervise", "--grace", 0.1) as running:
        (child,) = children(running.process.pid)
        os.kill(child, signal.SIGSTOP)
        try:
            assert running.terminate()[0] == 0
            assert not Path(f"/proc/{child}").exists()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


QUICKLY = ("--supervise", "--port", 0, "--max-silence", 1.5, "--grace", 0.1)


def test_a_server_that_hangs_is_replaced(tmp_path: Path) -> None:
    with service(image_model(tmp_path / "m.accelonnx"), *QUICKLY) as running:
        (before,) = children(running.process.pid)
        time.sleep(1.0)  # it has given a sign of life
        os.kill(before, signal.SIGSTOP)
        try:
            eventually(lambda: children(running.process.pid) not in ([], [before]))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(before, signal.SIGKILL)
        with PredictionClient("127.0.0.1", running.port) as client:
            eventually(lambda: client.score_numpy_array(IMAGES).shape == (1, 3), seconds=60)
        code, errors = running.terminate()
    assert code == 0 and "the server has given no sign of life for 2 s; it is ended" in errors


def test_a_computation_beyond_its_time_ends_and_its_server_stays(tmp_path: Path) -> None:
    long = slow_model(tmp_path / "slow.accelonnx", products=240)
    limits = ("--threads", 1, "--limit", "workers=1", "--limit", "max_seconds=0.1")
    with service(long, *QUICKLY, *limits) as running:
        before = children(running.process.pid)
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            request = request_of(x=np.ones(1, np.float32))
            code, text = refused(lambda: predict(channel, request, timeout=60))
        assert code == "DEADLINE_EXCEEDED" and "max_seconds = 0.1" in text
        assert children(running.process.pid) == before


def test_a_server_whose_workers_do_not_end_does_not_answer(tmp_path: Path) -> None:
    model = ConvertedModel.load(arithmetic_model(tmp_path / "m.accelonnx"), threads=1)
    gate = Gate(model.stages[0])
    model.stages[0] = gate
    with Server(limits=Limits(workers=1, max_seconds=0.3)) as server, channel_to(server) as channel:
        server.add_model("m", model)
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == 1
        pair = np.ones((1, 2), np.float32)
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        future = call.future(request_of(a=pair, b=pair).SerializeToString(), timeout=30)
        assert next(watched).status == 2, "health says so"
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status == 2
        assert not server.answers
        gate.open.set()
        assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert next(watched).status == 1
        watched.cancel()


def test_a_server_whose_polling_threads_wait_for_each_other_does_not_answer(server: Server) -> None:
    assert server.answers
    with server._servicer.admission._lock:  # what a deadlock would look like: every poller comes here and stays
        eventually(lambda: not server.answers)
    eventually(lambda: server.answers)


def test_neither_work_nor_a_suspended_computer_is_a_hang(tmp_path: Path) -> None:
    model = slow_model(tmp_path / "slow.accelonnx", products=20)
    limits = ("--threads", 1, "--limit", "workers=1", "--limit", "max_seconds=2")
    with service(model, *QUICKLY, *limits) as running:
        found = children(running.process.pid)
        request, end = request_of(x=np.ones(1, np.float32)), time.monotonic() + 5.0

        def load() -> None:
            with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
                while time.monotonic() < end:
                    predict(channel, request)

        threads = [threading.Thread(target=load) for _ in range(2)]  # its one worker is never free
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        everybody = [running.process.pid, *found]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everybody:
                os.kill(pid, number)
            time.sleep(3.0)
        assert children(running.process.pid) == found
        code, errors = running.terminate()
    assert (code, errors) == (0, "")


@pytest.mark.slow
def test_what_cannot_start_again_is_given_up(tmp_path: Path) -> None:
    model = image_model(tmp_path / "m.accelonnx")
    with service(model, "--port", 0, "--supervise") as running:
        model.unlink()
        os.kill(children(running.process.pid)[0], signal.SIGKILL)
        code, errors = running.finish(60)
    assert (code, errors.count("no converted model at")) == (2, 5)


def test_what_cannot_start_is_not_tried_again(tmp_path: Path) -> None:
    assert "no converted model at" in failing(tmp_path / "gone.accelonnx", "--supervise")
