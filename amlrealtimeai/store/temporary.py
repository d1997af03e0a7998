"""Temporary files and folders that are swept when their maker has died: a lock beside each tells that it lives."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from amlrealtimeai.store import failures
from amlrealtimeai.store.locks import LifeLock, if_free

_LOCK = ".lock"
_OLD_SECONDS = 24 * 3600.0  # for what has no lock: it is not ours, or of the first version, which trusted process ids


@contextlib.contextmanager
def new_path(folder: Path) -> Iterator[Path]:
    """A new name in a workspace's `folder`, for a file or a folder; whatever is there at the end is removed."""
    name, maker = secrets.token_hex(8), os.getpid()
    with failures.workspace(folder.parent):
        lock = LifeLock(folder / f"{name}{_LOCK}")
    try:
        yield folder / name
    finally:
        if os.getpid() == maker:  # a forked child that ends with an exception comes here, too
            remove(folder / name)
            lock.path.unlink(missing_ok=True)
            lock.release()


def sweep(folder: Path) -> int:
    """Remove what makers that have ended left in `folder`; returns how many."""
    removed = 0
    entries = {path.name: path for path in folder.iterdir()}
    for name, path in entries.items():
        if name.endswith(_LOCK):
            with if_free(path) as free:
                if free:
                    removed += remove(folder / name.removesuffix(_LOCK))
                    path.unlink(missing_ok=True)
        elif name + _LOCK not in entries:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                    removed += remove(path)
    return removed


def remove(path: Path) -> int:
    """1 when the file or folder is gone by us, else 0 (someone was quicker, or Windows still has it open)."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return 0
    return 1
