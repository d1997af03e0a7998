"""From what happened to what the client is told: status code, sentence, and never a trace, a path or a key."""

import itertools
import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from amlrealtimeai.errors import InvalidInputError

log = logging.getLogger("amlrealtimeai.serving")

TIMINGS_HEADER = "x-amlrealtimeai-timings"
REQUEST_ID_HEADER = "x-amlrealtimeai-request-id"

_ids = itertools.count(secrets.randbits(32))
_LONGEST = 1000  # characters; status texts travel in HTTP/2 headers, which clients cap at 8 KiB


class RequestError(Exception):
    """A request that gets this code and this text as its answer."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Call:
    """One request on its way, whichever port it came through.

    deadline: the client's, on time.monotonic(), None or infinite for none. cancelled: the client no longer waits.
    limit: seconds that the server allows.
    """

    __slots__ = ("_ends", "_limit", "cancelled", "deadline", "metadata")

    def __init__(
        self, metadata: Sequence[tuple[str, str | bytes]] = (), deadline: float | None = None, limit: float = math.inf
    ) -> None:
        self.metadata = metadata
        self.deadline = deadline
        self.cancelled = False
        self._limit = limit
        self._ends = time.monotonic() + limit

    def check(self) -> None:
        """Raise RequestError when nobody waits for the answer: it is not computed then."""
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "the request's deadline passed before it was computed"
            )
        if now >= self._ends:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"the request took too long (max_seconds = {self._limit:g})"
            )
        if self.cancelled:
            raise RequestError(grpc.StatusCode.CANCELLED, "the client did not wait for the answer")


@dataclass
class Record:
    """What is known about one request when it has been answered; observers and the log get it."""

    method: str
    request_id: str = field(default_factory=lambda: f"{next(_ids) & 0xFFFFFFFF:08x}")
    model: str = ""
    code: str = "OK"
    text: str = ""
    timings: dict[str, float] = field(default_factory=dict)  # seconds: queue, parse, decode, npu, classifier, total
    started: float = field(default_factory=time.perf_counter)
    size: int = 0  # bytes of the request

    def finish(self, code: str, text: str) -> None:
        """Note the outcome and the total time."""
        self.code, self.text = code, text
        self.timings["total"] = time.perf_counter() - self.started

    def timings_text(self) -> str:
        """As in the trailing metadata: name=microseconds, comma-separated."""
        return ",".join(f"{name}={seconds * 1e6:.0f}" for name, seconds in self.timings.items())

    def __str__(self) -> str:
        text = f" text={self.text!r}" if self.text else ""
        return (
            f"request={self.request_id} method={self.method} model={self.model!r} code={self.code} "
            f"us={self.timings_text()}{text}"
        )


@dataclass
class Answer:
    """What goes back: the serialised response, or a code and a sentence."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    text: str = ""
    data: bytes | None = None


def answer_of(error: BaseException, request_id: str) -> RequestError:
    """The answer for any exception. Unexpected ones are logged with their trace; the client gets the request's id."""
    if isinstance(error, RequestError):
        return RequestError(error.code, error.text[:_LONGEST])
    if isinstance(error, InvalidInputError):
        return RequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:_LONGEST])
    log.error("request=%s failed unexpectedly", request_id, exc_info=error)
    return RequestError(
        grpc.StatusCode.INTERNAL, f"internal error {request_id}; the server's log says more under this id"
    )
