"""A file that is locked for as long as a process lives: the system lets go of it however the process ends."""

import contextlib
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class LifeLock:
    """Held from creation until `release`, the end of the process, or that of a child that inherited `descriptor`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        if sys.platform != "win32":
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        """Let go of this process's hold; a child's hold stays."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def is_held(path: Path) -> bool | None:
    """Whether a living process holds the lock; None where the system cannot tell (Windows)."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask do not see each other
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
