"""TensorFlow Serving's REST API on a real port, and what comes with it: metrics, health, limits."""

import base64
import contextlib
import gzip
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from amlrealtimeai.errors import DeploymentError
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.conftest import channel_to, predict, request_of
from tests.serving.models import encode, picture
from tests.serving.processes import eventually

JPEG = encode(picture(), "JPEG")
B64 = {"b64": base64.b64encode(JPEG).decode()}


@pytest.fixture(scope="module")
def rest(models: dict) -> Iterator[Server]:
    with Server(rest_port=0, limits=Limits(max_rest_bytes=300_000)) as server:
        for name, model in models.items():
            server.add_model(name, model, version=3)
        yield server


def ask(
    server: Server, method: str, path: str, body: Any = None, headers: dict | None = None, context: Any = None
) -> tuple[int, Any]:
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    else:
        connection = http.client.HTTPSConnection("localhost", server.rest_port, timeout=20, context=context)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    kind = response.headers["Content-Type"]
    return response.status, json.loads(content) if content and kind == "application/json" else content.decode()


def post(server: Server, model: str, body: Any, **options: Any) -> tuple[int, Any]:
    return ask(server, "POST", f"/v1/models/{model}:predict", body, **options)


def test_rows_and_columns_give_what_grpc_gives(rest: Server) -> None:
    with channel_to(rest) as channel:
        response = predict(channel, request_of("means", images=np.array([JPEG], object)))
    expected = [[float(value) for value in response.outputs["output_alias"].float_val]]
    assert post(rest, "means", {"instances": [B64]}) == (200, {"predictions": expected})
    assert post(rest, "means", {"instances": [{"images": B64}]}) == (200, {"predictions": expected})
    assert post(rest, "means", {"inputs": [B64]}) == (200, {"outputs": expected})
    assert post(rest, "means", {"inputs": {"images": [B64]}}) == (200, {"outputs": expected})
    body = {"signature_name": "serving_default", "instances": [B64, B64]}
    status, answer = post(rest, "means", body)
    assert status == 200 and answer["predictions"] == [pytest.approx(expected[0], rel=1e-5)] * 2


def test_several_inputs_and_outputs_have_their_names(rest: Server) -> None:
    rows = {"instances": [{"a": [1, 2], "b": [3, 5]}, {"a": [0, 0], "b": [1, 1]}]}
    assert post(rest, "arithmetic", rows) == (
        200,
        {
            "predictions": [
                {"difference:0": [-2, -3], "sum:0": [4, 7]},
                {"difference:0": [-1, -1], "sum:0": [1, 1]},
            ]
        },
    )
    columns = {"inputs": {"a": [[1, 2]], "b": [[3, 5]]}}
    assert post(rest, "arithmetic", columns) == (200, {"outputs": {"difference:0": [[-2, -3]], "sum:0": [[4, 7]]}})


def test_json_by_tensor_name_is_answered_by_tensor_name(rest: Server) -> None:
    rows = {"instances": [{"in/a:0": [1, 2], "in/b:0": [3, 5]}]}
    assert post(rest, "arithmetic", rows) == (200, {"predictions": [{"difference:0": [-2, -3], "sum:0": [4, 7]}]})
    columns = {"inputs": {"Placeholder:0": [B64]}}
    assert post(rest, "means", columns) == post(rest, "means", {"inputs": {"images": [B64]}})


def test_a_version_can_be_asked_for(rest: Server) -> None:
    assert post(rest, "heads/versions/3", {"instances": [[1, 2]]})[0] == 200
    code, body = post(rest, "heads/versions/9", {"instances": [[1, 2]]})
    assert (code, body) == (404, {"error": "Servable not found for request: Specific(heads, 9)"})


def test_status_and_metadata(rest: Server) -> None:
    status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert ask(rest, "GET", "/v1/models/means") == (200, {"model_version_status": [status]})
    assert ask(rest, "GET", "/v1/models/no")[0] == 404
    code, body = ask(rest, "GET", "/v1/models/means/metadata")
    assert code == 200 and body["model_spec"] == {"name": "means", "version": "3"}
    signature = body["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["images"] == {
        "dtype": "DT_STRING",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "Placeholder:0",
    }
    assert signature["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("model", "body", "code", "said"),
    [
        ("no", {"instances": [1]}, 404, "Servable not found for request: Latest(no)"),
        ("means", b"{", 400, "JSON Parse error"),
        ("means", b"[1]", 400, "JSON Parse error: expected an object"),
        ("means", b"", 400, "JSON Parse error"),
        ("means", {}, 400, "'instances' (rows) or 'inputs' (columns)"),
        ("means", {"instances": [B64], "inputs": [B64]}, 400, "'instances' (rows) or 'inputs' (columns)"),
        ("means", {"instances": []}, 400, "at least one element"),
        ("means", {"instances": [{"b64": "?"}]}, 400, "Unable to base64 decode"),
        ("means", {"instances": [5]}, 400, 'expected text, or bytes as {"b64"'),
        ("means", {"instances": ["no image"]}, 400, "image 0 of 1: not a JPEG or PNG"),
        ("means", {"instances": [{"pictures": B64}]}, 400, "Missing but required: {images}"),
        ("means", {"signature_name": "s", "instances": [B64]}, 400, 'Serving signature key "s" not found'),
        ("heads", {"instances": [[1, 2], [3]]}, 400, "JSON Value of input 'x'"),
        ("heads", {"instances": [["a", "b"]]}, 400, "JSON values that are not float32"),
        ("heads", {"instances": [[True, False]]}, 400, "JSON values that are not float32"),
        ("heads", {"instances": [[1, 2, 3]]}, 400, "expected shape [?, 2], got [1, 3]"),
        ("arithmetic", {"instances": [[1, 2]]}, 400, "expected names of inputs"),
        ("arithmetic", {"instances": [{"a": [1, 2]}, {"b": [1, 2]}]}, 400, "the same names"),
        ("heads", {"instances": [[1, 2]] * 65}, 429, "max_batch = 64"),
    ],
)
def test_errors(rest: Server, model: str, body: Any, code: int, said: str) -> None:
    status, answer = post(rest, model, body)
    assert status == code and said in answer["error"], answer
    assert post(rest, "heads", {"instances": [[1, 2]]})[0] == 200, "the next good request is answered"


