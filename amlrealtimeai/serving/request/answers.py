"""From what happened to what the client is told: status code, sentence, and never a trace, a path or a key."""

import itertools
import logging
import secrets
import time
from dataclasses import dataclass, field

import grpc

from amlrealtimeai.errors import InvalidInputError

log = logging.getLogger("amlrealtimeai.serving")

_ids = itertools.count(secrets.randbits(32))
_LONGEST = 1000  # characters; status texts travel in HTTP/2 headers, which clients cap at 8 KiB


class RequestError(Exception):
    """A request that gets this code and this text as its answer."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


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


def answer_of(error: BaseException, request_id: str) -> Answer:
    """The answer for any exception. Unexpected ones are logged with their trace; the client gets the request's id."""
    if isinstance(error, RequestError):
        return Answer(error.code, error.text[:_LONGEST])
    if isinstance(error, InvalidInputError):
        return Answer(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:_LONGEST])
    log.error("request=%s failed unexpectedly", request_id, exc_info=error)
    return Answer(grpc.StatusCode.INTERNAL, f"internal error {request_id}; the server's log says more under this id")
