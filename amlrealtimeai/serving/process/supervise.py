"""A parent that starts the server as its child and replaces it on the same port when it dies or hangs (--supervise).

What native code could do to a process (a crash in a decoder, a lock that is never released, the kernel's out-of-memory
killer) then costs the requests in flight, whose clients see UNAVAILABLE and try again, and not the service.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from amlrealtimeai.serving.process.heartbeat import Pulse
from amlrealtimeai.serving.process.signals import handled

log = logging.getLogger("amlrealtimeai.serving")

_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
_TRIES = 5  # so many children in a row that were never ready
_STEADY_SECONDS = 60.0  # who lived for so long starts again without a pause
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0  # beyond the child's own grace, before SIGKILL


def supervise(
    arguments: Sequence[str], port_file: Path | None, grace: float, parent: int | None, max_silence: float
) -> int:
    """Run `python -m amlrealtimeai.serving` with these arguments until SIGTERM; returns the exit status.

    grace: seconds that the child takes for requests in flight. parent: also end when this parent process is gone.
    max_silence: seconds without a sign of life after which a child counts as hung; 0: any number.
    """
    with tempfile.TemporaryDirectory(prefix="amlrealtimeai-") as folder:
        supervisor = _Supervisor(arguments, port_file or Path(folder) / "port", grace, parent, max_silence)
        with handled(supervisor.on_signal):
            return supervisor.run()


class _Supervisor:
    def __init__(
        self, arguments: Sequence[str], port_file: Path, grace: float, parent: int | None, max_silence: float
    ) -> None:
        self._command = [sys.executable, "-m", "amlrealtimeai.serving", *arguments, "--port-file", str(port_file)]
        self._port_file = port_file
        self._patience = grace + _PATIENCE_SECONDS
        self._parent = parent
        self._max_silence = max_silence
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._kill_at: float | None = None

    def run(self) -> int:
        """Until the end of the last child; its status."""
        ports: list[str] = []
        deaths = failures = 0
        while not self._stopping:
            self._port_file.unlink(missing_ok=True)
            started = time.monotonic()
            status = self._run_child(ports)
            was_ready = self._port_file.exists()
            failures = 0 if was_ready else failures + 1
            if self._stopping or status == 0 or not (was_ready or ports) or failures == _TRIES:
                return max(status, 0) if self._stopping or status >= 0 else 1
            ports = self._ports() if was_ready else ports
            deaths = 0 if time.monotonic() - started > _STEADY_SECONDS else deaths + 1
            log.error("the server ended with status %d; starting another on the same port", status)
            self._pause(_PAUSES[min(deaths, len(_PAUSES)) - 1] if deaths else 0.0)
        return 0

    def _ports(self) -> list[str]:
        """What makes the next child listen where the last one did."""
        port, *others = self._port_file.read_text().split()
        named = [other.partition("=") for other in others]
        return ["--port", port, *(word for name, _, value in named for word in (f"--{name}-port", value))]

    def _run_child(self, ports: list[str]) -> int:
        """Start a child and wait for its end; below zero also for one that hung."""
        pulse = Pulse()
        command = [*self._command, *ports, *pulse.arguments]
        self._kill_at = None
        # What this process was handed to hold, such as a lock, the child holds, too: it may be the last to go.
        self._child = child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)
        pulse.started()
        if self._stopping:
            self._stop()
        hung = False
        while child.poll() is None:
            pulse.wait(_LOOK_SECONDS)
            self._look_for_parent()
            if self._max_silence and pulse.silence > self._max_silence and self._kill_at is None:
                log.error("the server has given no sign of life for %.0f s; it is ended", pulse.silence)
                hung = True
                self._end_child()
            if self._kill_at and time.monotonic() > self._kill_at:
                child.kill()
        pulse.close()
        return min(child.returncode, -signal.SIGTERM) if hung else child.returncode

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(0.05)
            self._look_for_parent()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM and SIGINT."""
        self._stop()

    def _look_for_parent(self) -> None:
        if self._parent and os.getppid() != self._parent and not self._stopping:
            log.warning("the parent process %s is gone; stopping", self._parent)
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._end_child()

    def _end_child(self) -> None:
        """Let it finish what is in flight; one that does not go is killed."""
        if self._child is not None:
            self._kill_at = self._kill_at or time.monotonic() + self._patience
            self._child.terminate()
