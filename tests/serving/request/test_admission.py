"""Limits on requests in flight, deadlines and cancellation."""

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import channel_to, predict, refused, request_of
from tests.serving.models import arithmetic_model
from tests.serving.processes import eventually

PAIR = np.ones((1, 2), np.float32)
REQUEST = request_of(a=PAIR, b=PAIR).SerializeToString()


class Gate:
    """A stage that waits until it may run, and counts."""

    kind = "classifier"

    def __init__(self, stage: object) -> None:
        self.definition = stage.definition
        self._stage = stage
        self.runs = 0
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def run(self, inputs: dict, outputs: list) -> dict:
        self.runs += 1
        self.entered.release()
        assert self.open.wait(20)
        return self._stage.run(inputs, outputs)


class Gated:
    """A server whose only model waits at a gate before its first stage; the second one is counted, too."""

    def __init__(self, path: Path, **limits: float) -> None:
        self.path = path
        model = ConvertedModel.load(arithmetic_model(path / "m.accelonnx"), threads=1)
        self.first, self.second = Gate(model.stages[0]), Gate(model.stages[1])
        self.second.open.set()
        model.stages[:] = [self.first, self.second]
        self.server = Server(limits=Limits(**limits)).start()
        self.server.add_model("m", model)
        self.channel = channel_to(self.server)
        self.threads = ThreadPoolExecutor(16)

    def send(self, timeout: float = 20, request: bytes = REQUEST) -> grpc.Future:
        call = self.channel.unary_unary(f"/{protos.PREDICTION_SERVICE}/Predict")
        return call.future(request, timeout=timeout)

    def close(self) -> None:
        self.first.open.set()
        self.channel.close()
        self.server.stop()
        self.threads.shutdown()

    @property
    def admission(self) -> object:
        return self.server._servicer.admission


@pytest.fixture
def make(tmp_path: Path) -> Iterator[object]:
    made: list[Gated] = []

    def build(**limits: float) -> Gated:
        made.append(Gated(tmp_path, **limits))
        return made[-1]

    yield build
    for gated in made:
        gated.close()


def idle(gated: Gated, workers: int) -> bool:
    """Nobody in flight, every worker free, no byte held: nothing was lost on the way."""
    admission = gated.admission
    return (admission.in_flight, admission.waiting, admission._shared.free, admission._bytes) == (0, 0, workers, 0)


def test_a_request_whose_deadline_has_passed_is_not_computed(make: object) -> None:
    gated = make(workers=1)
    running = gated.send()
    assert gated.first.entered.acquire(timeout=30)
    late = gated.send(timeout=0.3)
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    gated.first.open.set()
    assert running.code() is grpc.StatusCode.OK
    assert eventually(lambda: idle(gated, 1))
    assert gated.first.runs == 1, "only the first one was computed"


def test_a_request_that_is_cancelled_while_it_waits_is_not_computed(make: object) -> None:
    gated = make(workers=1)
    running = gated.send()
    assert gated.first.entered.acquire(timeout=30)
    waiting = gated.send()
    assert eventually(lambda: gated.admission.waiting == 1)
    waiting.cancel()
    time.sleep(0.3)
    gated.first.open.set()
    assert running.code() is grpc.StatusCode.OK
    assert eventually(lambda: idle(gated, 1))
    assert gated.first.runs == 1


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_running_request_that_nobody_waits_for_ends_before_its_next_stage(make: object, how: str) -> None:
    gated = make(workers=1)
    running = gated.send(timeout=0.3 if how == "deadline" else 20)
    assert gated.first.entered.acquire(timeout=30)
    if how == "cancel":
        running.cancel()
    else:
        assert running.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.2)
    gated.first.open.set()
    assert eventually(lambda: idle(gated, 1))
    assert (gated.first.runs, gated.second.runs) == (1, 0)
    assert predict(gated.channel, REQUEST).model_spec.name == "m", "the worker is free again"


def test_the_servers_own_time_limit_is_named(make: object) -> None:
    gated = make(workers=1, max_seconds=0.2)
    running = gated.send()
    assert gated.first.entered.acquire(timeout=30)
    time.sleep(0.25)
    gated.first.open.set()
    assert running.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "max_seconds = 0.2" in running.details() and gated.second.runs == 0


@pytest.mark.parametrize(("limit", "accepted"), [(2, 2), (3, 3), (4, 4)])
def test_in_flight_limit_at_below_and_above_its_value(make: object, limit: int, accepted: int) -> None:
    gated = make(workers=2, max_in_flight=limit)
    calls = [gated.send() for _ in range(limit)]
    assert eventually(lambda: gated.admission.in_flight == limit)
    code, text = refused(lambda: predict(gated.channel, REQUEST))
    assert code == "RESOURCE_EXHAUSTED" and f"max_in_flight = {limit}" in text
    gated.first.open.set()
    assert [call.code().name for call in calls] == ["OK"] * accepted
    assert eventually(lambda: idle(gated, 2))


