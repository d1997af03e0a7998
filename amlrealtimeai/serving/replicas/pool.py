"""The replicas of one service: started, asked in turn, replaced when they die, ended with the last who knows them."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import grpc
import numpy as np

from amlrealtimeai.artifact.converted import Prediction, read_definition
from amlrealtimeai.artifact.definition import Signature
from amlrealtimeai.artifact.watch import Check, unchecked
from amlrealtimeai.serving.replicas import frames
from amlrealtimeai.serving.replicas.replica import Replica, ReplicaLostError, UnwantedError
from amlrealtimeai.serving.request.answers import RequestError

log = logging.getLogger("amlrealtimeai.serving")

_WAIT_SECONDS = 0.05
_TRIES = 2  # of one request: it may be what ends them
_PAUSES = (0.0, 1.0, 5.0, 30.0)  # after so many rounds of starts that failed
_LASTING = 2  # so many rounds mean that it does not heal soon


class Pool:
    """Predicts like the ConvertedModel of the file, by `count` processes; returns when all are warm.

    One that dies is replaced when somebody needs it, or `look` is called. Its processes end when nothing refers to it
    any more, so that a request that has found it is answered. Raises InvalidInputError for a model that cannot be
    loaded, and what `check`, which is called until all are warm, raises.
    """

    def __init__(self, model: Path, count: int, threads: int | None, max_pixels: int, check: Check = unchecked) -> None:
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
            self.grow(count, check)
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

    def grow(self, count: int, check: Check = unchecked) -> None:
        """Want so many, and wait until those that are missing are warm; raises what the first that fails raises.

        check: called meanwhile; what it raises ends those that are not warm yet.
        """
        with self._changed:
            before, self.wanted = self.wanted, count
            missing = self._reserve()
        problems: list[Exception] = []
        threads = [self._start(check, problems.append) for _ in range(missing)]
        for thread in threads:
            thread.join()
        problem = next(iter(problems), None)
        problems.clear()
        try:
            if problem is not None:
                self.wanted = before
                raise problem
        finally:
            del problem  # its frames refer to this one, and so to the pool, which ends when nothing does

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
            self._start(unchecked, partial(_log_failure, self.name))

    def predict(
        self, inputs: Mapping[str, np.ndarray], outputs: list[str] | None = None, check: Check = unchecked
    ) -> Prediction:
        """The same as ConvertedModel.predict; a request whose replica dies goes to another one, once there is one."""
        arrays = frames.packed(inputs)
        for tries in range(_TRIES):
            replica = self._take_proven(check) if tries else self._take(check)
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
                elif not self._all and self._failures >= _LASTING:
                    text = "this service has no replica at the moment; try again"
                    raise RequestError(grpc.StatusCode.UNAVAILABLE, text)
                else:
                    self._changed.wait(_WAIT_SECONDS)
            self.look()
            check()

    def _take_proven(self, check: Check) -> Replica:
        """One that answers now; those that were killed together with the last one have computed nothing."""
        while True:
            replica = self._take(check)
            try:
                replica.prove(check)
            except BaseException as error:
                self._give_back(replica)
                if not isinstance(error, ReplicaLostError):
                    raise
            else:
                return replica

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

    def _start(self, check: Check, tell: Callable[[Exception], object]) -> threading.Thread:
        """Start one more, which is counted in _starting already; `tell` gets what goes wrong with it.

        The thread does not keep the pool: of one that nobody has any more, what starts is ended.
        """
        arguments = (weakref.ref(self), self._arguments, check, tell)
        thread = threading.Thread(target=_start, args=arguments, name="amlrealtimeai-replica", daemon=True)
        thread.start()
        return thread

    def _note_start(self, replica: Replica | None, failed: bool) -> bool:
        """One start has ended; False if its replica is not wanted any more."""
        with self._changed:
            self._starting -= 1
            if failed and (now := time.monotonic()) >= self._not_before:
                self._failures += 1
                self._not_before = now + _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            if replica is None or not self._end.alive:
                return False
            self._failures = 0
            self._all.append(replica)
            self._idle.append(replica)
            self._changed.notify()
            return True


def _start(
    pool: "weakref.ref[Pool]",
    arguments: tuple[Path, int | None, int],
    check: Check,
    tell: Callable[[Exception], object],
) -> None:
    def wanted() -> None:
        if _is_over(pool):
            raise UnwantedError
        check()

    replica, failed = None, False
    try:
        replica = Replica(*arguments, wanted)
    except UnwantedError as error:
        tell(error)
    except Exception as error:
        failed = True
        tell(error)
    if not _note_start(pool, replica, failed) and replica is not None:
        replica.end()


# Functions, because what is local to _start is kept by the trace of its error.
def _is_over(pool: "weakref.ref[Pool]") -> bool:
    found = pool()
    return found is None or not found._end.alive


def _note_start(pool: "weakref.ref[Pool]", replica: Replica | None, failed: bool) -> bool:
    found = pool()
    return found is not None and found._note_start(replica, failed)


def _log_failure(name: str, error: Exception) -> None:
    if not isinstance(error, UnwantedError):
        log.error("a replica of %r does not start: %s", name, str(error))  # its frames have the pool


def _end(replicas: list[Replica], owner: int) -> None:
    """Of a process that has forked, the child leaves them alone."""
    if os.getpid() == owner:
        for replica in replicas:
            replica.end()
