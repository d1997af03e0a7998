"""The protocol on a real socket: answers, routing, and every error's code and text."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import ConfigError, DeploymentError
from amlrealtimeai.serving.protocol import protos, tensors
from amlrealtimeai.serving.request.answers import Record
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import channel_to, predict, refused, request_of, unary
from tests.serving.models import encode, image_model, picture, slow_model
from tests.serving.processes import eventually

JPEG = encode(picture(), "JPEG")
IMAGES = np.array([JPEG], object)
ONE = np.ones(1, np.float32)
ROUTE = "x-ms-aml-grpc-service-route"


def outputs_of(response: object) -> dict[str, list]:
    return {name: tensors.from_proto(proto).tolist() for name, proto in response.outputs.items()}


def test_predict_answers_as_the_model_itself(channel: grpc.Channel, models: dict[str, ConvertedModel]) -> None:
    response = predict(channel, request_of("means", images=IMAGES))
    expected = models["means"].predict({"images": IMAGES}).outputs["output_alias"]
    assert response.outputs["output_alias"].float_val[:] == expected[0].tolist(), "old clients read float_val"
    assert (response.model_spec.name, response.model_spec.version.value) == ("means", 3)
    assert response.model_spec.signature_name == "serving_default"


def test_output_filter_takes_aliases_and_tensor_names(channel: grpc.Channel, pair: np.ndarray) -> None:
    assert outputs_of(predict(channel, request_of("means", ("classifier/mean:0",), images=IMAGES))).keys() == {
        "classifier/mean:0"
    }
    response = predict(channel, request_of("arithmetic", ("difference:0",), a=pair, b=pair))
    assert outputs_of(response) == {"difference:0": [[0, 0]]}
    assert len(outputs_of(predict(channel, request_of("heads", x=pair)))) == 12


def test_inputs_by_tensor_name(channel: grpc.Channel, pair: np.ndarray) -> None:
    response = predict(channel, request_of("arithmetic", ("sum:0",), **{"in/a:0": pair, "b": pair}))
    assert outputs_of(response) == {"sum:0": [[2, 4]]}


def test_an_old_client_that_names_tensors_gets_tensor_names(channel: grpc.Channel) -> None:
    by_alias = outputs_of(predict(channel, request_of("means", images=IMAGES)))
    by_tensor = outputs_of(predict(channel, request_of("means", **{"Placeholder:0": IMAGES})))
    assert list(by_alias) == ["output_alias"]
    assert by_tensor == {"classifier/mean:0": by_alias["output_alias"]}
    asked = predict(channel, request_of("means", ("output_alias",), **{"Placeholder:0": IMAGES}))
    assert outputs_of(asked) == by_alias


def test_names_and_shapes_are_looked_at_before_values(channel: grpc.Channel) -> None:
    large = protos.TensorProto(dtype=1, float_val=[1, 2])
    for _ in range(2):
        large.tensor_shape.dim.add(size=64)
    large.tensor_shape.dim[1].size = 1 << 18
    code, text = refused(lambda: predict(channel, request_of("heads", x=large)))
    assert code == "INVALID_ARGUMENT" and "expected shape [?, 2], got [64, 262144]" in text
    code, text = refused(lambda: predict(channel, request_of("heads", **{f"x{i}": large for i in range(30)})))
    assert code == "INVALID_ARGUMENT" and "Missing but required: {x}" in text
    code, text = refused(lambda: predict(channel, b"\x12\x00" * 200_000))
    assert code == "INVALID_ARGUMENT" and "max_parts = 131072" in text


def test_the_route_header_chooses_the_service(channel: grpc.Channel, pair: np.ndarray) -> None:
    for route in ("/api/v1/service/heads", "/api/v1/service/heads/", "/api/v1/service/heads/score", "heads"):
        response = predict(channel, request_of(x=pair, outputs=("head5:0",)), metadata=[(ROUTE, route)])
        assert outputs_of(response) == {"head5:0": [[6, 7]]}
    code, text = refused(lambda: predict(channel, request_of(x=pair), metadata=[(ROUTE, "/api/v1/service/no")]))
    assert (code, text) == ("NOT_FOUND", "Servable not found for request: Latest(no)")


@pytest.mark.parametrize("route", ["/api/v1/service/", "/api/v1/service/other", "/api/v1/service//score", "other"])
def test_a_route_is_ignored_where_there_is_one_model(models: dict, pair: np.ndarray, route: str) -> None:
    with Server() as server, channel_to(server) as channel:
        server.add_model("heads", models["heads"])
        response = predict(channel, request_of(x=pair), metadata=[(ROUTE, route)])
        assert response.model_spec.name == "heads"
        code, text = refused(lambda: predict(channel, request_of("no", x=pair), metadata=[(ROUTE, route)]))
        assert (code, text) == ("NOT_FOUND", "Servable not found for request: Latest(no)")


def test_the_only_model_needs_no_name(models: dict[str, ConvertedModel], pair: np.ndarray) -> None:
    with Server() as server, channel_to(server) as channel:
        assert refused(lambda: predict(channel, request_of(x=pair)))[0] == "NOT_FOUND"
        server.add_model("heads", models["heads"])
        assert len(predict(channel, request_of(x=pair)).outputs) == 12
        server.add_model("means", models["means"])
        code, text = refused(lambda: predict(channel, request_of(x=pair)))
        assert code == "INVALID_ARGUMENT" and "has 2 models" in text
        assert server.remove_model("heads") and not server.remove_model("heads")
        assert predict(channel, request_of(images=IMAGES)).model_spec.name == "means"


def with_spec(field: str, value: object) -> object:
    request = request_of("means", images=IMAGES)
    if field == "version":
        request.model_spec.version.value = value
    else:
        setattr(request.model_spec, field, value)
    return request


TRUNCATED = np.array([JPEG, JPEG[:900]], object)
ERRORS = [
    (with_spec("name", "no"), "NOT_FOUND", "Servable not found for request: Latest(no)"),
    (with_spec("version", 7), "NOT_FOUND", "Servable not found for request: Specific(means, 7)"),
    (with_spec("version_label", "canary"), "INVALID_ARGUMENT", "Unrecognized servable version label: canary"),
    (with_spec("signature_name", "s"), "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
    (
        request_of("means", pictures=IMAGES),
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=1 len({pictures}) != len({images}). Sent extra: {pictures}. "
        "Missing but required: {images}.",
    ),
    (request_of("means"), "INVALID_ARGUMENT", "Missing but required: {images}"),
    (
        request_of("means", images=protos.TensorProto(dtype=1, tensor_content=b"abc")),
        "INVALID_ARGUMENT",
        "tensor parsing error: images: tensor_content has 3 bytes, expected 4",
    ),
    (request_of("means", images=ONE), "INVALID_ARGUMENT", "input 'images': expected dtype string, got float32"),
    (
        request_of("arithmetic", a=ONE, b=ONE),
        "INVALID_ARGUMENT",
        "input 'a': expected shape [?, 2], got [1]",
    ),
    (
        request_of("arithmetic", a=np.ones((2, 2), np.float32), b=np.ones((3, 2), np.float32)),
        "INVALID_ARGUMENT",
        "stage add cannot compute inputs of these shapes: a [2, 2], b [3, 2]",
    ),
    (
        request_of("means", ("X",), images=IMAGES),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: X",
    ),
    (
        request_of("means", ("output_alias", "output_alias"), images=IMAGES),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: output_alias",
    ),
    (request_of("means", images=TRUNCATED), "INVALID_ARGUMENT", "image 1 of 2: a damaged JPEG image"),
    (request_of("means", images=np.array([b"text"], object)), "INVALID_ARGUMENT", "image 0 of 1: not a JPEG or PNG"),
    (
        request_of("means", images=np.full(65, JPEG, object)),
        "RESOURCE_EXHAUSTED",
        "a batch of 65 is too large (max_batch = 64)",
    ),
    (b"\xff\xff\xff", "INVALID_ARGUMENT", "the request of 3 bytes is not a tensorflow.serving.PredictRequest"),
]


@pytest.mark.parametrize(("request_", "code", "text"), ERRORS, ids=[text[:40] for _, _, text in ERRORS])
def test_errors(channel: grpc.Channel, request_: object, code: str, text: str) -> None:
    got = refused(lambda: predict(channel, request_))
    assert got[0] == code and text in got[1], got
    assert len(predict(channel, request_of("means", images=IMAGES)).outputs) == 1, "the next good request is answered"


def test_long_names_come_back_shortened(channel: grpc.Channel) -> None:
    request = request_of("means", **{f"{i:03}" + "x" * 5000: ONE for i in range(50)})
    code, text = refused(lambda: predict(channel, request))
    assert code == "INVALID_ARGUMENT" and len(text) <= 1000


@pytest.mark.parametrize(("size", "fine"), [(63, True), (64, True), (65, False)])
def test_batch_limit_at_below_and_above_its_value(channel: grpc.Channel, size: int, fine: bool) -> None:
    request = request_of("arithmetic", a=np.ones((size, 2), np.float32), b=np.ones((size, 2), np.float32))
    if fine:
        assert len(outputs_of(predict(channel, request))["sum:0"]) == size
    else:
        assert refused(lambda: predict(channel, request))[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_message_limit_at_below_and_above_its_value(models: dict[str, ConvertedModel], extra: int) -> None:
    limits = Limits(max_message_bytes=100_000)
    with Server(limits=limits) as server, channel_to(server) as channel:
        server.add_model("means", models["means"])
        empty = len(request_of(images=np.array([b"x" * 99_000], object)).SerializeToString()) - 99_000
        request = request_of(images=np.array([b"x" * (100_000 - empty + extra)], object))
        assert len(request.SerializeToString()) == 100_000 + extra
        code, text = refused(lambda: predict(channel, request))
        expected = "RESOURCE_EXHAUSTED" if extra > 0 else "INVALID_ARGUMENT"
        assert code == expected and (extra <= 0 or "100000" in text), (code, text)


@pytest.mark.parametrize("method", ["Classify", "Regress", "MultiInference"])
def test_what_is_not_served_says_so(channel: grpc.Channel, method: str) -> None:
    call = f"/{protos.PREDICTION_SERVICE}/{method}"
    code, text = refused(lambda: unary(channel, call, b"", protos.PredictResponse))
    assert code == "UNIMPLEMENTED" and text.startswith(f"{method} is not served")


def test_reload_config_is_not_served(channel: grpc.Channel) -> None:
    call = f"/{protos.MODEL_SERVICE}/HandleReloadConfigRequest"
    code, text = refused(lambda: unary(channel, call, b"", protos.PredictResponse))
    assert code == "UNIMPLEMENTED" and "deploy or update" in text


def metadata(channel: grpc.Channel, model: str, *fields: str) -> object:
    request = protos.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    call = f"/{protos.PREDICTION_SERVICE}/GetModelMetadata"
    return unary(channel, call, request, protos.GetModelMetadataResponse)


def test_metadata_describes_the_signature(channel: grpc.Channel) -> None:
    response = metadata(channel, "means", "signature_def")
    assert (response.model_spec.name, response.model_spec.version.value) == ("means", 3)
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = protos.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    images, output = signature.inputs["images"], signature.outputs["output_alias"]
    assert (images.name, images.dtype, [d.size for d in images.tensor_shape.dim]) == ("Placeholder:0", 7, [-1])
    assert (output.name, output.dtype, [d.size for d in output.tensor_shape.dim]) == ("classifier/mean:0", 1, [-1, 3])


@pytest.mark.parametrize(
    ("model", "fields", "code", "said"),
    [
        ("means", [], "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        ("means", ["assets"], "INVALID_ARGUMENT", "Metadata field assets is not supported"),
        ("no", ["signature_def"], "NOT_FOUND", "Latest(no)"),
    ],
)
def test_metadata_errors(channel: grpc.Channel, model: str, fields: list[str], code: str, said: str) -> None:
    got = refused(lambda: metadata(channel, model, *fields))
    assert got[0] == code and said in got[1]


def status(channel: grpc.Channel, model: str, version: int | None = None) -> list[tuple[int, int, str]]:
    request = protos.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    call = f"/{protos.MODEL_SERVICE}/GetModelStatus"
    response = unary(channel, call, request, protos.GetModelStatusResponse)
    return [(s.version, s.state, s.status.error_message) for s in response.model_version_status]


def test_status_through_a_models_life(models: dict[str, ConvertedModel]) -> None:
    with Server() as server, channel_to(server) as channel:
        assert refused(lambda: status(channel, "m")) == ("NOT_FOUND", "Could not find any versions of model m")
        server.note_loading("m", 1)
        assert status(channel, "m") == [(1, 20, "")]
        server.add_model("m", models["means"], version=1)
        assert status(channel, "m") == [(1, 30, "")]
        server.note_failed("m", 2, "it is damaged")
        assert status(channel, "m") == [(2, 50, "it is damaged"), (1, 30, "")]
        server.add_model("m", models["means"], version=2)
        assert status(channel, "m") == [(2, 30, ""), (1, 50, "")]
        assert status(channel, "m", 1) == [(1, 50, "")]
        assert refused(lambda: status(channel, "m", 9))[0] == "NOT_FOUND"


def test_health(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status == 1
    assert refused(lambda: stub.Check(health_pb2.HealthCheckRequest(service="no"), timeout=30))[0] == "NOT_FOUND"


def test_reflection_describes_every_method(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert services == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for service in services:
        file = database.FindFileContainingSymbol(service)
        assert service.rpartition(".")[2] in [described.name for described in file.service]


def test_trailing_metadata_has_the_stages_microseconds(channel: grpc.Channel) -> None:
    call = channel.unary_unary(f"/{protos.PREDICTION_SERVICE}/Predict", None, protos.PredictResponse.FromString)
    _, made = call.with_call(request_of("means", images=IMAGES).SerializeToString(), timeout=30)
    trailing = dict(made.trailing_metadata())
    pairs = [part.split("=") for part in trailing["x-amlrealtimeai-timings"].split(",")]
    assert [name for name, _ in pairs] == ["queue", "parse", "decode", "classifier", "build", "total"]
    microseconds = {name: int(value) for name, value in pairs}
    assert 0 < microseconds["decode"] <= microseconds["total"] < 5_000_000
    assert len(trailing["x-amlrealtimeai-request-id"]) == 8


class Broken:
    """A stage that fails in a way that nobody foresaw."""

    kind = "classifier"

    def __init__(self, stage: object) -> None:
        self.definition = stage.definition

    def run(self, inputs: dict, outputs: list) -> dict:
        raise KeyError("/secret/path and a key")


def test_the_unexpected_is_internal_with_an_id_that_the_log_repeats(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = ConvertedModel.load(image_model(tmp_path / "m.accelonnx"))
    model.stages[1] = Broken(model.stages[1])
    with Server() as server, channel_to(server) as channel, caplog.at_level(logging.ERROR):
        server.add_model("m", model)
        code, text = refused(lambda: predict(channel, request_of(images=IMAGES)))
    assert code == "INTERNAL" and "secret" not in text and "Traceback" not in text
    identity = text.removeprefix("internal error ").partition(";")[0]
    assert len(identity) == 8 and f"request={identity}" in caplog.text and "/secret/path" in caplog.text


def test_observers_and_log_get_every_request(
    models: dict[str, ConvertedModel], caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Record] = []
    with caplog.at_level(logging.INFO), Server() as server, channel_to(server) as channel:
        server.add_observer(records.append)
        server.add_model("means", models["means"])
        predict(channel, request_of(images=IMAGES))
        refused(lambda: predict(channel, request_of(pictures=IMAGES)))
    records.sort(key=lambda record: record.started)  # they are noted after their answers, by several threads
    assert [(r.method, r.model, r.code) for r in records] == [
        ("Predict", "means", "OK"),
        ("Predict", "means", "INVALID_ARGUMENT"),
    ]
    assert records[0].timings["decode"] > 0
    assert f"request={records[1].request_id} method=Predict model='means' code=INVALID_ARGUMENT" in caplog.text


def test_an_observer_that_fails_is_logged_and_its_client_answered(
    models: dict[str, ConvertedModel], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Record] = []

    def broken(record: Record) -> None:
        raise RuntimeError("/secret/path")

    with caplog.at_level(logging.ERROR), Server() as server, channel_to(server) as channel:
        server.add_observer(broken)
        server.add_observer(seen.append)
        server.add_model("means", models["means"])
        predict(channel, request_of(images=IMAGES))
        metadata(channel, "means", "signature_def")
        code, text = refused(lambda: predict(channel, request_of("no", images=IMAGES)))
        assert code == "NOT_FOUND" and "secret" not in text
        eventually(lambda: len(seen) == 3)
    assert "/secret/path" in caplog.text and "an observer failed" in caplog.text


def test_an_answer_does_not_wait_for_the_log(models: dict[str, ConvertedModel]) -> None:
    answered, waited = threading.Event(), []
    with Server() as server, channel_to(server) as channel:
        server.add_observer(lambda record: waited.append(answered.wait(15)))
        server.add_model("means", models["means"])
        predict(channel, request_of(images=IMAGES))
        answered.set()
    assert waited == [True]


def test_too_many_at_once_are_refused_and_the_others_answered(tmp_path: Path) -> None:
    model = ConvertedModel.load(slow_model(tmp_path / "slow.accelonnx"), threads=1)
    with Server(limits=Limits(max_in_flight=2, workers=1)) as server, channel_to(server) as channel:
        server.add_model("slow", model)
        with ThreadPoolExecutor(8) as threads:
            calls = [threads.submit(predict, channel, request_of(x=ONE)) for _ in range(8)]
            failures = [error for call in calls if (error := call.exception())]
        assert 1 <= len(failures) <= 6
        for error in failures:
            assert isinstance(error, grpc.RpcError)
            assert error.code().name == "RESOURCE_EXHAUSTED" and "max_in_flight = 2" in error.details()


def test_waiting_too_long_names_the_setting(tmp_path: Path) -> None:
    model = ConvertedModel.load(slow_model(tmp_path / "slow.accelonnx", products=60), threads=1)
    with Server(limits=Limits(workers=1, max_wait_seconds=0.05)) as server, channel_to(server) as channel:
        server.add_model("slow", model)
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(predict, channel, request_of(x=ONE)) for _ in range(2)]
            (error,) = [error for call in calls if (error := call.exception())]
    assert isinstance(error, grpc.RpcError) and error.code().name == "DEADLINE_EXCEEDED"
    assert "waited too long before a worker was free (max_wait_seconds = 0.05)" in error.details()


def test_stop_finishes_what_is_in_flight_and_health_says_so_first(tmp_path: Path) -> None:
    model = ConvertedModel.load(slow_model(tmp_path / "slow.accelonnx"), threads=1)
    server = Server().start()
    server.add_model("slow", model)
    with channel_to(server) as channel, ThreadPoolExecutor(1) as threads:
        seen: list[int] = []
        watched = threading.Event()

        def watch() -> None:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                for answer in stub.Watch(health_pb2.HealthCheckRequest(service="")):
                    seen.append(answer.status)
                    watched.set()
            except grpc.RpcError:
                pass

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert watched.wait(5)
        busy = threading.Event()
        run = model.stages[0].run
        model.stages[0].run = lambda inputs, outputs: (busy.set(), run(inputs, outputs))[1]
        call = threads.submit(predict, channel, request_of(x=ONE))
        assert busy.wait(5)
        start = time.monotonic()
        server.stop(grace=60)
        assert time.monotonic() - start < 30, "health's endless Watch is not waited for"
        assert call.result(timeout=1).outputs["output_alias"].float_val[:] == [0]
        watcher.join(5)
        assert seen == [1, 2], "SERVING, then NOT_SERVING"
        code, _ = refused(lambda: predict(channel, request_of(x=ONE), timeout=30))
        assert code == "UNAVAILABLE"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 1)


def test_a_taken_port_is_explained(server: Server) -> None:
    with pytest.raises(DeploymentError, match=rf"port {server.port} is taken \(process \d+ \(.+\) has it\)"):
        Server(port=server.port).start()


@pytest.mark.parametrize("taken", ["port", "rest_port", "admin_port"])
def test_a_start_that_fails_gives_its_ports_back(server: Server, models: dict, pair: np.ndarray, taken: str) -> None:
    free = {name: free_port() for name in ("port", "rest_port", "admin_port")}
    other = Server(**(free | {taken: server.port}))
    before = threading.active_count()
    with pytest.raises(DeploymentError, match="is taken"):
        other.start()
    other.stop()
    assert threading.active_count() == before
    for port in free.values():
        if taken != "port" or port != free["port"]:
            socket.create_server(("127.0.0.1", port)).close()
    with Server(**free) as again, channel_to(again) as channel:
        again.add_model("heads", models["heads"])
        assert len(predict(channel, request_of(x=pair)).outputs) == 12


def test_a_second_stop_touches_nobody_else(models: dict, pair: np.ndarray) -> None:
    first = Server(rest_port=0).start()
    port = first.port
    first.stop()
    with Server(port=port, rest_port=first.rest_port) as second, channel_to(second) as channel:
        second.add_model("heads", models["heads"])
        predict(channel, request_of(x=pair))
        first.stop()
        predict(channel, request_of(x=pair))
        with channel_to(second) as another:
            predict(another, request_of(x=pair))


def test_servers_on_the_same_port_of_other_addresses_stay(models: dict, pair: np.ndarray) -> None:
    first = Server("127.0.0.1").start()
    with Server("127.0.0.2", first.port) as second, channel_to(second) as channel:
        second.add_model("heads", models["heads"])
        predict(channel, request_of(x=pair))
        first.stop()
        predict(channel, request_of(x=pair))
        with channel_to(second) as another:
            predict(another, request_of(x=pair))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_an_impossible_address_is_explained() -> None:
    with pytest.raises(DeploymentError, match="not a name or address"):
        Server(host="no-such-host.invalid").start()
    with pytest.raises(DeploymentError, match="choose an address of this computer"):
        Server(host="192.0.2.1").start()


def test_a_second_start_is_refused(server: Server) -> None:
    with pytest.raises(DeploymentError, match="was started already"):
        server.start()
    with pytest.raises(DeploymentError, match="call start"):
        _ = Server().port


def test_keys_without_tls_are_refused(models: dict[str, ConvertedModel], server: Server) -> None:
    with pytest.raises(ConfigError, match="keys need TLS"):
        Server(keys=["k"])
    with pytest.raises(ConfigError, match="keys need TLS"):
        server.add_model("x", models["means"], keys=["k"])


def test_limits_are_checked() -> None:
    for bad in (
        {"max_batch": 0},
        {"max_batch": 1.5},
        {"max_wait_seconds": 0},
        {"workers": -1},
        {"max_in_flight": True},
    ):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Limits(**bad)
    assert Limits.from_texts(["max_batch=16", "max_wait_seconds=0.5"]) == Limits(max_batch=16, max_wait_seconds=0.5)
    for text in ("max_batch", "max_batch=x", "nothing=3"):
        with pytest.raises(ConfigError, match="expected NAME=NUMBER"):
            Limits.from_texts([text])


def test_replacing_a_model_under_load_loses_nothing(tmp_path: Path, models: dict[str, ConvertedModel]) -> None:
    pairs = np.ones((1, 2), np.float32)
    stop = threading.Event()
    answers: list[int] = []

    def load(channel: grpc.Channel) -> None:
        while not stop.is_set():
            answers.append(predict(channel, request_of(x=pairs)).model_spec.version.value)

    with Server() as server, channel_to(server) as channel, ThreadPoolExecutor(3) as threads:
        server.add_model("heads", models["heads"], version=1)
        calls = [threads.submit(load, channel) for _ in range(3)]
        for version in range(2, 30):
            server.add_model("heads", models["heads"], version=version)
            threading.Event().wait(0.01)
        stop.set()
        for call in calls:
            call.result(timeout=10)
    assert set(answers) <= set(range(1, 30)) and answers[-1] >= 28
