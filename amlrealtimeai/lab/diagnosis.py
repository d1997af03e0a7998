"""The doctor: is everything here that the lessons need? One line for each thing, with the mend beside it."""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from amlrealtimeai import resources
from amlrealtimeai.errors import AmlRealtimeAiError

_PACKAGES = ("tensorflow", "tf2onnx", "onnxruntime", "grpcio", "numpy", "pillow", "jupyterlab")
_FREE_BYTES = 2e9


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
    """Look at everything, change nothing."""
    looks: tuple[Callable[[], Finding], ...] = (_python, _packages, _kernel, _weights, _loopback, _disk, _containers)
    findings = []
    for look in looks:
        try:
            findings.append(look())
        except (AmlRealtimeAiError, OSError) as error:
            findings.append(Finding(look.__name__.strip("_"), False, str(error), "see the message"))
    return findings


def doctor() -> None:
    """Print what `examine` finds; the last line says whether the lessons will run."""
    findings = examine()
    for finding in findings:
        print(finding)
    missing = [finding.name for finding in findings if finding.needed and not finding.ok]
    print("everything that the lessons need is here" if not missing else f"mend first: {', '.join(missing)}")


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
    return Finding("packages", not missing, text, "make setup")


def _kernel() -> Finding:
    from amlrealtimeai import npu

    info = npu.kernel_info()
    fast = info["isa"] != "generic"
    text = f"instruction set {info['isa']}, {info['threads']} threads"
    alone = info["available"] == ["generic"]
    why = "this CPU has neither AVX2 nor Arm's dot products" if alone else "unset AMLREALTIMEAI_ISA"
    return Finding("NPU kernel", fast, text, f"right answers, but slower: {why}", needed=False)


def _weights() -> Finding:
    path = resources.path("weights/resnet50.npz")
    size = path.stat().st_size
    return Finding("workshop weights", size > 2e7, f"{path.name}, {size / 1e6:.1f} MB", "clone the repository again")


def _loopback() -> Finding:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return Finding("loopback port", True, f"127.0.0.1:{listener.getsockname()[1]} could be opened")


def _disk() -> Finding:
    home = Path(os.environ.get("AMLREALTIMEAI_HOME") or Path.home())
    while not home.exists():
        home = home.parent
    free = shutil.disk_usage(home).free
    return Finding("disk", free > _FREE_BYTES, f"{free / 1e9:.0f} GB free", "make at least 2 GB free")


def _containers() -> Finding:
    engine = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    text = engine or "neither podman nor docker"
    mend = "images are built all the same; to run them, install podman"
    return Finding("container engine", engine is not None, text, mend, needed=False)
