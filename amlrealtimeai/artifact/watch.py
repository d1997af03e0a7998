"""Ending computations that cannot look at a clock themselves, when nobody waits for them any more."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Check = Callable[[], None]

_SECONDS = 0.05  # between two looks
_IDLE_LOOKS = 200  # after so many without work the thread ends


def unchecked() -> None:
    """The check of a computation that is always wanted."""


CHECK: ContextVar[Check] = ContextVar("check", default=unchecked)  # of the prediction that this thread makes


@contextmanager
def checked_by(check: Check) -> Iterator[None]:
    """What is computed in the body calls `check` again and again, wherever it takes long."""
    token = CHECK.set(check)
    try:
        yield
    finally:
        CHECK.reset(token)


class Watch:
    """Calls the check of every running computation now and then, in one thread for all, and stops those that fail."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[object, tuple[Check, Check]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, check: Check, stop: Check) -> Iterator[None]:
        """While the body runs, `stop` is called soon after `check` begins to raise."""
        if check is unchecked:
            yield
            return
        key = object()
        with self._lock:
            self._running[key] = (check, stop)
            if self._thread is None or not self._thread.is_alive():  # none, or lost in a fork
                self._thread = threading.Thread(target=self._look, daemon=True, name="amlrealtimeai-watch")
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._running[key]

    def _look(self) -> None:
        idle = 0
        while True:
            time.sleep(_SECONDS)
            with self._lock:
                running = list(self._running.values())
                idle = 0 if running else idle + 1
                if idle > _IDLE_LOOKS:
                    self._thread = None
                    return
            for check, stop in running:
                try:
                    check()
                except Exception:  # what it is, the computation's own thread finds out
                    stop()
