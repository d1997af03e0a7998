"""TensorFlow Serving's REST API, /metrics and /healthz: paths and JSON over the same requests as gRPC's.

POST /v1/models/NAME[/versions/N | /labels/L]:predict      GET /v1/models/NAME[/versions/N | /labels/L][/metadata]
"""

import asyncio
import contextlib
import json
import re
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc

from amlrealtimeai.artifact.definition import Signature
from amlrealtimeai.serving.ports.http_port import Exchange, Response
from amlrealtimeai.serving.protocol import protos, rest_json, tensors
from amlrealtimeai.serving.protocol.headers import REQUEST_ID_HEADER
from amlrealtimeai.serving.protocol.json_values import Reader
from amlrealtimeai.serving.request import methods
from amlrealtimeai.serving.request.answers import Answer, RequestError
from amlrealtimeai.serving.request.auth import check_key
from amlrealtimeai.serving.request.request import Request
from amlrealtimeai.serving.request.servicer import Servicer

_PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<what>:predict|/metadata|)"
)
_METHODS = {":predict": ("POST", "Predict"), "/metadata": ("GET", "GetModelMetadata"), "": ("GET", "GetModelStatus")}
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
_PIECE = 1 << 20  # decompressed at once, so that other connections get their turn
_MAX_MEMBERS = 64  # of a gzip body: real ones have one, or one for each part that was appended
_SPARE_THREADS = 2


class RestApi:
    """Handles the exchanges of the REST port.

    pages: other paths, each a function that gives the Response to a GET of a known caller or of a stranger.
    """

    def __init__(self, servicer: Servicer, pages: dict[str, Callable[[], Response]]) -> None:
        self._servicer = servicer
        self._pages = pages
        self._parsing = threading.Lock()  # JSON of one request at a time: parsing holds the GIL, and memory, anyway
        self._pools: list[ThreadPoolExecutor] = []
        self._count = 0
        self.allow(servicer.admission.worker_count)

    def allow(self, workers: int) -> None:
        """Have a thread for each of so many workers."""
        if workers + _SPARE_THREADS > self._count:
            self._count = workers + _SPARE_THREADS
            # The smaller one stays until the end: a request may be on its way to it.
            self._pools.append(ThreadPoolExecutor(self._count, thread_name_prefix="rest-worker"))

    def close(self) -> None:
        """End the threads."""
        for threads in self._pools:
            threads.shutdown()

    async def pause(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Wait before a stranger is answered; without headers nobody can show a key."""
        if self._servicer.is_stranger(headers):
            await asyncio.sleep(self._servicer.strangers.delay())

    async def handle(self, exchange: Exchange) -> None:
        """Answer one exchange."""
        if exchange.path in self._pages:
            await self._page(exchange)
            return
        match = _PATH.fullmatch(exchange.path)
        wanted, method = _METHODS[match["what"]] if match else ("", "")
        asked = "GET" if exchange.method == "HEAD" else exchange.method
        if match is None or asked != wanted:
            await self.pause(exchange.headers)
            text = f"Malformed request: {exchange.method:.20} {exchange.path:.100}; see /v1/models/NAME:predict"
            await exchange.answer(_error(404 if exchange.method in ("GET", "POST", "HEAD") else 501, text))
            return
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def deliver(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def send(answer: Answer) -> None:
            with contextlib.suppress(RuntimeError):  # the port was closed in the meantime
                loop.call_soon_threadsafe(deliver, answer)

        with Request(self._servicer, method, exchange.headers, None, send) as request:
            if request.admit():
                exchange.accept()
                await self._run(request, exchange, match)
            answer = await answered
            if answer.code is grpc.StatusCode.UNAUTHENTICATED:
                await self.pause(exchange.headers)
            await exchange.answer(_response(answer, request))

    async def _page(self, exchange: Exchange) -> None:
        await self.pause(exchange.headers)
        if exchange.method in ("GET", "HEAD"):
            await exchange.answer(self._pages[exchange.path]())
        else:
            await exchange.answer(_error(405, f"expected GET {exchange.path}"))

    async def _run(self, request: Request, exchange: Exchange, match: re.Match[str]) -> None:
        """Receive the body, if there should be one, and have the request run; a request that fails is replied to."""
        work = partial(_WORK[match["what"]], request, partial(_fill, match))
        if match["what"] == ":predict":
            parts: list[bytes] = []
            try:
                async with asyncio.timeout(request.seconds_left):
                    async for part in _body(exchange, self._servicer.limits.max_rest_bytes):
                        if not request.receive(len(part)):
                            return
                        parts.append(part)
            except TimeoutError:
                limit = self._servicer.limits.max_seconds
                text = f"the body did not come in time (max_seconds = {limit:g})"
                request.fail(RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, text))
                return
            except (RequestError, ValueError) as error:
                request.fail(_refusal(error))
                return
            work = partial(work, b"".join(parts), self._parsing)
        self._pools[-1].submit(request.run, work, unquote(match["model"]))


async def _body(exchange: Exchange, limit: int) -> AsyncIterator[bytes]:
    """The decompressed parts of the body, together never more than the limit; raises RequestError or ValueError."""
    length, encodings = exchange.header("content-length"), _encodings(exchange)
    if encodings not in ([], ["gzip"], ["x-gzip"]):  # two names of one thing: RFC 9110, 8.4.1.3
        raise ValueError(f"expected Content-Encoding gzip or none, got {', '.join(encodings):.40}")
    if length and int(length) > limit:
        raise _too_large(limit)
    parts = _unzipped(exchange.body(), limit) if encodings else exchange.body()
    size = 0
    async for part in parts:
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        yield part


def _encodings(exchange: Exchange) -> list[str]:
    """What has been done to the body, in the order in which it was done, whether in one header or in several."""
    names = ",".join(value for key, value in exchange.headers if key == "content-encoding").lower().split(",")
    return [name.strip() for name in names if name.strip() not in ("", "identity")]


async def _unzipped(packed: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The content of a gzip file of one member or several, each with its checksum; nothing may follow."""
    members, unpacked, size = 1, zlib.decompressobj(31), 0
    try:
        async for part in packed:
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            while part:
                if unpacked.eof:
                    members, unpacked = members + 1, zlib.decompressobj(31)
                    if members > _MAX_MEMBERS:
                        raise ValueError(f"the gzip body has more than {_MAX_MEMBERS} members")
                yield unpacked.decompress(part, _PIECE)
                part = unpacked.unused_data if unpacked.eof else unpacked.unconsumed_tail
                await asyncio.sleep(0)
    except zlib.error:
        raise ValueError("the body is not gzip, or something else follows it") from None
    if not unpacked.eof:
        raise ValueError("the gzip body is cut off")


Fill = Callable[[Any], None]  # writes into a ModelSpec which model the path names


def _predict(request: Request, fill: Fill, body: bytes, parsing: threading.Lock) -> bytes:
    """From JSON to Predict, and its answer back to JSON."""
    message = protos.PredictRequest()
    fill(message.model_spec)
    servicer = request.servicer
    served = servicer.table.get(message.model_spec.name)
    check_key(servicer.keys_of(message.model_spec.name), request.metadata)  # before its signature is used
    rows = True
    if served is not None:  # else predict says so
        request.record.model = served.name
        with parsing:
            parsed = _read(request, served.model.signature, body)
        message.model_spec.signature_name = parsed.signature_name
        rows = parsed.rows
        for name, array in parsed.inputs.items():
            tensors.fill_proto(message.inputs[name], array)
    _, outputs = methods.predict(request, message)
    start = time.perf_counter()
    text = rest_json.outputs_text(dict(sorted(outputs.items())), rows)
    request.record.timings["build"] = time.perf_counter() - start
    return text


def _read(request: Request, signature: Signature, body: bytes) -> rest_json.JsonRequest:
    limits = request.servicer.limits
    text = Reader(body, limits.max_json_depth, limits.max_elements, limits.max_strings, request.check)
    return rest_json.RequestReader(text, signature, limits.check_batch).read()


def _status(request: Request, fill: Fill) -> bytes:
    """GetModelStatus as JSON."""
    message = protos.GetModelStatusRequest()
    fill(message.model_spec)
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
        for status in methods.status(request, message).model_version_status
    ]
    return json.dumps({"model_version_status": plain}, indent=1).encode()


