"""Who may enter, who waits, and who works: the bounds on requests in flight, shared by all ports of a server.

A request in flight either has a worker or waits in one queue, first come first served. A worker that becomes free goes
to the next in the queue within the same lock, so nobody can overtake.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import grpc

from amlrealtimeai.serving.request.answers import Call, RequestError
from amlrealtimeai.serving.request.limits import Limits


class Ticket:
    """A place in the queue: `start` is called when it has a worker, `fail` when it waited too long.

    inline: start() does the whole work, else it wakes a thread that does.
    """

    __slots__ = ("call", "expires", "fail", "inline", "start")

    def __init__(
        self,
        call: Call,
        start: Callable[[], None],
        fail: Callable[[RequestError], None],
        inline: bool,
        patience: float,
    ) -> None:
        self.call = call
        self.start = start
        self.fail = fail
        self.inline = inline
        self.expires = time.monotonic() + patience
        if call.deadline is not None:
            self.expires = min(self.expires, call.deadline)


class Admission:
    """Counts of one server; safe to use from several threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._free = limits.worker_count
        self._queue: deque[Ticket] = deque()
        self._in_flight = 0
        self._bytes = 0
        self._moved = time.monotonic()  # when a worker was last taken or given back

    @property
    def in_flight(self) -> int:
        """Requests that run or wait."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._queue)

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the requests that run or wait."""
        return self._bytes

    @property
    def stuck_seconds(self) -> float:
        """For how long all workers have been busy with the same requests; without the lock, which may be what hangs."""
        return 0.0 if self._free else time.monotonic() - self._moved

    def enter(self) -> None:
        """Take a place among the requests in flight, or raise RESOURCE_EXHAUSTED at once."""
        with self._lock:
            if self._in_flight >= self._limits.max_in_flight:
                self._refuse("too many requests at once", "max_in_flight", self._limits.max_in_flight)
            if self._bytes >= self._limits.max_bytes_in_flight:
                self._refuse_bytes()
            self._in_flight += 1

    def hold(self, size: int) -> None:
        """Count the request's bytes, or raise RESOURCE_EXHAUSTED; `leave` with the same size gives them back."""
        with self._lock:
            if self._bytes + size > self._limits.max_bytes_in_flight:
                self._refuse_bytes()
            self._bytes += size

    def drop(self, size: int) -> None:
        """Give back the bytes alone."""
        with self._lock:
            self._bytes -= size

    def leave(self, size: int) -> None:
        """Give back the place and the bytes."""
        with self._lock:
            self._in_flight -= 1
            self._bytes -= size

    def take(self, ticket: Ticket) -> bool:
        """True: it has a worker now. False: it waits, and `start` will be called."""
        with self._lock:
            if self._free:
                self._free -= 1
                self._moved = time.monotonic()
                return True
            self._queue.append(ticket)
            return False

    def done(self) -> Ticket | None:
        """Give the worker back, or on to the ticket that is returned, which has to be started."""
        with self._lock:
            self._moved = time.monotonic()
            if self._queue:
                return self._queue.popleft()
            self._free += 1
            return None

    def withdraw(self, ticket: Ticket) -> bool:
        """Leave the queue; False if it has a worker already."""
        with self._lock:
            try:
                self._queue.remove(ticket)
            except ValueError:
                return False
            return True

    def expired(self) -> list[Ticket]:
        """Take those out of the queue whose patience has ended."""
        now = time.monotonic()
        with self._lock:
            late = [ticket for ticket in self._queue if ticket.expires <= now]
            for ticket in late:
                self._queue.remove(ticket)
            return late

    def too_late(self, ticket: Ticket) -> RequestError:
        """The answer for a ticket that waited in vain."""
        deadline = ticket.call.deadline
        whose = "the request's deadline passed" if deadline == ticket.expires else "waited too long"
        return RequestError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"{whose} before a worker was free (max_wait_seconds = {self._limits.max_wait_seconds:g})",
        )

    def _refuse(self, what: str, setting: str, value: int) -> None:
        raise RequestError(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"{what} ({setting} = {value}); try again a little later"
        )

    def _refuse_bytes(self) -> None:
        limit = self._limits.max_bytes_in_flight
        self._refuse("the requests in flight are too large together", "max_bytes_in_flight", limit)
