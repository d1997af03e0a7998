"""Files that appear whole or not at all: written under another name, flushed to the disk, then renamed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from amlrealtimeai.errors import ContainerError

if sys.platform != "win32":
    import fcntl

_SUFFIX = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write `path` anew: it changes only when the block ends well. A killed writer's leavings are removed.

    Raises ContainerError for what is no file.
    """
    if path.exists() and not path.is_file():
        raise ContainerError(f"expected the path of a file, or of none yet; {path} is something else, and stays")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, f".{path.name}.")
    part, file = _create(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _create(path: Path) -> tuple[Path, BinaryIO]:
    """A new locked file beside `path`; again, if somebody took it for abandoned before it was locked."""
    while True:
        part = path.parent / f".{path.name}.{os.urandom(6).hex()}{_SUFFIX}"
        file = part.open("w+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return part, file
        file.close()


def remove_abandoned(folder: Path, start: str) -> None:
    """Remove unfinished files whose names begin with `start`; a writer that is alive holds a lock on its file."""
    for part in [part for part in folder.iterdir() if part.name.startswith(start) and part.name.endswith(_SUFFIX)]:
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