def _metadata(request: Request, fill: Fill) -> bytes:
    """GetModelMetadata as JSON."""
    message = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
    fill(message.model_spec)
    response = methods.metadata(request, message)
    found = protos.SignatureDefMap.FromString(response.metadata["signature_def"].value)
    definitions = {name: _signature(value) for name, value in found.signature_def.items()}
    spec = {"name": response.model_spec.name, "version": str(response.model_spec.version.value)}
    plain = {"model_spec": spec, "metadata": {"signature_def": {"signature_def": definitions}}}
    return json.dumps(plain, indent=1).encode()


_WORK: dict[str, Callable[..., bytes]] = {":predict": _predict, "/metadata": _metadata, "": _status}


def _fill(match: re.Match[str], spec: Any) -> None:
    spec.name = unquote(match["model"])
    if match["version"] is not None:
        spec.version.value = int(match["version"])
    elif match["label"] is not None:
        spec.version_label = unquote(match["label"])


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


def _response(answer: Answer, request: Request) -> Response:
    headers: tuple[tuple[str, str], ...] = ((REQUEST_ID_HEADER, request.record.request_id),)
    if answer.data is not None:
        return Response(200, answer.data, headers=headers)
    status = 413 if "max_rest_bytes" in answer.text else _HTTP.get(answer.code.name, 500)
    if status == 401:
        headers += (("WWW-Authenticate", "Bearer"),)  # RFC 9110, 15.5.2
    return _error(status, answer.text, headers)


def _error(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, json.dumps({"error": text}).encode(), headers=headers)


def _too_large(limit: int) -> RequestError:
    return RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the body is too large (max_rest_bytes = {limit})")


def _refusal(error: Exception) -> RequestError:
    return error if isinstance(error, RequestError) else RequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error))
