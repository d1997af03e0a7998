"""Stopping under a stream of requests: what was accepted is answered, what comes later gets UNAVAILABLE."""

import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import channel_to, predict, refused, request_of
from tests.serving.models import arithmetic_model, slow_model
from tests.serving.processes import eventually, service

PAIR = np.ones((1, 2), np.float32)


class Stream:
    """Clients, each with a connection of its own, that send one request after the other and count the codes."""

    def __init__(self, target: str, clients: int) -> None:
        self.codes: Counter[str] = Counter()
        self._target = target
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> "Stream":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        request = request_of(a=PAIR, b=PAIR).SerializeToString()
        with grpc.insecure_channel(self._target) as channel:
            while not self._stop.is_set():
                try:
                    predict(channel, request)
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                with self._lock:
                    self.codes[code] += 1


@pytest.mark.parametrize("attempt", range(8))
def test_a_stream_of_requests_sees_only_answers_and_unavailable(models: dict, attempt: int) -> None:
    server = Server().start()
    server.add_model("arithmetic", models["arithmetic"])
    with Stream(server.address, clients=6) as stream:
        time.sleep(0.2)
        server.stop(grace=5)
        time.sleep(0.05)
    assert stream.codes["OK"] and stream.codes["UNAVAILABLE"]
    assert set(stream.codes) == {"OK", "UNAVAILABLE"}, stream.codes


def test_sigterm_under_a_stream_of_requests(tmp_path: Path) -> None:
    with (
        service(arithmetic_model(tmp_path / "m.accelonnx"), "--port", 0) as running,
        Stream(f"127.0.0.1:{running.port}", clients=4) as stream,
    ):
        time.sleep(0.3)
        assert running.terminate() == (0, "")
        time.sleep(0.05)
    assert stream.codes["OK"] and set(stream.codes) <= {"OK", "UNAVAILABLE"}, stream.codes


def test_new_requests_are_refused_while_an_old_one_finishes(tmp_path: Path) -> None:
    model = ConvertedModel.load(slow_model(tmp_path / "slow.accelonnx", products=60), threads=1)
    server = Server().start()
    server.add_model("slow", model)
    one = request_of(x=np.ones(1, np.float32))
    with channel_to(server) as channel:
        old = channel.unary_unary("/tensorflow.serving.PredictionService/Predict").future(
            one.SerializeToString(), timeout=60
        )
        assert eventually(lambda: server._servicer.admission.in_flight == 1)
        stopping = threading.Thread(target=server.stop, args=(60,))
        stopping.start()
        assert eventually(lambda: server._servicer.draining)
        assert not old.done(), "the old request is still running"
        code, text = refused(lambda: predict(channel, one, timeout=30))
        assert code == "UNAVAILABLE" and "shutting down" in text
        assert old.code() is grpc.StatusCode.OK
        stopping.join(10)
        assert not stopping.is_alive()
