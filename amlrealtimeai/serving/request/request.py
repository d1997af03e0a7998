"""One request, whichever port it came by, in four steps: admit, receive, run, reply."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import grpc

from amlrealtimeai.serving.request.answers import Answer, Record, RequestError, answer_of
from amlrealtimeai.serving.request.auth import check_key

if TYPE_CHECKING:
    from amlrealtimeai.serving.request.admission import Lane
    from amlrealtimeai.serving.request.servicer import Servicer


class Request:
    """It owns its deadline, its record, its place among the requests in flight and its bytes; leaving `with` (or
    close) gives them back.

    method: as in the protocol. metadata: names in lower case. deadline: the client's, on time.monotonic(), None or
    infinite for none. send: gets the Answer, once, in whichever thread it became known. A request that fails in one
    step is replied to by that step, which then returns False.
    """

    __slots__ = (
        "_counted",
        "_deadline",
        "_ends",
        "_send",
        "_work",
        "cancelled",
        "expires",
        "held",
        "lane",
        "metadata",
        "placed",
        "record",
        "service",
        "servicer",
    )

    def __init__(
        self,
        servicer: "Servicer",
        method: str,
        metadata: Sequence[tuple[str, str | bytes]],
        deadline: float | None,
        send: Callable[[Answer], None],
    ) -> None:
        self.servicer = servicer
        self.metadata = metadata
        self.record = Record(method)
        self.cancelled = False  # the client no longer waits
        self.placed = False  # has a place among the requests in flight; admission's, as `held`
        self.held = 0  # bytes
        self.expires = math.inf  # when it stops to wait for a worker
        self.service = ""  # whose workers it needs, where services have their own
        self.lane: Lane | None = None  # admission's
        self._deadline = deadline
        self._ends = time.monotonic() + servicer.limits.max_seconds
        self._send: Callable[[Answer], None] | None = send
        self._work: Callable[[], bytes] | None = None
        self._counted = servicer.begin()

    def admit(self) -> bool:
        """Look at the key, then take a place; nothing of the message is looked at before."""
        try:
            if self.servicer.draining:
                raise RequestError(
                    grpc.StatusCode.UNAVAILABLE, "this server is shutting down; try again, another one answers"
                )
            check_key(self.servicer.gate_keys(), self.metadata)
            self.servicer.admission.enter(self)
        except RequestError as error:
            self.fail(error)
            return False
        return True

    def receive(self, size: int) -> bool:
        """Count (more of) its message."""
        self.record.size += size
        try:
            self.servicer.admission.hold(self, size)
        except RequestError as error:
            self.fail(error)
            return False
        return True

    def run(self, work: Callable[[], bytes], service: str = "") -> None:
        """Answer with work(): in this thread if there is a free worker, else in that of the next one to be free.

        service: the name of the model that is asked for, as far as it is known already.
        """
        self.service = service
        self.record.started = time.perf_counter()  # the time on the wire is not ours
        self._work = work
        if self.record.method != "Predict":  # quick: needs no worker
            self.start()
            return
        self.expires = min(time.monotonic() + self.servicer.limits.max_wait_seconds, self._deadline or math.inf)
        if self.servicer.admission.take(self):
            self.servicer.work_off(self)
        elif self.cancelled:
            self.cancel()

    def reply(self, answer: Answer) -> None:
        """Give back what it holds, send the answer, then tell the log: nobody should have to wait for that."""
        send, self._send = self._send, None
        self._work = None  # it may hold the message; and a circle would keep the call until the garbage collector comes
        if not self.record.timings.get("total"):
            self.record.finish(answer.code.name, answer.text)
        self.servicer.admission.leave(self)
        if send is not None:
            send(answer)
            self.servicer.note(self.record)

    def start(self) -> None:
        """Do the work; it has a worker now, if it needs one."""
        assert self._work is not None
        self.record.timings["queue"] = time.perf_counter() - self.record.started
        try:
            self.check()
            answer = Answer(data=self._work())
        except Exception as error:
            answer = answer_of(error, self.record.request_id)
        self.reply(answer)

    def fail(self, error: Exception) -> None:
        """Reply with what is wrong."""
        self.reply(answer_of(error, self.record.request_id))

    def cancel(self) -> None:
        """The client no longer waits: leave the queue, or end before the next stage."""
        self.cancelled = True
        if self.servicer.admission.withdraw(self):
            self.fail(RequestError(grpc.StatusCode.CANCELLED, "the client did not wait for the answer"))

    def too_late(self) -> None:
        """It waited in vain; it is in no queue any more."""
        whose = "the request's deadline passed" if self._deadline == self.expires else "waited too long"
        limit = self.servicer.limits.max_wait_seconds
        self.fail(
            RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"{whose} before a worker was free (max_wait_seconds = {limit:g})",
            )
        )

    @property
    def seconds_left(self) -> float:
        """Until nobody waits any more; the time for the message counts."""
        return min(self._ends, self._deadline or math.inf) - time.monotonic()

    def check(self) -> None:
        """Raise RequestError when nobody waits for the answer: it is not computed then."""
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "the request's deadline passed before it was computed"
            )
        if now >= self._ends:
            limit = self.servicer.limits.max_seconds
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"the request took too long (max_seconds = {limit:g})"
            )
        if self.cancelled:
            raise RequestError(grpc.StatusCode.CANCELLED, "the client did not wait for the answer")

    def close(self) -> None:
        """The answer has been sent, or nobody waits for it."""
        self.servicer.admission.leave(self)
        if self._counted:
            self._counted = False
            self.servicer.end()

    def __enter__(self) -> "Request":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