@pytest.mark.parametrize(("depth", "fine"), [(99, True), (100, True), (101, False), (102, False), (250_000, False)])
def test_depth_limit_at_below_and_above_its_value(rest: Server, depth: int, fine: bool) -> None:
    body = b'{"inputs":' + b"[" * (depth - 1) + b"1" + b"]" * min(depth - 1, 1000) + b"}"
    status, answer = post(rest, "heads", body)
    assert status == 400 and ("max_json_depth" not in answer["error"]) is fine, answer


def test_brackets_in_strings_do_not_count(rest: Server) -> None:
    status, answer = post(rest, "means", {"instances": ["[" * 5000 + '\\"']})
    assert status == 400 and "not a JPEG" in answer["error"]


@pytest.mark.parametrize(("size", "code"), [(299_999, 400), (300_000, 400), (300_001, 413)])
@pytest.mark.parametrize("packed", [False, True])
def test_body_limit_at_below_and_above_its_value(rest: Server, size: int, code: int, packed: bool) -> None:
    body = b" " * (size - 2) + b"[]"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    status, answer = post(rest, "means", gzip.compress(body) if packed else body, headers=headers)
    assert status == code and ("max_rest_bytes = 300000" in answer["error"]) is (code == 413), answer


def test_a_gzip_bomb_is_refused_early(rest: Server) -> None:
    bomb = gzip.compress(bytes(100 << 20))
    assert len(bomb) < 300_000
    start = time.monotonic()
    status, answer = post(rest, "means", bomb, headers={"Content-Encoding": "gzip"})
    assert status == 413 and "max_rest_bytes" in answer["error"] and time.monotonic() - start < 2
    assert post(rest, "means", b"no gzip", headers={"Content-Encoding": "gzip"})[0] == 400
    body = gzip.compress(json.dumps({"instances": [[1, 2]]}).encode())
    assert post(rest, "heads", body, headers={"Content-Encoding": "gzip"})[0] == 200
    assert eventually(lambda: rest._servicer.admission.bytes_in_flight == 0), "all bytes are given back"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/models/means:predict", 404),
        ("POST", "/v1/models/means", 404),
        ("POST", "/v1/models/means:classify", 404),
        ("POST", "/v1/models/means/versions/x:predict", 404),
        ("PUT", "/v1/models/means", 501),
        ("GET", "/healthz", 200),
    ],
)
def test_paths(rest: Server, method: str, path: str, code: int) -> None:
    body = b"{}" if method != "GET" else None
    connection = http.client.HTTPConnection("127.0.0.1", rest.rest_port, timeout=30)
    connection.request(method, path, body)
    assert connection.getresponse().status == code
    connection.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 2000,
        b"POST /v1/models/means:predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b'POST /v1/models/means:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"i\n0\r\n\r\n',
        b"POST /v1/models/means:predict HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    ],
)
def test_raw_bytes_do_no_harm(rest: Server, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", rest.rest_port), 5) as plain:
        plain.settimeout(5)
        try:
            plain.sendall(raw)
            plain.shutdown(socket.SHUT_WR)
            answer = plain.recv(100)
        except OSError:  # the server has closed already
            answer = b""
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"<!DOCTYPE"))
    assert post(rest, "heads", {"instances": [[1, 2]]})[0] == 200


def test_connections_that_do_nothing_make_room_for_others(models: dict) -> None:
    with Server(rest_port=0, limits=Limits(max_rest_connections=8)) as server:
        server.add_model("heads", models["heads"])
        idle = [socket.create_connection(("127.0.0.1", server.rest_port), 5) for _ in range(8)]
        idle[0].sendall(b"POST /v1/models/heads:predict HTTP/1.1\r\nHost: a\r\nContent-Le")
        for _ in range(3):
            assert post(server, "heads", {"instances": [[1, 2]]})[0] == 200
            assert ask(server, "GET", "/healthz") == (200, "ok\n")
        idle[0].settimeout(5)
        with contextlib.suppress(ConnectionResetError):  # closed over the unread half of a header
            assert idle[0].recv(10) == b"", "the one that has been idle for longest"
        idle[7].sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle[7].recv(12) == b"HTTP/1.1 200", "the last ones stay"
        for plain in idle:
            plain.close()