@pytest.mark.parametrize(("extra", "fine"), [(-1, False), (0, True), (1, True)])
def test_bytes_in_flight_at_below_and_above_the_limit(make: object, extra: int, fine: bool) -> None:
    gated = make(workers=1, max_bytes_in_flight=2 * len(REQUEST) + extra)
    first = gated.send()
    assert gated.first.entered.acquire(timeout=30)
    second = gated.send()
    if fine:
        assert eventually(lambda: gated.admission.waiting == 1)
    else:
        assert second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"max_bytes_in_flight = {2 * len(REQUEST) - 1}" in second.details()
    gated.first.open.set()
    assert first.code() is grpc.StatusCode.OK
    assert not fine or second.code() is grpc.StatusCode.OK
    assert eventually(lambda: idle(gated, 1))


def test_first_come_first_served_and_nobody_is_forgotten(make: object) -> None:
    gated = make(workers=2, max_in_flight=32)
    calls = [gated.send(timeout=0.4 if i % 5 == 4 else 20) for i in range(30)]
    assert eventually(lambda: gated.admission.in_flight == 30)
    for i in range(3, 30, 7):
        calls[i].cancel()
    time.sleep(0.5)
    gated.first.open.set()
    codes = []
    for i, call in enumerate(calls):
        codes.append("CANCELLED" if i % 7 == 3 else call.code().name)
    assert codes.count("OK") >= 18 and set(codes) == {"OK", "CANCELLED", "DEADLINE_EXCEEDED"}
    assert eventually(lambda: idle(gated, 2))


def test_a_call_without_a_message_or_with_two_is_answered(make: object) -> None:
    gated = make(workers=1)
    gated.first.open.set()
    stream = gated.channel.stream_unary(f"/{protos.PREDICTION_SERVICE}/Predict")
    assert refused(lambda: stream(iter([]), timeout=30))[0] in ("INVALID_ARGUMENT", "UNIMPLEMENTED")
    stream(iter([REQUEST, REQUEST]), timeout=30)
    assert eventually(lambda: idle(gated, 1))


def test_a_finished_call_leaves_nothing_for_the_garbage_collector(make: object) -> None:
    """gRPC refuses new streams of a connection while 128 old ones are not freed, so they have to go at once."""
    gated = make(workers=1)
    gated.first.open.set()
    gc.collect()
    gc.disable()
    try:
        for i in range(300):
            if i % 3 == 0:
                assert refused(lambda: predict(gated.channel, b"\xff"))[0] == "INVALID_ARGUMENT"
            elif i % 3 == 1:
                assert refused(lambda: predict(gated.channel, request_of("no", a=PAIR)))[0] == "NOT_FOUND"
            else:
                predict(gated.channel, REQUEST)
    finally:
        gc.enable()


def test_a_service_with_workers_of_its_own_leaves_those_of_others_alone(make: object) -> None:
    gated = make(workers=1, max_in_flight=32)
    free = ConvertedModel.load(arithmetic_model(gated.path / "free.accelonnx"), threads=1)
    gated.server.add_model("free", free)
    gated.server.set_workers("m", 6)
    named = request_of("m", a=PAIR, b=PAIR).SerializeToString()
    calls = [gated.send(request=named) for _ in range(8)]
    assert all(gated.first.entered.acquire(timeout=30) for _ in range(6))
    assert eventually(lambda: gated.admission.in_flight_of("m") == 8)
    assert gated.first.runs == 6 and eventually(lambda: gated.admission.waiting == 2)
    request = request_of("free", a=PAIR, b=PAIR).SerializeToString()
    assert predict(gated.channel, request).model_spec.name == "free"
    gated.server.set_workers("m", 7)
    assert gated.first.entered.acquire(timeout=30), "who waited goes on when there are more workers"
    gated.server.set_workers("m", 2)
    gated.first.open.set()
    assert [call.code().name for call in calls] == ["OK"] * 8
    assert eventually(lambda: gated.admission.in_flight_of("m") == 0)
    gated.first.open.clear()
    more = [gated.send(request=named) for _ in range(4)]
    assert all(gated.first.entered.acquire(timeout=30) for _ in range(3))
    assert eventually(lambda: gated.admission.waiting == 2), "two at once"
    gated.server.set_workers("m", None)
    gated.first.open.set()
    assert [call.code().name for call in more] == ["OK"] * 4
    assert eventually(lambda: idle(gated, 1))
