"""A parent that starts the server as its child and replaces it on the same port when it dies (--supervise).

What native code could do to a process (a crash in a decoder, the kernel's out-of-memory killer) then costs the requests
in flight, whose clients see UNAVAILABLE and try again, and not the service.
"""

import logging
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

log = logging.getLogger("amlrealtimeai.serving")

_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
_STEADY_SECONDS = 60.0  # who lived for so long starts again without a pause


def supervise(arguments: Sequence[str], port_file: Path | None) -> int:
    """Run `python -m amlrealtimeai.serving` with these arguments until SIGTERM; returns the exit status."""
    stopping = threading.Event()
    child: subprocess.Popen[bytes] | None = None

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopping.set()
        if child is not None:
            child.terminate()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    with tempfile.TemporaryDirectory(prefix="amlrealtimeai-") as folder:
        port_file = port_file or Path(folder) / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "amlrealtimeai.serving", *arguments, "--port-file", str(port_file)]
        deaths = 0
        while True:
            started = time.monotonic()
            own = ["--port", port_file.read_text().strip()] if port_file.exists() else []
            child = subprocess.Popen([*command, *own], stdin=subprocess.DEVNULL)
            if stopping.is_set():
                child.terminate()
            status = child.wait()
            if stopping.is_set() or status == 0 or not port_file.exists():
                return max(status, 0) if stopping.is_set() or status >= 0 else 1
            deaths = 0 if time.monotonic() - started > _STEADY_SECONDS else deaths + 1
            log.error("the server ended with status %d; starting another on the same port", status)
            stopping.wait(_PAUSES[min(deaths, len(_PAUSES)) - 1] if deaths else 0.0)