def test_tls_keys_and_a_replaced_certificate(models: dict) -> None:
    authority, other = Authority(), Authority()
    with Server(tls=authority.issue(), rest_port=0) as server:
        server.add_model("heads", models["heads"], keys=["secret-key"])
        context = ssl.create_default_context(cadata=authority.pem.decode())
        body = {"instances": [[1, 2]]}
        assert post(server, "heads", body, context=context)[0] == 401
        status, answer = post(server, "heads", body, context=context, headers={"Authorization": "Bearer wrong"})
        assert status == 401 and "secret-key" not in answer["error"]
        good = {"Authorization": "Bearer secret-key"}
        assert post(server, "heads", body, context=context, headers=good)[0] == 200
        assert ask(server, "GET", "/v1/models/heads", context=context)[0] == 401
        address = f"https://localhost:{server.rest_port}/v1/models/heads"
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(address, context=context)
        assert refusal.value.code == 401 and refusal.value.headers["WWW-Authenticate"] == "Bearer"
        server.replace_tls(other.issue())
        with pytest.raises(ssl.SSLCertVerificationError):
            post(server, "heads", body, context=context, headers=good)
        context = ssl.create_default_context(cadata=other.pem.decode())
        assert post(server, "heads", body, context=context, headers=good)[0] == 200


def test_stopping_answers_what_has_come(models: dict) -> None:
    server = Server(rest_port=0).start()
    server.add_model("heads", models["heads"])
    codes: list[int] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                codes.append(post(server, "heads", {"instances": [[1, 2]]})[0])
            except (ConnectionError, http.client.HTTPException):
                codes.append(0)
                return

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    server.stop()
    stop.set()
    for thread in threads:
        thread.join(10)
    assert set(codes) <= {200, 503, 0} and 200 in codes


def test_a_taken_rest_port_is_explained(rest: Server) -> None:
    with pytest.raises(DeploymentError, match=f"port {rest.rest_port} is taken"):
        Server(rest_port=rest.rest_port).start()


def test_metrics_count_requests_by_code_and_time_by_stage(models: dict) -> None:
    with Server(rest_port=0) as server, channel_to(server) as channel:
        server.add_model("means", models["means"])
        for _ in range(3):
            predict(channel, request_of("means", images=np.array([JPEG], object)))
        with pytest.raises(grpc.RpcError):
            predict(channel, request_of("means", images=np.array([b"x"], object)))
        with pytest.raises(grpc.RpcError):
            predict(channel, request_of("made-up", images=np.array([b"x"], object)))
        counted = {
            'amlrealtimeai_requests_total{code="OK",method="Predict",model="means"} 3.0',
            'amlrealtimeai_requests_total{code="INVALID_ARGUMENT",method="Predict",model="means"} 1.0',
            'amlrealtimeai_requests_total{code="NOT_FOUND",method="Predict",model=""} 1.0',
            'amlrealtimeai_stage_seconds_count{model="means",stage="decode"} 3.0',
        }
        eventually(lambda: counted <= set(scraped(server)))  # answers go out before they are counted
        lines = scraped(server)
    assert "amlrealtimeai_in_flight 0.0" in lines and "amlrealtimeai_models 1.0" in lines
    assert not any("made-up" in line for line in lines)


def test_a_body_that_is_no_json_is_counted(models: dict) -> None:
    with Server(rest_port=0) as server:
        server.add_model("means", models["means"])
        assert post(server, "means", b"{")[0] == 400
        counted = 'amlrealtimeai_requests_total{code="INVALID_ARGUMENT",method="Predict",model="means"} 1.0'
        eventually(lambda: counted in scraped(server))


def scraped(server: Server) -> list[str]:
    _, text = ask(server, "GET", "/metrics")
    return text.splitlines()


def test_a_target_may_name_the_server_and_head_is_get_without_its_body(rest: Server) -> None:
    for path in ("/v1/models/means", f"http://127.0.0.1:{rest.rest_port}/v1/models/means", "HTTP://x/healthz?a=b"):
        assert ask(rest, "GET", path)[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", rest.rest_port, timeout=20)
        connection.request("HEAD", path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"") and int(response.headers["Content-Length"]) > 0
        connection.close()
    assert ask(rest, "HEAD", "/v1/models/means:predict")[0] == 404
    status, answer = ask(rest, "X" * 3000, "/v1/models/means")
    assert status == 501 and len(answer["error"]) < 200


def test_a_value_of_another_kind_is_shown_from_its_beginning(rest: Server) -> None:
    for came in ("true", "null", "0x1", "[1, 1_0]"):
        body = f'{{"inputs": {{"a": [[{came}, 2]], "b": [[1, 2]]}}}}'.encode()
        shown = came.removeprefix("[1, ")
        status, answer = post(rest, "arithmetic", body)
        assert status == 400 and f"not float32: '{shown}" in answer["error"], answer
