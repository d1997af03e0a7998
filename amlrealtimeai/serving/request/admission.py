"""Who may enter, who waits, and who works: the bounds on requests in flight, shared by all ports of a server.

A request in flight either has a worker or waits in one queue, first come first served. A worker that becomes free goes
to the next in the queue within the same lock, so nobody can overtake.
"""

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import grpc

from amlrealtimeai.serving.request.answers import RequestError
from amlrealtimeai.serving.request.limits import Limits

if TYPE_CHECKING:
    from amlrealtimeai.serving.request.request import Request


class Admission:
    """Counts of one server; safe to use from several threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._free = limits.worker_count
        self._queue: deque[Request] = deque()
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

    def enter(self, request: "Request") -> None:
        """Take a place among the requests in flight, or raise RESOURCE_EXHAUSTED at once."""
        with self._lock:
            if self._in_flight >= self._limits.max_in_flight:
                self._refuse("too many requests at once", "max_in_flight", self._limits.max_in_flight)
            if self._bytes >= self._limits.max_bytes_in_flight:
                self._refuse_bytes()
            self._in_flight += 1
            request.placed = True

    def hold(self, request: "Request", size: int) -> None:
        """Count more of the request's bytes, or raise RESOURCE_EXHAUSTED."""
        with self._lock:
            if self._bytes + size > self._limits.max_bytes_in_flight:
                self._refuse_bytes()
            self._bytes += size
            request.held += size

    def leave(self, request: "Request") -> None:
        """Give back the place and the bytes, if it has any."""
        with self._lock:
            self._in_flight -= request.placed
            self._bytes -= request.held
            request.placed, request.held = False, 0

    def take(self, request: "Request") -> bool:
        """True: it has a worker now. False: it waits, and `start` will be called."""
        with self._lock:
            if self._free:
                self._free -= 1
                self._moved = time.monotonic()
                return True
            self._queue.append(request)
            return False

    def done(self) -> "Request | None":
        """Give the worker back, or on to the request that is returned, which has to be started."""
        with self._lock:
            self._moved = time.monotonic()
            if self._queue:
                return self._queue.popleft()
            self._free += 1
            return None

    def withdraw(self, request: "Request") -> bool:
        """Leave the queue; False if it is not there."""
        with self._lock:
            try:
                self._queue.remove(request)
            except ValueError:
                return False
            return True

    def expired(self) -> "list[Request]":
        """Take those out of the queue whose patience has ended."""
        now = time.monotonic()
        with self._lock:
            late = [request for request in self._queue if request.expires <= now]
            for request in late:
                self._queue.remove(request)
            return late

    def _refuse(self, what: str, setting: str, value: int) -> None:
        raise RequestError(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"{what} ({setting} = {value}); try again a little later"
        )

    def _refuse_bytes(self) -> None:
        limit = self._limits.max_bytes_in_flight
        self._refuse("the requests in flight are too large together", "max_bytes_in_flight", limit)
