"""Folders to work in, beside the result: on its disk, out of sight, and gone after a conversion that was killed."""

import contextlib
import glob
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` for the time of a conversion; what killed conversions to it left there is removed."""
    start = f".{target.name}.{_host()}-"
    for path in target.parent.glob(f"{glob.escape(start)}*.part"):
        if _is_abandoned(path.name.removeprefix(start)):
            shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{start}{os.getpid()}-", suffix=".part", dir=target.parent) as made:
        yield Path(made)


def _host() -> str:
    """A process id says nothing on another host, and folders may be shared."""
    return re.sub(r"\W", "_", socket.gethostname())


def _is_abandoned(rest: str) -> bool:
    maker = rest.split("-")[0]
    if os.name == "nt" or not maker.isdigit():  # where os.kill(pid, 0) would end the process
        return False
    try:
        os.kill(int(maker), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
