"""Locks that the system lets go of however a process ends: a file for as long as it lives, a folder for a moment.

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

from amlrealtimeai.store import failures

if sys.platform != "win32":
    import fcntl

    _FOLDER = os.O_RDONLY | os.O_DIRECTORY

_locks: "weakref.WeakSet[_Lock]" = weakref.WeakSet()
_opening = threading.Lock()  # no fork between a descriptor's opening and its note in _locks


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.folders: set[Path] = set()


_of_thread = _OfThread()


class _Lock:
    def __init__(self, path: Path, flags: int, shared: bool) -> None:
        self.path = path
        while True:
            with _opening:
                self.descriptor = os.open(path, flags, 0o600)
                _locks.add(self)
            if sys.platform == "win32":
                return
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                if _is_there(self.descriptor, path):  # else it was removed between its opening and its locking
                    return
            except BaseException:
                self.release()
                raise
            self.release()

    def release(self) -> None:
        """Let go of this process's hold; a child's hold stays."""
        with _opening:
            descriptor, self.descriptor = self.descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


class LifeLock(_Lock):
    """Held from creation until `release`, the end of the process, or that of a child that was handed `descriptor`.

    Creation waits for another holder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_CREAT | os.O_RDWR, shared=False)


@contextlib.contextmanager
def workspace(folder: Path, *, shared: bool) -> Iterator[None]:
    """Hold a workspace's folder for the block, with others (`shared`) or alone; a thread that holds it already does.

    Who moves it away holds it alone, so that it stays where it is for everyone who holds it with others. Raises
    WorkspaceNotFoundError when it is gone, StoreError where the file system has no locks.
    """
    held = _of_thread.folders
    if folder in held or sys.platform == "win32":  # where a folder with an open file cannot be moved
        yield
        return
    with failures.workspace(folder), _gate(folder, shared):
        lock = _Lock(folder, _FOLDER, shared)
    held.add(folder)
    try:
        yield
    finally:
        held.remove(folder)
        lock.release()


@contextlib.contextmanager
def _gate(folder: Path, shared: bool) -> Iterator[None]:
    """Everyone passes here to hold a folder; who waits to hold it alone lets nobody else pass, and so gets it."""
    try:
        lock = _Lock(folder / "tmp", _FOLDER, shared)
    except FileNotFoundError:  # a new folder, which nobody wants to hold alone
        yield
        return
    try:
        yield
    finally:
        lock.release()


def make_private(path: Path) -> None:
    """Make an empty file that only its owner can read, where there is none.

    One that is there is not opened: closing it would end the locks that SQLite has on it in all of this process.
    """
    with _opening, contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


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
