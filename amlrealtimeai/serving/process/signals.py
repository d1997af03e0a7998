"""What SIGTERM, SIGINT and SIGHUP do while a process serves; afterwards they do what they did before."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The signals call `handler` inside; whoever called has its own handlers back at the end, also after an error.

    SIGHUP says that the terminal is gone, as long as nobody (nohup) has it ignored.
    """
    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, signal.SIG_DFL if found is None else found)  # None: not set from Python
