"""What a lesson owns on this computer: a name that no one else has, a folder, and everything called by that name.

A started lesson is a record, <home>/lessons/<name>.lock, which the process that runs it keeps locked, and a folder
beside it. A record that nobody holds was left by a kernel that ended: the next `start` or `clean_up` removes what
belongs to it.
"""

import atexit
import contextlib
import getpass
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from amlrealtimeai.core import Workspace, config
from amlrealtimeai.core.compute.aks import FPGA_VCPUS, QUOTA_VARIABLE
from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, NotFoundError
from amlrealtimeai.lab import cleanup, memory
from amlrealtimeai.store.locks import LifeLock, is_held

# A class may share one account: each student's cluster counts against one quota, and the usual one is four FPGAs.
_CLASS_FPGAS = 100
_mutex = threading.RLock()


class Lesson:
    """A started lesson: a name for its models and services, a folder for its files; `lab.clean_up()` removes all."""

    def __init__(self, kind: str, name: str, record: Path, lock: LifeLock) -> None:
        self.kind, self.name, self.lock = kind, name, lock
        self.record = record

    @property
    def folder(self) -> Path:
        """A folder of this lesson's own; it is there."""
        folder = self.record.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def fresh(self, name: str) -> str:
        """A path in the folder where nothing is: what an earlier run of the cell wrote there is removed."""
        path = self.folder / name
        if self.folder.resolve() not in path.resolve().parents:
            raise InvalidInputError(f"expected a name inside the lesson's folder, got {name!r}")
        _remove(path)
        return str(path)

    def __str__(self) -> str:
        return f"{self.name}: files in {self.folder}; lab.clean_up() removes them and everything of that name"

    __repr__ = __str__


_started: dict[str, Lesson] = {}


def own_name(lesson: str) -> str:
    """A name for this run of a lesson, for example "quickstart-ada-3f9c": lower case, as image names have to be."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "me"
    safe = re.sub(r"[^a-z0-9]+", "", user.lower())[:12] or "me"
    return f"{lesson}-{safe}-{secrets.token_hex(2)}"


def start(lesson: str) -> Lesson:
    """Start `lesson` ("quickstart"), or go on with it: a second call in the same kernel gives the same name and folder.

    What ended kernels have left of it is removed first, and said. Raises InvalidInputError for a name that models and
    services cannot begin with.
    """
    if not isinstance(lesson, str) or not re.fullmatch(r"[a-z][a-z0-9]{0,13}", lesson):
        raise InvalidInputError(f"expected 1 to 14 lower-case letters and digits, a letter first; got {lesson!r}")
    os.environ.setdefault(QUOTA_VARIABLE, str(_CLASS_FPGAS * FPGA_VCPUS))
    with _mutex:
        if not _started:
            memory.be_sparing()
        if lesson not in _started:
            _remove_orphans(lesson)
            _started[lesson] = _new(lesson)
        return _started[lesson]


def clean_up(workspace: Workspace | None = None, name: str | None = None) -> None:
    """Remove what the lessons of this kernel made, and what ended kernels left; a second call finds nothing.

    With a workspace and a name: only what is called so in that workspace. Others' lessons stay.
    """
    if workspace is not None or name is not None:
        if workspace is None or not isinstance(name, str) or not name.strip():
            print("nothing removed: clean_up() removes this kernel's lessons; else give a workspace and a name")
            return
        print(cleanup.summary(name, cleanup.remove(workspace, name)))
        return
    with _mutex:
        for lesson in _started.values():
            print(cleanup.summary(lesson.name, _remove_all(lesson.name, lesson.folder)))
        if not _remove_orphans() and not _started:
            print("nothing to remove: no lesson was started in this kernel")


def _new(kind: str) -> Lesson:
    _home().mkdir(parents=True, exist_ok=True)
    unnamed = _home() / f".new-{secrets.token_hex(8)}"
    lock = LifeLock(unnamed)  # before it has its name: nobody ever sees a record that is not held
    while True:
        name = own_name(kind)
        record = _home() / f"{name}.lock"
        try:
            record.hardlink_to(unnamed)
        except FileExistsError:
            continue
        unnamed.unlink()
        return Lesson(kind, name, record, lock)


def _home() -> Path:
    return config.home() / "lessons"


def _remove_orphans(kind: str = "*") -> bool:
    """Remove what belongs to records that no process holds; whether there were any."""
    found = [record for record in _records(kind) if is_held(record) is False]
    for record in found:
        name = record.stem
        removed = _remove_all(name, record.with_suffix(""))
        record.unlink(missing_ok=True)
        if removed:
            print(f"of an earlier run: {cleanup.summary(name, removed)}")
    return bool(found)


def _records(kind: str) -> Iterator[Path]:
    for record in sorted(_home().glob(f"{kind}-*.lock")):
        try:
            if not hasattr(os, "geteuid") or record.stat().st_uid == os.geteuid():
                yield record
        except OSError:  # somebody else has just removed it
            continue


def _remove_all(name: str, folder: Path) -> list[str]:
    removed = []
    for same_name in Workspace.list().values():
        for workspace in same_name:
            with contextlib.suppress(NotFoundError):  # another kernel was quicker
                if workspace.name == name:
                    workspace.delete(delete_dependent_resources=True)
                    removed.append("1 workspace")
                else:
                    removed += cleanup.remove(workspace, name)
    size = 0
    with contextlib.suppress(FileNotFoundError):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    _remove(folder)
    return [*removed, f"{size / 1e6:.0f} MB of files"] if size >= 5e5 else removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _forget_in_child() -> None:
    """A forked child owns no lesson: it must neither keep the lock nor remove the files when it ends."""
    for lesson in _started.values():
        lesson.lock.release()
    _started.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@atexit.register
def _leave_no_files() -> None:
    """A kernel that ends in peace takes its files along; models and images wait for the next start to remove them."""
    for lesson in _started.values():
        _remove(lesson.folder)
        with contextlib.suppress(AmlRealtimeAiError, OSError):
            if not _has_left(lesson.name):
                lesson.record.unlink()


def _has_left(name: str) -> bool:
    """Whether anything of a lesson is in a workspace, its own or another."""
    workspaces = [workspace for same_name in Workspace.list().values() for workspace in same_name]
    return any(workspace.name == name or cleanup.has_any(workspace, name) for workspace in workspaces)
