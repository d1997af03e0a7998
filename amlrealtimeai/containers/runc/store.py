"""What runc has no memory of: unpacked images and the containers made of them, as folders.

images/ID/rootfs, image.json
containers/ID/container.json, config.json (of runc), state.json, log, runc.log, lock, stop
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from amlrealtimeai import resources
from amlrealtimeai.containers.archive import verify_image
from amlrealtimeai.errors import ContainerError

_POLL_SECONDS = 0.05
_END_SECONDS = 10.0


def root() -> Path:
    """Where it all is: runc in $AMLREALTIMEAI_HOME, else in amlrealtimeai in $XDG_DATA_HOME or ~/.local/share."""
    if home := os.environ.get("AMLREALTIMEAI_HOME"):
        return Path(home) / "runc"
    if shared := os.environ.get("XDG_DATA_HOME"):
        return Path(shared) / "amlrealtimeai" / "runc"
    if (own := resources.user_home()) is None:
        raise ContainerError("this user has no home folder; set XDG_DATA_HOME to a folder of its own")
    return own / ".local" / "share" / "amlrealtimeai" / "runc"


def runc(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run runc itself."""
    command = ["runc", "--root", str(root() / "state"), *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def image(id: str) -> Path:
    """Folder of an unpacked image; ContainerError if there is none."""
    folder = root() / "images" / id.removeprefix("sha256:")
    if not (folder / "image.json").is_file():
        raise ContainerError(f"no such image: {id}")
    return folder


def load(path: Path) -> str:
    """Unpack an image file unless it is here; its id."""
    found = verify_image(path)
    with contextlib.suppress(ContainerError):
        image(found.id)
        return found.id
    (root() / "images").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root() / "images", prefix=".partial-") as partial:
        folder = Path(partial) / "image"
        (folder / "rootfs").mkdir(parents=True)
        with tarfile.open(path, "r:") as outer:
            for name in json.loads(_member(outer, "manifest.json").read())[0]["Layers"]:
                with tarfile.open(fileobj=_member(outer, name), mode="r:gz") as layer:
                    _unpack(layer, (folder / "rootfs").resolve())
        (folder / "image.json").write_text(json.dumps(found.config))
        with contextlib.suppress(OSError):  # another process was quicker
            folder.rename(root() / "images" / found.id.removeprefix("sha256:"))
    return found.id


def remove_image(id: str) -> None:
    """Forget an image that no container has."""
    folder = image(id)
    if any(container["Image"] == id for container in map(read, containers())):
        raise ContainerError(f"the image {id} is used by a container")
    shutil.rmtree(folder)


def containers() -> Iterator[Path]:
    """The folders of all containers."""
    for path in sorted((root() / "containers").glob("*/container.json")):
        yield path.parent


def container(name: str) -> Path:
    """Folder of the container with this id or name; ContainerError if there is none."""
    for folder in containers():
        with contextlib.suppress(FileNotFoundError):
            if name in (folder.name, read(folder)["Name"]):
                return folder
    raise ContainerError(f"no such container: {name}")


def read(folder: Path) -> dict[str, Any]:
    """All that is known of a container, in the words of podman's and docker's `inspect`."""
    found: dict[str, Any] = json.loads((folder / "container.json").read_text())
    state = {"ExitCode": 0, "RestartCount": 0}
    with contextlib.suppress(FileNotFoundError):
        state = json.loads((folder / "state.json").read_text())
    told = runc("state", folder.name)
    now = json.loads(told.stdout) if told.returncode == 0 else {}
    running = now.get("status") in ("running", "paused")
    found["State"] = {"Running": running, "Pid": now["pid"] if running else 0, "ExitCode": state["ExitCode"]}
    return {**found, "RestartCount": state["RestartCount"]}


def start_problem(folder: Path) -> str:
    """Why runc could not start a container; empty where it could."""
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "runc.log").read_text().splitlines():
            if "runc run failed" in line:
                return str(json.loads(line)["msg"])
    return ""


def write(path: Path, content: Any) -> None:
    """Replace a file, at once."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content))
    partial.replace(path)


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Hold a container's lock: its supervisor lives."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_kept(folder: Path) -> bool:
    """Whether the container's supervisor lives."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop(folder: Path, seconds: float) -> None:
    """End a container: SIGTERM, after so many seconds SIGKILL; it is not started again."""
    (folder / "stop").touch()
    runc("kill", folder.name, "TERM")
    if not until(lambda: not is_kept(folder) and not read(folder)["State"]["Running"], seconds):
        runc("kill", "--all", folder.name, "KILL")
        until(lambda: not is_kept(folder), _END_SECONDS)


def remove(folder: Path) -> None:
    """End a container at once, and forget it."""
    stop(folder, 0.0)
    runc("delete", "--force", folder.name)
    shutil.rmtree(folder)


def until(over: Any, seconds: float) -> bool:
    """Wait for over(), at most so long; what it said last."""
    end = time.monotonic() + seconds
    while not over():
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _member(archive: tarfile.TarFile, name: str) -> Any:
    return archive.extractfile(name)


def _unpack(layer: tarfile.TarFile, target: Path) -> None:
    """Files, folders and links of a layer, none of them outside of `target`."""
    inside: set[Path] = set()
    for member in layer:
        parts = PurePosixPath(member.name).parts
        place = (target / member.name).parent
        if place not in inside:
            if ".." in parts or not place.resolve().is_relative_to(target):
                raise ContainerError(f"the image has a file outside of its root: {member.name!r}")
            inside.add(place)
        known = member.isreg() or member.isdir() or member.issym() or member.islnk()
        if not known or PurePosixPath(member.name).name.startswith(".wh."):
            raise ContainerError(f"the image has {member.name!r}, which is no file, folder or link")
        layer.extract(member, target, numeric_owner=True)
