"""One replica as its server sees it: a process that is started, asked, and ended."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from amlrealtimeai.artifact.converted import Prediction
from amlrealtimeai.artifact.watch import Check, unchecked
from amlrealtimeai.errors import DeploymentError, InvalidInputError
from amlrealtimeai.serving.process.environment import with_this_package
from amlrealtimeai.serving.replicas import frames

_START_SECONDS = 120.0
_LOOK_SECONDS = 0.05  # at most so late an answer that nobody waits for is given up
_CANCEL_SECONDS = 5.0  # beyond which a replica that should stop counts as hung


class ReplicaLostError(Exception):
    """The process has ended, and with it what it was computing."""


class UnwantedError(Exception):
    """Nobody waits for the start of a replica any more."""


class Replica:
    """Starts the process; raises InvalidInputError for a model that it cannot load, DeploymentError if it ends.

    check: called often until it is ready; what it raises ends the process, and is raised.
    For one thread at a time, but for `pid`, `has_ended` and `kill`.
    """

    def __init__(self, model: Path, threads: int | None, max_pixels: int, check: Check = unchecked) -> None:
        command = [sys.executable, "-P", "-m", "amlrealtimeai.serving.replicas.worker"]
        self._peer, theirs = socket.socketpair()
        self._peer.settimeout(_LOOK_SECONDS)
        self._killed = False
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, str(model), str(threads or 0), str(max_pixels), str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=with_this_package(),
                    start_new_session=True,  # an interrupted notebook cell must not interrupt it
                )
        except BaseException:
            self._peer.close()
            raise
        try:
            self._wait_until_ready(check)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is of no more use."""
        return self._killed or self._process.poll() is not None

    def predict(self, arrays: bytes, outputs: list[str] | None, check: Check) -> Prediction:
        """What ConvertedModel.predict gives for the packed inputs; raises ReplicaLostError when the process ends.

        What `check` raises is raised soon after it begins to, whatever the process does meanwhile.
        """
        try:
            answer = self._answer({"outputs": outputs}, arrays, check)
            if answer is None:
                raise OSError("it has ended")
            head, results = answer[0], frames.unpacked(answer[1])
            timings = {kind: float(seconds) for kind, seconds in dict(head.get("timings", {})).items()}
        except (OSError, ValueError, TypeError) as error:  # it has ended, or says what no replica says
            self.kill()
            raise ReplicaLostError from error
        if "invalid" in head:
            raise InvalidInputError(str(head["invalid"]))
        if "failed" in head:
            raise RuntimeError(f"a replica failed:\n{head['failed']}")
        return Prediction(results, timings)

    def prove(self, check: Check) -> None:
        """Raise ReplicaLostError unless the process reads and answers now; for `check` see predict."""
        try:
            if self._answer({"alive": True}, b"", check) is not None:
                return
        except (OSError, ValueError):
            pass
        self.kill()
        raise ReplicaLostError

    def kill(self) -> None:
        """End the process; who waits for its answer sees that. It has nothing of its own to lose."""
        self._killed = True
        self._process.kill()

    def end(self) -> None:
        """Kill it, and let go of it; nobody may be waiting for its answer."""
        self.kill()
        self._process.wait()
        self._peer.close()

    def _answer(self, head: frames.Head, arrays: bytes, check: Check) -> tuple[frames.Head, bytes] | None:
        try:
            frames.send(self._peer, head, arrays, check)
        except BaseException:
            self.kill()  # it has half a frame
            raise
        while not frames.is_waiting(self._peer, _LOOK_SECONDS):
            try:
                check()
            except BaseException:
                self._give_up()
                raise
        try:
            return frames.receive(self._peer, check)
        except BaseException:
            self.kill()
            raise

    def _give_up(self) -> None:
        """Let it stop, and be ready for the next request; one that does not stop is ended."""
        ends = time.monotonic() + _CANCEL_SECONDS

        def check() -> None:
            if time.monotonic() > ends:
                raise OSError("it does not stop")

        try:
            frames.send(self._peer, {"unwanted": True}, check=check)
            stopped = frames.receive(self._peer, check)
        except (OSError, ValueError):
            stopped = None
        if stopped is None:
            self.kill()

    def _wait_until_ready(self, wanted: Check) -> None:
        ends = time.monotonic() + _START_SECONDS

        def check() -> None:
            wanted()
            if time.monotonic() > ends:
                raise DeploymentError(f"a replica was not ready after {_START_SECONDS:.0f} s")

        try:
            answer = frames.receive(self._peer, check)
        except (OSError, ValueError):
            answer = None
        if answer is None:
            self.kill()
            raise DeploymentError(f"a replica ended at its start, with status {self._process.wait()}; see the log")
        if "refused" in answer[0]:
            raise InvalidInputError(answer[0]["refused"])
