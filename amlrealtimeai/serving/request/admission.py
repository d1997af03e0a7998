"""Who may enter, who waits, and who works: the bounds on requests in flight, shared by all ports of a server.

A request in flight either has a worker or waits in its lane's queue, first come first served. A worker that becomes
free goes to the next in the queue within the same lock, so nobody can overtake. A service whose replicas are counted
has a lane of its own; all others share one.
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


class Lane:
    """Workers, and who waits for one of them. pooled: each has a process, which is ended when it hangs."""

    def __init__(self, workers: int, pooled: bool = False) -> None:
        self.workers = workers
        self.pooled = pooled
        self.free = workers  # below zero while more run than there are workers now
        self.queue: deque[Request] = deque()
        self.moved = time.monotonic()  # when a worker was last taken or given back

    @property
    def in_flight(self) -> int:
        """Requests that have a worker or wait for one."""
        return self.workers - self.free + len(self.queue)

    @property
    def stuck_seconds(self) -> float:
        """For how long all workers have been busy with the same requests."""
        return 0.0 if self.free > 0 or self.pooled else time.monotonic() - self.moved


class Admission:
    """Counts of one server; safe to use from several threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._shared = Lane(limits.worker_count)
        self._lanes: dict[str, Lane] = {}  # replaced, never changed: it is read without the lock
        self._in_flight = 0
        self._bytes = 0

    @property
    def in_flight(self) -> int:
        """Requests that run or wait."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return sum(len(lane.queue) for lane in (self._shared, *self._lanes.values()))

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the requests that run or wait."""
        return self._bytes

    @property
    def stuck_seconds(self) -> float:
        """For how long all workers have been busy with the same requests; without the lock, which may be what hangs."""
        return max(lane.stuck_seconds for lane in (self._shared, *self._lanes.values()))

    @property
    def has_lanes(self) -> bool:
        """Whether some service has workers of its own."""
        return bool(self._lanes)

    def in_flight_of(self, service: str) -> int:
        """Requests for a service with a lane of its own that have a worker or wait for one."""
        lane = self._lanes.get(service)
        return lane.in_flight if lane else 0

    @property
    def worker_count(self) -> int:
        """Requests that may run at once."""
        return sum(lane.workers for lane in (self._shared, *self._lanes.values()))

    def set_workers(self, service: str, workers: int | None, pooled: bool = False) -> "list[Request]":
        """Give a service so many workers of its own, None: none; returns requests that are to be started now.

        What runs and waits when a lane is taken away is finished by the lane's own workers.
        """
        with self._lock:
            lane = self._lanes.get(service)
            if workers is None:
                self._lanes = {name: kept for name, kept in self._lanes.items() if name != service}
                return []
            if lane is None:
                self._lanes = {**self._lanes, service: Lane(workers, pooled)}
                return []
            lane.pooled = pooled
            lane.free += workers - lane.workers
            lane.workers = workers
            started = [lane.queue.popleft() for _ in range(min(max(0, lane.free), len(lane.queue)))]
            lane.free -= len(started)
            return started

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
            request.lane = lane = self._lanes.get(request.service, self._shared)
            if lane.free > 0:
                lane.free -= 1
                lane.moved = time.monotonic()
                return True
            lane.queue.append(request)
            return False

    def done(self, lane: Lane) -> "Request | None":
        """Give the lane's worker back, or on to the request that is returned, which has to be started."""
        with self._lock:
            lane.moved = time.monotonic()
            if lane.queue and lane.free >= 0:
                return lane.queue.popleft()
            lane.free += 1
            return None

    def withdraw(self, request: "Request") -> bool:
        """Leave the queue; False if it is not there."""
        with self._lock:
            try:
                if request.lane is not None:
                    request.lane.queue.remove(request)
            except ValueError:
                return False
            return request.lane is not None

    def expired(self) -> "list[Request]":
        """Take those out of the queue whose patience has ended."""
        now = time.monotonic()
        with self._lock:
            late = []
            for lane in (self._shared, *self._lanes.values()):
                here = [request for request in lane.queue if request.expires <= now]
                for request in here:
                    lane.queue.remove(request)
                late += here
            return late

    def _refuse(self, what: str, setting: str, value: int) -> None:
        raise RequestError(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"{what} ({setting} = {value}); try again a little later"
        )

    def _refuse_bytes(self) -> None:
        limit = self._limits.max_bytes_in_flight
        self._refuse("the requests in flight are too large together", "max_bytes_in_flight", limit)
