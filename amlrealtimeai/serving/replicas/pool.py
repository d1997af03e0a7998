"""The replicas of one service: started, asked in turn, replaced when they die, ended with the last who knows them."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np

from amlrealtimeai.artifact.converted import Prediction, read_definition
from amlrealtimeai.artifact.definition import Signature
from amlrealtimeai.artifact.watch import Check, unchecked
from amlrealtimeai.errors import AmlRealtimeAiError
from amlrealtimeai.serving.replicas import frames
from amlrealtimeai.serving.replicas.replica import Replica, ReplicaLostError
from amlrealtimeai.serving.request.answers import RequestError

log = logging.getLogger("amlrealtimeai.serving")

_WAIT_SECONDS = 0.05
_TRIES = 2  # of one request: it may be what ends them
_PAUSES = (0.0, 1.0, 5.0, 30.0)  # after so many starts in a row that failed


class Pool:
    """Predicts like the ConvertedModel of the file, by `count` processes; returns when all are warm.

    One that dies is replaced when somebody needs it, or `look` is called. Its processes end when nothing refers to it
    any more, so that a request that has found it is answered. Raises InvalidInputError for a model that cannot be
    loaded.
    """

    def __init__(self, model: Path, count: int, threads: int | None, max_pixels: int) -> None:
        definition = read_definition(model)
        self.name: str = definition.name
        self.signature: Signature = definition.signature
        self.wanted = 0
        self._arguments = (model, threads, max_pixels)
        self._changed = threading.Condition()
        self._all: list[Replica] = []
        self._idle: list[Replica] = []
        self._starting = 0
        self._failures = 0
        self._not_before = 0.0
        self._end = weakref.finalize(self, _end, self._all, os.getpid())
        try:
            self.grow(count)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End all replicas now, also those that are being started: the server has no request any more."""
        self.wanted = 0
        self._end()

    @property
    def ready(self) -> int:
        """Replicas that answer."""
        return len(self._all)

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that answer."""
        return [replica.pid for replica in list(self._all)]

    def grow(self, count: int) -> None:
        """Want so many, and wait until those that are missing are warm; raises what the first that fails raises."""
        with self._changed:
            before, self.wanted = self.wanted, count
            missing = self._reserve()
        if not missing:
            return
        with ThreadPoolExecutor(missing) as threads:
            futures = [threads.submit(self._start) for _ in range(missing)]
        problem = next(filter(None, (future.exception() for future in futures)), None)
        try:
            if problem is not None:
                self.wanted = before
                raise problem
        finally:
            del futures, problem  # they refer to this frame, and so to the pool, which ends when nothing does

    def look(self) -> None:
        """Replace those that have died, start those that are missing, end those that are too many."""
        with self._changed:
            dead = [replica for replica in self._idle if replica.has_ended]
            self._drop(dead)
            surplus = self._idle[: max(0, len(self._all) - self.wanted)]
            self._drop(surplus)
            missing = self._reserve() if time.monotonic() >= self._not_before else 0
        for replica in dead:
            log.error("replica %d of %r has ended", replica.pid, self.name)
        for replica in (*dead, *surplus):
            replica.end()
        for _ in range(missing):
            threading.Thread(target=self._start_quietly, name="amlrealtimeai-replica", daemon=True).start()

    def predict(
        self, inputs: Mapping[str, np.ndarray], outputs: list[str] | None = None, check: Check = unchecked
    ) -> Prediction:
        """The same as ConvertedModel.predict; a request whose replica dies goes to another one."""
        arrays = frames.packed(inputs)
        for _ in range(_TRIES):
            replica = self._take(check)
            try:
                return replica.predict(arrays, outputs, check)
            except ReplicaLostError:
                continue
            finally:
                self._give_back(replica)
        raise RequestError(grpc.StatusCode.UNAVAILABLE, f"{_TRIES} replicas ended while they computed this request")

    def _take(self, check: Check) -> Replica:
        while True:
            with self._changed:
                if self._idle:
                    replica = self._idle.pop()
                    if not replica.has_ended:
                        return replica
                    self._idle.append(replica)  # for `look`
                elif not self._all and self._failures:
                    text = "this service has no replica at the moment; try again"
                    raise RequestError(grpc.StatusCode.UNAVAILABLE, text)
                else:
                    self._changed.wait(_WAIT_SECONDS)
            self.look()
            check()

    def _give_back(self, replica: Replica) -> None:
        with self._changed:
            self._idle.append(replica)
            self._changed.notify()
        if replica.has_ended:
            self.look()

    def _drop(self, replicas: list[Replica]) -> None:
        """With the lock: forget these, which nobody has taken."""
        self._idle = [replica for replica in self._idle if replica not in replicas]
        for replica in replicas:
            self._all.remove(replica)

    def _reserve(self) -> int:
        """With the lock: how many to start now."""
        missing = max(0, self.wanted - len(self._all) - self._starting)
        self._starting += missing
        return missing

    def _start(self) -> None:
        """One more; it is counted in _starting already."""
        try:
            replica = Replica(*self._arguments)
        except BaseException:
            with self._changed:
                self._starting -= 1
                self._failures += 1
                self._not_before = time.monotonic() + _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            raise
        with self._changed:
            self._starting -= 1
            self._failures = 0
            if self._end.alive:
                self._all.append(replica)
                self._idle.append(replica)
                self._changed.notify()
                return
        replica.end()

    def _start_quietly(self) -> None:
        try:
            self._start()
        except (AmlRealtimeAiError, OSError) as error:
            log.error("a replica of %r does not start: %s", self.name, str(error))  # its frames have the pool


def _end(replicas: list[Replica], owner: int) -> None:
    """Of a process that has forked, the child leaves them alone."""
    if os.getpid() == owner:
        for replica in replicas:
            replica.end()
