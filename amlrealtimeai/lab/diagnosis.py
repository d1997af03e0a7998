"""The doctor: is everything here that the lessons need? One line for each thing, with the mend beside it."""

import hashlib
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from amlrealtimeai import command_line, resources
from amlrealtimeai.errors import AmlRealtimeAiError

_PACKAGES = ("tensorflow", "tf2onnx", "onnxruntime", "grpcio", "numpy", "pillow", "jupyterlab")
_ARCHIVES = ("resnet50.npz", "resnet50.photographs.npz", "ssdvgg.npz")
_FREE_BYTES = 2e9  # for each of home and temporary folder
_LESSON_BYTES, _LEAST_BYTES = (
    3.0e9,
    1.5e9,
)  # memory: the largest lesson (01), and what no lesson with a network can do without
_ENGINE_SECONDS = 10.0
_ALL_GOOD = "everything that the lessons need is here"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. needed: lessons stop without it."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    needed: bool = True

    def __str__(self) -> str:
        mark = "ok  " if self.ok else ("FAIL" if self.needed else "note")
        return f"{mark}  {self.name:<18}{self.found}" + (f"  ->  {self.mend}" if not self.ok else "")


def examine() -> list[Finding]:
    """Look at everything; a file that is written to try a folder is removed at once."""
    findings = []
    for look in LOOKS:
        try:
            findings.append(look())
        except Exception as error:  # whatever is broken here, it is the doctor who says so
            findings.append(Finding(look.__name__.strip("_"), False, str(error), "see the message"))
    return findings


def verdict(findings: list[Finding]) -> str:
    """The last line: whether the lessons will run, and if not, what to mend first."""
    missing = [finding.name for finding in findings if finding.needed and not finding.ok]
    return f"mend first: {', '.join(missing)}" if missing else _ALL_GOOD


def doctor() -> None:
    """Print what `examine` finds; the last line says whether the lessons will run."""
    print_findings(examine())


def print_findings(findings: list[Finding]) -> bool:
    """Print them and the verdict; whether nothing that is needed is missing."""
    for finding in findings:
        print(finding)
    print(verdict(findings))
    return verdict(findings) == _ALL_GOOD


def _python() -> Finding:
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", supported, text, "use Python 3.11 to 3.13")


def _packages() -> Finding:
    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    text = ", ".join(found) + (f"; missing: {', '.join(missing)}" if missing else "")
    return Finding("packages", not missing, text, command_line.where_packages_are())


def _kernel() -> Finding:
    from amlrealtimeai import npu

    info = npu.kernel_info()
    fast = info["isa"] != "generic"
    text = f"instruction set {info['isa']}, {info['threads']} threads"
    alone = info["available"] == ["generic"]
    why = "this CPU has neither AVX2 nor Arm's dot products" if alone else "unset AMLREALTIMEAI_ISA"
    return Finding("NPU kernel", fast, text, f"right answers, but slower: {why}", needed=False)


def _weights() -> Finding:
    said = []
    for name in _ARCHIVES:
        content = resources.path(f"weights/{name}").read_bytes()
        expected = resources.path(f"weights/{name}.sha256").read_text().split()[0]
        said.append(f"{name}, {len(content) / 1e6:.1f} MB")
        if hashlib.sha256(content).hexdigest() != expected:
            text = f"{said[-1]}, not the bytes that were shipped"
            return Finding("weights", False, text, "git checkout data/weights, or clone the repository again")
    return Finding("weights", True, "; ".join(said))


def _memory() -> Finding:
    free = _free_memory()
    if free is None:
        return Finding("memory", True, "unknown on this system; lesson 01 takes 3 GB")
    text = f"{free / 1e9:.1f} GB free"
    mend = "close other notebooks (kernels keep their memory); lesson 01 takes 3 GB, the others 2"
    return Finding("memory", free >= _LESSON_BYTES, text, mend, needed=free < _LEAST_BYTES)


def _free_memory() -> float | None:
    """Bytes that a new kernel could have: the machine's, or what its control group leaves."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, float(Path(limit).read_text()) - float(Path(used).read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return max(free, 0.0)


def _home() -> Finding:
    from amlrealtimeai.core.config import home

    return _room_in("home", home(), "set AMLREALTIMEAI_HOME to a folder of your own that has 2 GB free")


def _temporary() -> Finding:
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        return Finding("temporary folder", False, error.strerror or "none", "set TMPDIR to a folder that you may write")
    return _room_in("temporary folder", place, "set TMPDIR to a folder of your own that has 2 GB free")


def _room_in(name: str, folder: Path, mend: str) -> Finding:
    """Whether a file can be made in `folder`, or in the nearest folder above that there is, and how much fits."""
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"written by the doctor")
    except OSError as error:
        return Finding(name, False, f"{folder}: cannot be written: {error.strerror}", mend)
    free = shutil.disk_usage(place).free
    return Finding(name, free > _FREE_BYTES, f"{_short(folder)}, {free / 1e9:.0f} GB free", mend)


def _short(folder: Path) -> str:
    """With ~ for the learner's own folder: what a lesson prints is stored and shown to others."""
    home = resources.user_home()
    return f"~/{folder.relative_to(home)}" if home and folder.is_relative_to(home) else str(folder)


def _loopback() -> Finding:
    """A service and its client meet here."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname(), 2.0):
            return Finding("loopback port", True, f"127.0.0.1:{listener.getsockname()[1]} answers")


def _proxy() -> Finding:
    names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    set_here = {name: value for name in names if (value := os.environ.get(name) or os.environ.get(name.upper()))}
    exempt = [word.strip() for word in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")]
    text = ", ".join(f"{name}={_without_password(value)}" for name, value in set_here.items()) or "none is set"
    mend = "services on this computer are asked directly all the same; add the names of others to no_proxy"
    good = not set_here or "*" in exempt or {"127.0.0.1", "localhost"} <= set(exempt)
    return Finding("proxy", good, text, mend, needed=False)


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
    except ValueError:
        return "something that is no URL"
    return f"{parts.scheme or 'http'}://{parts.netloc.rpartition('@')[2]}"


def _containers() -> Finding:
    from amlrealtimeai.containers.engine import find_engine

    mend = "images are built all the same, and served without it; to run them, install podman"
    try:
        engine = find_engine()
        said = engine.call("info", "--format", "{{json .}}", timeout=_ENGINE_SECONDS)
    except AmlRealtimeAiError as error:
        return Finding("container engine", False, str(error).splitlines()[0][:200], mend, needed=False)
    return Finding("container engine", bool(said), f"{engine.name} answers", mend, needed=False)


LOOKS: tuple[Callable[[], Finding], ...] = (
    *(_python, _packages, _kernel, _weights, _memory),
    *(_home, _temporary, _loopback, _proxy, _containers),
)
