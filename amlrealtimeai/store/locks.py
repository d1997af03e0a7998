"""A file that is locked for as long as a process lives: the system lets go of it however the process ends.

Process ids say nothing where several containers share a folder; such a lock does. A forked child gives it up at once:
it must not keep its parent alive in the eyes of others.
"""

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_locks: "weakref.WeakSet[LifeLock]" = weakref.WeakSet()
_opening = threading.Lock()  # no fork between a descriptor's opening and its note in _locks


class LifeLock:
    """Held from creation until `release`, the end of the process, or that of a child that was handed `descriptor`.

    Creation waits for another holder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            with _opening:
                self.descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
                _locks.add(self)
            if sys.platform == "win32":
                return
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if _is_there(self.descriptor, path):  # else it was swept between its creation and its locking
                return
            self.release()

    def release(self) -> None:
        """Let go of this process's hold; a child's hold stays."""
        with _opening:
            descriptor, self.descriptor = self.descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


def check(folder: Path) -> None:
    """Raise OSError where the file system has no locks, as some network folders have none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


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


@contextlib.contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock: then it is held for the block, so that what it protects can be removed."""
    if is_held(path) is not False or sys.platform == "win32":
        yield False
        return
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _locked_now(descriptor) and _is_there(descriptor, path)
    finally:
        os.close(descriptor)


def _locked_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holders(path: Path) -> list[int] | None:
    """Ids, in this process's own namespace, of the processes that have the file open; None without /proc."""
    if not Path("/proc/self/fd").is_dir():
        return None
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return []
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _has_open(entry, wanted)]


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    try:
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found = descriptor.stat()
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    except OSError:  # another user's process, or one that has just ended
        pass
    return False


def _is_there(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        descriptor, lock.descriptor = lock.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork_in_child)
