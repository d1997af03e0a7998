"""A kernel's memory: what nobody uses any more goes back to the system, so that a class fits on one machine."""

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_M_MMAP_THRESHOLD = -3  # of mallopt
_LARGE = 4 << 20  # bytes of an array that is a mapping of its own, and gone as soon as it is freed
_MORE = 100e6  # bytes that a cell leaves: below that looking for free ones (0.2 s) does not pay


def give_back() -> None:
    """Collect TensorFlow's graphs, which are cycles, and let glibc return what it keeps for later."""
    gc.collect()
    _tell_glibc("malloc_trim", 0)


def be_sparing() -> None:
    """In a notebook: keep no large free blocks, and `give_back` after every cell that has left much more in use.

    Left alone, glibc keeps what is freed the longer the larger it is: up to 32 MB, which most layers' tensors are.
    """
    _tell_glibc("mallopt", _M_MMAP_THRESHOLD, _LARGE)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or _resident() is None:
        return
    least = [_resident() or 0.0]

    def look(*_: Any) -> None:
        if (_resident() or 0.0) > least[0] + _MORE:
            give_back()
        least[0] = _resident() or 0.0

    shell.events.register("post_run_cell", look)


def _tell_glibc(function: str, *values: int) -> None:
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library
            getattr(ctypes.CDLL(None), function)(*values)


def _resident() -> float | None:
    """Bytes of memory that this process has; None where the system does not say."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return 1024.0 * int(fields["VmRSS"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
