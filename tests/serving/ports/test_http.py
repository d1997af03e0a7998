"""The REST port as a stream of bytes: one request has one answer, and nothing lasts longer than its limit."""

import contextlib
import gzip
import json
import os
import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.ports.test_rest import ask, post
from tests.serving.processes import eventually

BODY = json.dumps({"instances": [[1, 2]]}).encode()
POST = b"POST /v1/models/heads:predict HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def rest(models: dict) -> Iterator[Server]:
    limits = Limits(max_rest_bytes=3_000_000, max_header_bytes=4000)
    with Server(rest_port=0, admin_port=0, limits=limits) as server:
        server.add_model("heads", models["heads"])
        yield server


def talk(port: int, data: bytes, seconds: float = 20) -> bytes:
    """Everything that comes back until the server closes; our side stays open."""
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.settimeout(seconds)
        plain.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := plain.recv(1 << 16):
                answer += part
        return answer


def answers(data: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", data)]


CLOSE = b"Connection: close\r\n"
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n"


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, [200]),
        (b"GET /none HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, [404]),
        (b"PUT /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, [405]),
        (b"GET /v1/models/heads HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, [200]),
        (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, [400]),
        (POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}  " + HIDDEN, [400]),
        (POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n", [400]),
        (POST + b"Content-Length: " + b"1" * 3000 + b"\r\n\r\n", [400]),
        (POST + b"Content-Length: +5\r\n\r\n", [400]),
        (POST + b"Content-Length : 5\r\n\r\n", [400]),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [501]),
        (b"POST /v1/models/heads:predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN, [200, 200]),
        (POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + HIDDEN, [200, 200]),
        (POST + CLOSE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY, [200]),
        (POST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n", [200]),
        (b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN, [200, 200]),
        (b"GET /healthz HTTP/2.7\r\nHost: a\r\n\r\n", [505]),
        (b"GET /healthz HTTP/1.1\r\n\r\n", [400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n", [400]),
        (b"GET /healthz?" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [431]),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 2000 + b"\r\n", [431]),
    ],
)
def test_one_request_has_one_answer(rest: Server, data: bytes, codes: list[int]) -> None:
    answer = talk(rest.rest_port, data)
    assert answers(answer) == codes, answer
    assert codes != [431] or b"max_header_bytes = 4000" in answer
    assert post(rest, "heads", {"instances": [[1, 2]]})[0] == 200


def packed(data: bytes) -> tuple[int, object]:
    start = time.monotonic()
    code, answer = post(packed.server, "heads", data, headers={"Content-Encoding": "gzip"})
    assert time.monotonic() - start < 5
    return code, answer


def test_gzip_has_members_with_checksums_and_nothing_else(rest: Server) -> None:
    packed.server = rest
    whole = gzip.compress(BODY)
    assert packed(whole)[0] == 200
    assert packed(gzip.compress(BODY[:5]) + gzip.compress(BODY[5:]))[0] == 200, "two members are one body"
    for wrong in (whole[:-8], whole[:-1], whole[:-8] + b"\0" * 8, zlib.compress(BODY), whole + b"garbage"):
        code, answer = packed(wrong)
        assert code == 400 and "gzip" in answer["error"], answer
    code, answer = packed(whole + b"\0" * 2_900_000)
    assert code == 400, "what follows is not even read to its end"
    code, answer = packed(gzip.compress(b"") * 100_000)
    assert code == 400 and "64 members" in answer["error"]
    code, answer = packed(gzip.compress(os.urandom(2_999_000)) + whole * 100)
    assert code == 413 and "max_rest_bytes" in answer["error"]
    code, _ = post(rest, "heads", BODY, headers={"Content-Encoding": "deflate"})
    assert code == 400
    assert eventually(lambda: rest._servicer.admission.bytes_in_flight == 0)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([b"GZIP"], 200),
        ([b"x-gzip"], 200),
        ([b"identity", b"gzip"], 200),
        ([b"gzip, identity"], 200),
        ([b""], 400),
        ([b"gzip", b"gzip"], 400),
        ([b"gzip,gzip"], 400),
        ([b"gzip", b"br"], 400),
        ([b"br", b"gzip"], 400),
    ],
)
def test_all_encodings_of_a_body_count(rest: Server, headers: list[bytes], code: int) -> None:
    body = gzip.compress(BODY)
    lines = b"".join(b"Content-Encoding: %s\r\n" % value for value in headers)
    answer = talk(rest.rest_port, POST + CLOSE + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert answers(answer) == [code], answer
    assert code == 200 or headers == [b""] or b"expected Content-Encoding gzip or none, got " in answer


def drip(port: int, first: bytes, rest: bytes, pause: float = 0.1) -> tuple[float, bytes]:
    """Send the first bytes at once and the others one by one; the seconds until an answer, and the answer."""
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.sendall(first)
        plain.settimeout(pause)
        for i in range(len(rest)):
            with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                if answer := plain.recv(1 << 16):
                    return time.monotonic() - start, answer
                break
            with contextlib.suppress(OSError):
                plain.sendall(rest[i : i + 1])
        return time.monotonic() - start, b""


def test_a_dripping_header_or_body_ends_at_its_limit(models: dict) -> None:
    with Server(rest_port=0, limits=Limits(max_header_seconds=0.5, max_seconds=1.0, max_idle_seconds=0.7)) as server:
        server.add_model("heads", models["heads"])
        seconds, answer = drip(server.rest_port, b"GET /healthz HTTP/1.1\r\nA: ", b"a" * 100)
        assert seconds < 5 and answer.startswith(b"HTTP/1.1 408") and b"max_header_seconds = 0.5" in answer
        seconds, answer = drip(server.rest_port, b"", b"a" * 100)
        assert seconds < 5 and answer.startswith(b"HTTP/1.1 408")
        seconds, answer = drip(server.rest_port, POST + b"Content-Length: 100\r\n\r\n", b"[" * 100)
        assert 1.0 <= seconds < 5 and answer.startswith(b"HTTP/1.1 504") and b"max_seconds = 1" in answer
        admission = server._servicer.admission
        assert eventually(lambda: (admission.in_flight, admission.bytes_in_flight) == (0, 0))
        kept_open = talk(server.rest_port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", seconds=5)
        assert answers(kept_open) == [200], "and closed when it has been idle for long enough"


def test_slow_headers_shut_nobody_out(models: dict) -> None:
    with Server(rest_port=0, limits=Limits(max_rest_connections=16)) as server:
        server.add_model("heads", models["heads"])
        slow = [socket.create_connection(("127.0.0.1", server.rest_port), 5) for _ in range(64)]
        for plain in slow:
            with contextlib.suppress(OSError):
                plain.sendall(b"GET /healthz HTTP/1.1\r\nA: ")
        assert ask(server, "GET", "/healthz") == (200, "ok\n")
        assert ask(server, "GET", "/metrics")[0] == 200
        assert post(server, "heads", {"instances": [[1, 2]]})[0] == 200
        for plain in slow:
            plain.close()


def test_an_accepted_request_keeps_its_connection(models: dict) -> None:
    with Server(rest_port=0, limits=Limits(max_rest_connections=4)) as server:
        server.add_model("heads", models["heads"])
        with socket.create_connection(("127.0.0.1", server.rest_port), 5) as accepted:
            accepted.sendall(POST + CLOSE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:3])
            assert eventually(lambda: server._servicer.admission.in_flight == 1)
            for _ in range(20):
                assert ask(server, "GET", "/healthz")[0] == 200
            accepted.sendall(BODY[3:])
            assert accepted.recv(12) == b"HTTP/1.1 200"


def test_a_port_full_of_accepted_requests_says_so(models: dict) -> None:
    with ExitStack() as stack, Server(rest_port=0, limits=Limits(max_rest_connections=2)) as server:
        server.add_model("heads", models["heads"])
        for _ in range(2):
            accepted = stack.enter_context(socket.create_connection(("127.0.0.1", server.rest_port), 5))
            accepted.sendall(POST + b"Content-Length: 100\r\n\r\n[")
        assert eventually(lambda: server._servicer.admission.in_flight == 2)
        answer = talk(server.rest_port, b"")
        assert answers(answer) == [503] and b"max_rest_connections = 2" in answer


def test_labels_and_encoded_names(rest: Server, models: dict) -> None:
    code, answer = post(rest, "heads/labels/canary", {"instances": [[1, 2]]})
    assert code == 400 and "Unrecognized servable version label: canary" in answer["error"]
    for path in ("", "/metadata"):
        code, answer = ask(rest, "GET", f"/v1/models/heads/labels/canary{path}")
        assert code == 400 and "Unrecognized servable version label: canary" in str(answer)
    rest.add_model("with space", models["heads"])
    assert post(rest, "with%20space", {"instances": [[1, 2]]})[0] == 200
    rest.remove_model("with space")


def test_probes_on_the_admin_port(models: dict) -> None:
    server = Server(rest_port=0, admin_port=0).start()

    def admin(path: str) -> tuple[int, str]:
        answer = talk(server.admin_port, b"GET %s HTTP/1.1\r\nHost: a\r\n" % path.encode() + CLOSE + b"\r\n")
        return answers(answer)[0], answer.rpartition(b"\r\n\r\n")[2].decode()

    try:
        server.add_model("heads", models["heads"])
        assert [admin(path) for path in ("/livez", "/readyz")] == [(200, "ok\n")] * 2
        assert "amlrealtimeai_models 1.0" in admin("/metrics")[1]
        assert admin("/v1/models/heads")[0] == 404
        with server._servicer.admission._lock:  # what a deadlock would look like: every poller comes here and stays
            eventually(lambda: admin("/livez") == (503, "hung\n"))
            assert admin("/readyz") == (503, "hung\n") and ask(server, "GET", "/healthz") == (503, "hung\n")
        eventually(lambda: admin("/livez") == (200, "ok\n"))
        server._servicer.draining = True
        assert admin("/livez") == (200, "ok\n"), "who finishes its work is alive"
        assert admin("/readyz") == (503, "draining\n")
    finally:
        server.stop()
