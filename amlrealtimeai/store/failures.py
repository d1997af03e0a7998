"""Turns failures of the disk and of SQLite into StoreErrors that name the place, the need and the next step."""

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from amlrealtimeai.errors import MissingFileError, StoreError, WorkspaceNotFoundError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}
_SQLITE_BUSY, _SQLITE_READONLY, _SQLITE_IOERR, _SQLITE_CORRUPT = 5, 8, 10, 11
_SQLITE_FULL, _SQLITE_CANTOPEN, _SQLITE_NOTADB = 13, 14, 26
_LONGEST_PATH = 500  # SQLite's own limit is 512, with the names that it appends
_DAMAGES = ("unsupported file format", "Could not decode to UTF-8")  # of SQLite's and Python's, without a code
_SPACE = (
    "Free some space, delete models and images that you no longer need, or set AMLREALTIMEAI_HOME to a larger disk."
)


def no_room(place: Path, needed: int | None) -> StoreError:
    """The error for a full disk, quota or file-size limit at `place`; `needed` in bytes where it is known."""
    free = "an unknown number of"
    with contextlib.suppress(OSError):
        free = f"{shutil.disk_usage(place).free:,}"
    need = f"{needed:,} bytes are" if needed is not None else "a change is"
    return StoreError(
        f"no room in {place}: {need} to be written, {free} bytes are free (or a quota is used up). {_SPACE}"
    )


@contextlib.contextmanager
def disk(place: Path, needed: int | None = None) -> Iterator[None]:
    """Raise StoreError instead of the OSErrors of a full, read-only or forbidden place."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as problem:
        raise StoreError(
            f"{problem.filename} is a file; expected a folder. Move it away, or choose another place."
        ) from problem
    except OSError as problem:
        if problem.errno == errno.ENOENT and not place.is_dir():
            raise MissingFileError(
                f"the folder {place} does not exist (any more). Make it, or choose another place."
            ) from problem
        if problem.errno == errno.ENAMETOOLONG:
            raise StoreError(f"the path {place} is too long ({problem.strerror}). Choose a shorter one.") from problem
        if problem.errno in _NO_ROOM:
            raise no_room(place, needed) from problem
        if problem.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StoreError(
                f"{place} cannot be written: {problem.strerror}. Give yourself write access to it, "
                "or set AMLREALTIMEAI_HOME to a folder of your own."
            ) from problem
        if problem.errno in _NO_LOCKS:
            raise StoreError(
                f"the file system of {place} cannot lock files ({problem.strerror}), as some network folders cannot: "
                "processes would overwrite each other. Set AMLREALTIMEAI_HOME to a folder on a local disk."
            ) from problem
        raise


@contextlib.contextmanager
def workspace(root: Path, place: Path | None = None, needed: int | None = None) -> Iterator[None]:
    """`disk`, for what is done at `place` inside a workspace: WorkspaceNotFoundError when that has been deleted."""
    with disk(place or root, needed):
        try:
            yield
        except FileNotFoundError as problem:
            inside = problem.filename is not None and Path(problem.filename).is_relative_to(root)
            if inside or not root.is_dir():
                raise deleted(root) from problem
            raise


def deleted(folder: Path) -> WorkspaceNotFoundError:
    """The error for a workspace whose folder is gone, or is that of another one by now."""
    return WorkspaceNotFoundError(
        f"{folder} does not exist any more: the workspace was deleted. Workspace.create() makes it again."
    )


@contextlib.contextmanager
def database(path: Path) -> Iterator[None]:
    """Raise StoreError instead of sqlite3's errors that come from the disk, the file or another process."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as problem:
        raise _explained(path, problem) from problem
    except UnicodeDecodeError as problem:
        raise damaged(path, problem) from problem


def is_full(problem: BaseException | None) -> bool:
    """Whether SQLite may have failed for lack of room."""
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF in (_SQLITE_FULL, _SQLITE_IOERR, _SQLITE_CANTOPEN)


def _explained(path: Path, problem: sqlite3.DatabaseError) -> Exception:
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    if code == _SQLITE_FULL:
        return no_room(path.parent, None)
    if code == _SQLITE_IOERR:
        return StoreError(f"the disk failed while {path} was read or written ({problem}), or it is full. {_SPACE}")
    if code == _SQLITE_BUSY:
        return StoreError(
            f"{path} has been in use by another process for too long. Wait for it to end, then try again."
        )
    if code == _SQLITE_CANTOPEN and not path.exists():
        return deleted(path.parent)
    if code == _SQLITE_CANTOPEN and len(os.fsencode(path)) > _LONGEST_PATH:
        return StoreError(
            f"the path {path} is too long for a database: expected at most {_LONGEST_PATH} bytes, got "
            f"{len(os.fsencode(path))}. Set AMLREALTIMEAI_HOME to a folder with a shorter path."
        )
    if code in (_SQLITE_READONLY, _SQLITE_CANTOPEN):
        return StoreError(
            f"{path} cannot be opened for writing ({problem}). Give yourself write access to it, "
            "or set AMLREALTIMEAI_HOME to a folder of your own."
        )
    if code in (_SQLITE_CORRUPT, _SQLITE_NOTADB) or str(problem).startswith(_DAMAGES):
        return damaged(path, problem)
    return problem


def damaged(path: Path, problem: object) -> StoreError:
    """The error for a database that cannot be read as one."""
    return StoreError(
        f"{path} is not a workspace's database, or it is damaged ({problem}). "
        "Restore it from a backup, or move its folder away and create the workspace again."
    )
