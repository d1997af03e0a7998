"""TensorFlow Serving's REST API on a second port, over the same Servicer; and /metrics and /healthz.

POST /v1/models/NAME[/versions/N]:predict      GET /v1/models/NAME[/versions/N][/metadata]
"""

import json
import re
import ssl
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from amlrealtimeai.serving.ports.address import bind_error
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.protocol import protos, rest_json, tensors
from amlrealtimeai.serving.request.answers import REQUEST_ID_HEADER, Answer, Call, Record, RequestError, log
from amlrealtimeai.serving.request.metrics import Metrics
from amlrealtimeai.serving.request.servicer import Servicer

_PATH = re.compile(r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>[0-9]{1,18}))?(?P<what>:predict|/metadata|)")
_HTTP = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "NOT_FOUND": 404,
    "CANCELLED": 499,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_MAX_CONNECTIONS = 64
_IDLE_SECONDS = 15.0
_CHUNK = 1 << 16


class RestServer:
    """The HTTP port of a server; every connection has a thread, and at most 64 are open."""

    def __init__(self, servicer: Servicer, metrics: Metrics, host: str, port: int, tls: Tls | None) -> None:
        self._context = None if tls is None else tls.context()
        try:
            self._http = _Http((host, port), servicer, metrics, self._context)
        except OSError:
            raise bind_error(host, port) from None
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True, name="rest")

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._http.server_address[1])

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port; whoever still talks gets `Connection: close`."""
        self._http.shutdown()
        self._http.server_close()

    def replace_tls(self, tls: Tls) -> None:
        """Use this certificate from the next handshake on."""
        assert self._context is not None
        tls.load_into(self._context)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], servicer: Servicer, metrics: Metrics, context: ssl.SSLContext | None
    ) -> None:
        self.servicer = servicer
        self.metrics = metrics
        self.context = context
        self.parsing = threading.Lock()  # JSON of one request at a time: parsing holds the GIL, and memory, anyway
        self._room = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a connection, if there is room."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The whole connection; the TLS handshake is made here, where it holds up nobody else."""
        try:
            request.settimeout(_IDLE_SECONDS)
            if self.context is not None:
                request = self.context.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:
            self.shutdown_request(request)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no event for the log."""
        log.debug("a REST connection broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "amlrealtimeai"
    sys_version = ""
    timeout = _IDLE_SECONDS
    server: _Http
    _held = 0

    def do_GET(self) -> None:
        """Status, metadata, metrics, health."""
        if self.path in ("/metrics", "/monitoring/prometheus/metrics"):
            self._send(200, self.server.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/healthz":
            draining = self.server.servicer.draining
            self._send(503 if draining else 200, b"draining\n" if draining else b"ok\n", "text/plain")
        else:
            self._answer(b"")

    def do_POST(self) -> None:
        """Predict."""
        try:
            self._answer(self._body())
        except RequestError as error:
            self.close_connection = True  # the rest of the body is still on its way
            self._fail(413 if "max_rest_bytes" in error.text else _HTTP[error.code.name], error.text)
        finally:
            self.server.servicer.admission.drop(self._held)
            self._held = 0

    def _answer(self, body: bytes) -> None:
        match = _PATH.fullmatch(self.path)
        if match is None or (match["what"] == ":predict") != (self.command == "POST"):
            self._fail(404, f"Malformed request: {self.command} {self.path:.100}; see /v1/models/NAME:predict")
            return
        servicer = self.server.servicer
        metadata = [(name.lower(), value) for name, value in self.headers.items()]
        call = Call(metadata, None, servicer.limits.max_seconds)
        counted = servicer.begin()
        try:
            exchange = _Exchange(self.server, match["model"], match["version"], call)
            work = {":predict": lambda: exchange.predict(body), "/metadata": exchange.metadata, "": exchange.status}
            try:
                answer, record = work[match["what"]]()
            except Exception as error:  # of the JSON side; the rest is answered inside
                record = Record("Predict", model=match["model"], size=len(body))
                answer = servicer.failed(error, record)
                servicer.note(record)
            if answer.data is None:
                self._fail(_HTTP.get(answer.code.name, 500), answer.text, record.request_id)
            else:
                self._send(200, answer.data, "application/json", record.request_id)
        finally:
            servicer.end(counted)

    def _body(self) -> bytes:
        """The decompressed body, never more than the limit."""
        limit = self.server.servicer.limits.max_rest_bytes
        length = self.headers.get("Content-Length", "")
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "expected a Content-Length header")
        if encoding not in ("identity", "gzip"):
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "expected Content-Encoding gzip or none")
        if int(length) > limit:
            raise _too_large(limit)
        left, size, parts = int(length), 0, []
        unpacked = zlib.decompressobj(31) if encoding == "gzip" else None
        end = time.monotonic() + self.server.servicer.limits.max_seconds
        while left:
            part = self.rfile.read(min(left, _CHUNK))
            if not part or time.monotonic() > end:
                raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "the body ended early or came too slowly")
            left -= len(part)
            if unpacked is not None:
                part = _unpack(unpacked, part, limit - size + 1)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            self.server.servicer.admission.hold(len(part))
            self._held += len(part)
            parts.append(part)
        return b"".join(parts)

    def _fail(self, status: int, text: str, request_id: str = "") -> None:
        self._send(status, json.dumps({"error": text}).encode(), "application/json", request_id)

    def _send(self, status: int, body: bytes, kind: str, request_id: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if request_id:
            self.send_header(REQUEST_ID_HEADER, request_id)
        if self.close_connection or self.server.servicer.draining:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The servicer logs every request."""


