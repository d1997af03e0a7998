"""Whoever has no key costs little and learns nothing, by every method, path and kind of connection."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.conftest import channel_to, predict, refused, request_of
from tests.serving.ports.test_rest import ask, post
from tests.serving.ports.test_server import status
from tests.serving.processes import eventually

PREDICTION, MODEL = protos.PREDICTION_SERVICE, protos.MODEL_SERVICE
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = [
    *(f"/{PREDICTION}/{name}" for name in ("Predict", "GetModelMetadata", "Classify", "Regress", "MultiInference")),
    *(f"/{MODEL}/{name}" for name in ("GetModelStatus", "HandleReloadConfigRequest")),
]
KEY = [("authorization", "Bearer right")]
PAIR = np.ones((1, 2), np.float32)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def keyed(models: dict[str, ConvertedModel], authority: Authority) -> Iterator[Server]:
    with Server(tls=authority.issue(), keys=["right"], rest_port=0, admin_port=0) as server:
        server.add_model("heads", models["heads"])
        server.add_model("arithmetic", models["arithmetic"], keys=["its own"])
        server.note_failed("broken", 1, "it is damaged")
        yield server


@pytest.fixture(scope="module")
def channel(keyed: Server, authority: Authority) -> Iterator[grpc.Channel]:
    with grpc.secure_channel(f"localhost:{keyed.port}", grpc.ssl_channel_credentials(authority.pem)) as open_channel:
        yield open_channel


@pytest.fixture(scope="module")
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


class Never:
    """Messages that do not come before the end of `with`."""

    def __enter__(self) -> "Never":
        self._end = threading.Event()
        return self

    def __call__(self) -> Iterator[bytes]:
        self._end.wait(30)
        yield from ()

    def __exit__(self, *_: object) -> None:
        self._end.set()


@pytest.mark.parametrize("method", [*METHODS, REFLECTION], ids=lambda method: method.rpartition("/")[2])
@pytest.mark.parametrize("metadata", [[], [("authorization", "Bearer wrong")]], ids=["none", "wrong"])
def test_the_key_is_looked_at_before_the_message(channel: grpc.Channel, method: str, metadata: list) -> None:
    with Never() as never:
        code, text = refused(lambda: list(channel.stream_stream(method)(never(), timeout=30, metadata=metadata)))
    assert code == "UNAUTHENTICATED" and "key" in text


def test_health_is_answered_without_the_message(channel: grpc.Channel) -> None:
    with Never() as never:
        answer = channel.stream_unary("/grpc.health.v1.Health/Check")(never(), timeout=30)
    assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.SERVING
    with Never() as never:
        first = next(iter(channel.stream_stream("/grpc.health.v1.Health/Watch")(never(), timeout=30)))
    assert health_pb2.HealthCheckResponse.FromString(first).status == health_pb2.HealthCheckResponse.SERVING
    with_key = health_pb2_grpc.HealthStub(channel)
    call = lambda: with_key.Check(health_pb2.HealthCheckRequest(service="no"), timeout=30, metadata=KEY)  # noqa: E731
    assert refused(call)[0] == "NOT_FOUND"


def test_reflection_and_an_unknown_method_with_a_key(channel: grpc.Channel) -> None:
    from grpc_reflection.v1alpha import reflection_pb2

    question = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    (answer,) = channel.stream_stream(REFLECTION)(iter([question]), timeout=30, metadata=KEY)
    names = reflection_pb2.ServerReflectionResponse.FromString(answer).list_services_response.service
    assert PREDICTION in [service.name for service in names]
    assert refused(lambda: channel.unary_unary("/a/b")(b"", timeout=30))[0] == "UNIMPLEMENTED"


def test_forty_idle_streams_hold_up_nobody(models: dict[str, ConvertedModel]) -> None:
    with Server(limits=Limits(max_standing_streams=30)) as server, channel_to(server) as channel, Never() as never:
        server.add_model("heads", models["heads"])
        streams = [channel.stream_stream(REFLECTION)(never()) for _ in range(40)]
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status == 1
        assert len(predict(channel, request_of(x=PAIR)).outputs) == 12
        assert eventually(lambda: sum(not stream.is_active() for stream in streams) >= 10)
        ended = [stream for stream in streams if not stream.is_active()]
        assert "max_standing_streams = 30" in ended[0].details()
        for stream in streams:
            stream.cancel()


NAMES = ["heads", "arithmetic", "broken", "no-such-model", ""]


def test_every_name_is_answered_alike(channel: grpc.Channel, keyed: Server, trust: ssl.SSLContext) -> None:
    def all_of(name: str, metadata: list) -> set:
        described = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        described.model_spec.name = name
        call = channel.unary_unary(f"/{PREDICTION}/GetModelMetadata")
        rest = {"context": trust, "headers": {key.title(): value for key, value in metadata}}
        answers = [
            refused(lambda: predict(channel, request_of(name, x=PAIR), metadata=metadata)),
            refused(lambda: call(described.SerializeToString(), metadata=metadata)),
            refused(lambda: status(channel, name)) if not metadata else ("UNAUTHENTICATED", ""),
        ]
        if name:
            answers += [post(keyed, name, {"instances": [[1, 2]]}, **rest)]
            answers += [ask(keyed, "GET", f"/v1/models/{name}{what}", **rest) for what in ("", "/metadata")]
        return {str(answer) for answer in answers if answer != ("UNAUTHENTICATED", "")}

    for metadata in ([], [("authorization", "Bearer wrong")]):
        seen = [all_of(name, metadata) for name in NAMES]
        assert len(set.union(*seen[:4])) == 2, "one sentence by gRPC, the same by REST"
        assert all(answer == seen[0] for answer in seen[1:4]) and seen[4] < seen[0]


def test_a_name_that_is_not_served_needs_a_key_where_another_does(
    models: dict[str, ConvertedModel], authority: Authority
) -> None:
    with Server(tls=authority.issue()) as server:
        server.add_model("open", models["heads"])
        server.add_model("keyed", models["heads"], keys=["right"])
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
            predict(channel, request_of("open", x=PAIR))
            known, unknown = (
                refused(lambda n=name: predict(channel, request_of(n, x=PAIR))) for name in ("keyed", "x")
            )
            assert known == unknown and known[0] == "UNAUTHENTICATED"
            code, _ = refused(lambda: predict(channel, request_of("x", x=PAIR), metadata=KEY))
            assert code == "NOT_FOUND"


def test_metrics_name_no_models_where_there_are_keys(
    keyed: Server, channel: grpc.Channel, trust: ssl.SSLContext
) -> None:
    predict(channel, request_of("heads", x=PAIR), metadata=KEY)

    def counted() -> str:
        code, text = ask(keyed, "GET", "/metrics", context=trust)
        assert code == 200
        return text if 'amlrealtimeai_requests_total{code="OK",method="Predict"} ' in text else ""

    text = eventually(counted)
    assert not any(name in text for name in ("heads", "arithmetic", "broken", "model="))
    assert 'amlrealtimeai_stage_seconds_bucket{le="+Inf",stage="total"}' in text
    with socket.create_connection(("127.0.0.1", keyed.admin_port), 5) as admin:
        admin.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        content = b"".join(iter(lambda: admin.recv(1 << 16), b""))
    assert b'model="heads"' in content


def test_unfinished_bodies_without_a_key_hold_no_place(
    keyed: Server, trust: ssl.SSLContext, channel: grpc.Channel
) -> None:
    opened = []
    for _ in range(40):
        plain = socket.create_connection(("127.0.0.1", keyed.rest_port), 5)
        opened.append(trust.wrap_socket(plain, server_hostname="localhost"))
        opened[-1].sendall(b"POST /v1/models/heads:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n[")
    admission = keyed._servicer.admission
    assert [one.recv(12) for one in opened] == [b"HTTP/1.1 401"] * 40
    assert (admission.in_flight, admission.bytes_in_flight) == (0, 0)
    predict(channel, request_of("heads", x=PAIR), metadata=KEY)
    for one in opened:
        one.close()


def test_connections_of_strangers_make_room_for_a_key(models: dict, authority: Authority) -> None:
    limits = Limits(max_connections=8)
    options = [("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(authority.pem)
    with ExitStack() as stack, Server(tls=authority.issue(), keys=["right"], limits=limits) as server:
        server.add_model("heads", models["heads"])
        target = f"localhost:{server.port}"
        first = stack.enter_context(grpc.secure_channel(target, credentials, options))
        assert eventually(lambda: predict(first, request_of("heads", x=PAIR), metadata=KEY, timeout=2))
        for _ in range(40):  # some are accepted at once, the others as soon as there is room
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
        with grpc.secure_channel(target, credentials, options) as channel:
            assert eventually(lambda: predict(channel, request_of("heads", x=PAIR), metadata=KEY, timeout=2))
        states: list[grpc.ChannelConnectivity] = []
        first.subscribe(states.append)
        predict(first, request_of("heads", x=PAIR), metadata=KEY)
        assert set(states) <= {grpc.ChannelConnectivity.READY}, "who has shown a key stays"


def test_a_refused_body_is_read_so_that_its_sender_reads_the_answer(keyed: Server, trust: ssl.SSLContext) -> None:
    code, answer = post(keyed, "heads", b"[" + b" " * 3_000_000 + b"]", context=trust)
    assert code == 401 and "key" in answer["error"]


def test_strangers_in_a_hurry_wait_and_the_others_do_not(models: dict, authority: Authority) -> None:
    limits = Limits(max_strangers_per_second=20)
    with Server(tls=authority.issue(), keys=["right"], limits=limits) as server:
        server.add_model("heads", models["heads"])
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
            call = channel.unary_unary(f"/{PREDICTION}/Predict")
            calls = [call.future(b"", timeout=20) for _ in range(60)]
            predict(channel, request_of("heads", x=PAIR), metadata=KEY)
            waiting = sum(not future.done() for future in calls)
            assert {future.code().name for future in calls} == {"UNAUTHENTICATED"}
    assert waiting > 10, "the right key overtook them"


def test_what_is_no_request_waits_too_so_that_nobody_shakes_hands_all_the_time(
    models: dict, authority: Authority, trust: ssl.SSLContext
) -> None:
    limits = Limits(max_strangers_per_second=2)
    with Server(tls=authority.issue(), keys=["right"], limits=limits, rest_port=0) as server:
        server.add_model("heads", models["heads"])
        assert server.rest_port is not None
        start = time.monotonic()
        for _ in range(3):
            plain = socket.create_connection(("127.0.0.1", server.rest_port), 5)
            with trust.wrap_socket(plain, server_hostname="localhost") as wire:
                wire.sendall(b"\0" * 100 + b"\r\n\r\n")
                assert wire.recv(100).startswith(b"HTTP/1.1 400 ")
        taken = time.monotonic() - start
        code, _ = post(server, "heads", {"instances": [[1, 2]]}, headers={"authorization": "right"}, context=trust)
    assert code == 200 and taken > 0.9
