"""TensorFlow and tf2onnx without their log noise, and one lock around what they keep in globals."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from amlrealtimeai.errors import extras_named

# tf2onnx keeps its functions and opset in module globals: one conversion at a time in a process.
TF2ONNX_LOCK = threading.RLock()
_LOGGERS = ("tensorflow", "tf2onnx")


def tensorflow() -> Any:
    """The tensorflow module, imported on first use (about 8 s) with its start-up chatter turned down."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules:
        with _without_standard_error(), extras_named():
            import_module("tensorflow")
    return sys.modules["tensorflow"]


@contextmanager
def _without_standard_error() -> Iterator[None]:
    """What C++ code prints on file descriptor 2 goes nowhere; no setting keeps TensorFlow's start-up lines back.

    A service or a windowed program may have no standard error: sys.stderr is None, or the descriptor is closed.
    """
    with suppress(AttributeError, ValueError, OSError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        kept = None  # closed: it is held meanwhile, or the next file that is opened would get the number and the lines
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        if nowhere != 2:
            os.close(nowhere)
        if kept is None:
            os.close(2)
        else:
            os.dup2(kept, 2)
            os.close(kept)


class _ThisThread(logging.Filter):
    """Keep this thread's records out of the log and remember its errors; other threads are not disturbed."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.errors: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread:
            return True
        if record.levelno >= logging.ERROR:
            self.errors.append(record.getMessage())
        return False


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Silence this thread's TensorFlow and tf2onnx records; yields the list that collects their errors."""
    tensorflow()
    import tf2onnx  # noqa: F401  (its loggers have to exist before they can be silenced)

    silencer = _ThisThread()
    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in _LOGGERS]
    loggers = [logging.getLogger(name) for name in {*names, *_LOGGERS}]
    for logger in loggers:
        logger.addFilter(silencer)
    try:
        yield silencer.errors
    finally:
        for logger in loggers:
            logger.removeFilter(silencer)