class _Exchange:
    """One REST request, translated to the gRPC method of the same meaning."""

    def __init__(self, server: _Http, model: str, version: str | None, call: Call) -> None:
        self._server = server
        self._servicer = server.servicer
        self._model = model
        self._version = version
        self._call = call

    def predict(self, body: bytes) -> tuple[Answer, Record]:
        """From JSON to Predict, and its answer back to JSON."""
        request = protos.PredictRequest()
        self._fill(request.model_spec)
        served = self._servicer.table.get(self._model)
        rows = True
        if served is not None:  # else Predict says so
            self._servicer.check(served, self._call)
            with self._server.parsing:
                limits = self._servicer.limits
                reader = rest_json.RequestReader(
                    served.model.signature,
                    limits.max_json_depth,
                    limits.max_elements,
                    limits.max_strings,
                    self._call.check,
                    limits.check_batch,
                )
                parsed = reader.read(body)
            request.model_spec.signature_name = parsed.signature_name
            rows = parsed.rows
            for name, array in parsed.inputs.items():
                tensors.fill_proto(request.inputs[name], array)
        answer, record = self._servicer.respond("Predict", request.SerializeToString(), self._call)
        if answer.data is not None:
            response = protos.PredictResponse.FromString(answer.data)
            outputs = {name: tensors.from_proto(proto) for name, proto in sorted(response.outputs.items())}
            answer = Answer(data=rest_json.outputs_text(outputs, rows))
        return answer, record

    def status(self) -> tuple[Answer, Record]:
        """GetModelStatus as JSON."""
        request = protos.GetModelStatusRequest()
        self._fill(request.model_spec)
        answer, record = self._servicer.respond("GetModelStatus", request.SerializeToString(), self._call)
        if answer.data is not None:
            states = protos.GetModelStatusResponse.FromString(answer.data).model_version_status
            names = protos.GetModelStatusResponse.DESCRIPTOR.file.message_types_by_name["ModelVersionStatus"]
            known = names.enum_types_by_name["State"].values_by_number
            plain = [
                {
                    "version": str(status.version),
                    "state": known[status.state].name,
                    "status": {
                        "error_code": "UNKNOWN" if status.status.error_message else "OK",
                        "error_message": status.status.error_message,
                    },
                }
                for status in states
            ]
            answer = Answer(data=json.dumps({"model_version_status": plain}, indent=1).encode())
        return answer, record

    def metadata(self) -> tuple[Answer, Record]:
        """GetModelMetadata as JSON."""
        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        answer, record = self._servicer.respond("GetModelMetadata", request.SerializeToString(), self._call)
        if answer.data is not None:
            response = protos.GetModelMetadataResponse.FromString(answer.data)
            found = protos.SignatureDefMap.FromString(response.metadata["signature_def"].value)
            definitions = {name: _signature(value) for name, value in found.signature_def.items()}
            spec = {"name": response.model_spec.name, "version": str(response.model_spec.version.value)}
            plain = {"model_spec": spec, "metadata": {"signature_def": {"signature_def": definitions}}}
            answer = Answer(data=json.dumps(plain, indent=1).encode())
        return answer, record

    def _fill(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = int(self._version)


def _signature(value: Any) -> dict[str, Any]:
    return {
        "inputs": {name: _tensor_info(info) for name, info in value.inputs.items()},
        "outputs": {name: _tensor_info(info) for name, info in value.outputs.items()},
        "method_name": value.method_name,
    }


def _tensor_info(info: Any) -> dict[str, Any]:
    kind = info.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number[info.dtype].name
    sizes = [{"size": str(dimension.size), "name": ""} for dimension in info.tensor_shape.dim]
    return {"dtype": kind, "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": info.name}


def _too_large(limit: int) -> RequestError:
    return RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the body is too large (max_rest_bytes = {limit})")


def _unpack(unpacked: Any, part: bytes, limit: int) -> bytes:
    try:
        data: bytes = unpacked.decompress(part, limit)
    except zlib.error:
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "the body is not gzip") from None
    if unpacked.unconsumed_tail:  # more would come out than is allowed
        data += b"\0" * (limit - len(data))
    return data
