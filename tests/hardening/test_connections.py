"""Limits on connections and streams, at, below and above their values, and connections that do nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.hardening.soak import resident
from tests.serving.conftest import predict, refused, request_of
from tests.serving.models import arithmetic_model
from tests.serving.processes import eventually, service

PAIR = np.ones((1, 2), np.float32)
REQUEST = request_of(a=PAIR, b=PAIR).SerializeToString()


@contextmanager
def connection(target: str) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def connects(channel: grpc.Channel) -> bool:
    try:
        grpc.channel_ready_future(channel).result(timeout=1.0)
    except grpc.FutureTimeoutError:
        return False
    return True


def test_connections_beyond_the_limit_are_not_accepted_until_one_closes() -> None:
    with Server(limits=Limits(max_connections=3)) as server, ExitStack() as stack:
        channels = [stack.enter_context(connection(server.address)) for _ in range(4)]
        assert [connects(channel) for channel in channels] == [True, True, True, False]
        channels[3].close()  # else it would take the place
        channels[0].close()
        time.sleep(0.2)
        with connection(server.address) as another:
            assert connects(another)


def test_connections_that_are_idle_make_room(tmp_path: object) -> None:
    limits = Limits(max_connections=2, max_idle_seconds=1.0, max_header_seconds=1.0)
    with Server(limits=limits) as server, ExitStack() as stack:
        for first in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5)).sendall(first)
        with connection(server.address) as channel:
            eventually(lambda: connects(channel))
        idle = stack.enter_context(connection(server.address))
        stub = health_pb2_grpc.HealthStub(idle)
        eventually(lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1)
        states: list[grpc.ChannelConnectivity] = []
        idle.subscribe(states.append)
        eventually(lambda: states and states[-1] is grpc.ChannelConnectivity.IDLE)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1, "it comes back when it is used"


@pytest.mark.parametrize(("extra", "at_once"), [(-1, True), (0, True), (1, False)])
def test_streams_beyond_the_limit_wait_for_another_to_end(extra: int, at_once: bool) -> None:
    limit = 5
    with Server(limits=Limits(max_streams=limit)) as server, connection(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        streams = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(limit + extra - 1)]
        for stream in streams:
            if len(streams) < limit or stream is not streams[-1]:
                next(stream)
        waiting = stub.Watch(health_pb2.HealthCheckRequest(), timeout=1.0)
        if at_once:
            assert next(waiting).status == health_pb2.HealthCheckResponse.SERVING
        else:
            with pytest.raises(grpc.RpcError) as caught:
                next(waiting)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        for stream in [*streams, waiting]:
            stream.cancel()
        stub.Check(health_pb2.HealthCheckRequest(), timeout=5)


def test_connections_that_do_nothing_cost_little_and_hold_up_nobody(tmp_path: object) -> None:
    with service(arithmetic_model(tmp_path / "m.accelonnx"), "--port", 0) as running, ExitStack() as stack:
        with connection(f"127.0.0.1:{running.port}") as channel:
            predict(channel, REQUEST)
            before = resident(running.process.pid)
            for i in range(300):
                plain = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 5))
                if i % 3 == 1:
                    plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                elif i % 3 == 2:
                    plain.sendall(b"\0" * 20)
            start = time.monotonic()
            for _ in range(20):
                predict(channel, REQUEST)
            assert time.monotonic() - start < 5
            growth = resident(running.process.pid) - before
        assert growth < 100, growth
        assert running.terminate()[0] == 0


def test_a_large_request_that_is_never_sent_whole_holds_no_place(tmp_path: object) -> None:
    model = ConvertedModel.load(arithmetic_model(tmp_path / "m.accelonnx"), threads=1)
    with Server(limits=Limits(max_in_flight=4, workers=1)) as server, connection(server.address) as channel:
        server.add_model("m", model)
        stream = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")

        def never() -> Iterator[bytes]:
            time.sleep(1.0)
            yield from ()

        calls = [stream.future(never(), timeout=0.4) for _ in range(4)]
        for call in calls:
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.3)
        assert predict(channel, REQUEST).model_spec.name == "m"
        assert server._servicer.admission.in_flight == 0


def test_a_message_that_never_comes_is_given_up_by_the_server(tmp_path: object) -> None:
    model = ConvertedModel.load(arithmetic_model(tmp_path / "m.accelonnx"), threads=1)
    limits = Limits(max_in_flight=2, workers=1, max_seconds=0.5)
    with Server(limits=limits) as server, connection(server.address) as channel:
        server.add_model("m", model)
        end = threading.Event()

        def never() -> Iterator[bytes]:
            end.wait(10)
            yield from ()

        stream = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        calls = [stream.future(never()) for _ in range(2)]  # without a deadline
        assert eventually(lambda: server._servicer.admission.in_flight == 2)
        assert refused(lambda: predict(channel, REQUEST))[0] == "RESOURCE_EXHAUSTED"
        assert eventually(lambda: server._servicer.admission.in_flight == 0, 5)
        assert predict(channel, REQUEST).model_spec.name == "m"
        end.set()
        assert all(call.code() is not grpc.StatusCode.OK for call in calls)
