"""Work in a background thread that can be waited for, with a progress bar on request."""

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Progress = Callable[[str, float], None]

RUNNING, SUCCEEDED, FAILED = "Running", "Succeeded", "Failed"
_REFRESH_SECONDS = 0.5
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
_CLOCK = "{desc}: {elapsed}{postfix}"


class Operation(Generic[T]):
    """Runs `function(progress)` in a thread; progress(step, fraction) may be called with fraction from 0 to 1.

    `measured` False: the function does not call it, so that only the time is shown. The thread is no daemon: a program
    that ends without waiting still completes what it began.
    """

    def __init__(self, name: str, function: Callable[[Progress], T], measured: bool = True) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.value: T | None = None
        self._step = ("working", 0.0)
        self._format = _BAR if measured else _CLOCK
        self._function = function
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    @property
    def state(self) -> str:
        """ "Running", "Succeeded" or "Failed"."""
        if self._thread.is_alive():
            return RUNNING
        return SUCCEEDED if self.error is None else FAILED

    def wait(self, show_output: bool) -> bool:
        """Wait for the end, with a bar when asked to; returns whether it succeeded."""
        self.wait_until_ended(show_output, None)
        return self.error is None

    def wait_until_ended(self, show_output: bool, seconds: float | None) -> bool:
        """Wait for the end, for at most so many seconds; returns whether it has ended."""
        end = math.inf if seconds is None else time.monotonic() + max(0.0, seconds)
        if show_output and self._thread.is_alive():
            self._show(end)
        self._thread.join(None if seconds is None else max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.value = self._function(self._note)
        except BaseException as error:  # kept for the one who waits
            self.error = error

    def _note(self, step: str, fraction: float) -> None:
        self._step = (step, fraction)

    def _show(self, end: float) -> None:
        from tqdm.auto import tqdm

        with tqdm(total=100, desc=self.name, bar_format=self._format) as bar:
            while self._thread.is_alive() and (left := end - time.monotonic()) > 0:
                step, fraction = self._step
                bar.set_postfix_str(step, refresh=False)
                bar.n = round(100 * fraction)
                bar.refresh()
                self._thread.join(min(_REFRESH_SECONDS, left))
            bar.set_postfix_str(self.state, refresh=False)
            bar.n = 100 if self.state == SUCCEEDED else bar.n
            bar.refresh()
