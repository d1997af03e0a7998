"""Compiles the native kernel with the C++ compiler that PyPI's ziglang holds: once, a few seconds, then it is cached.

`python -m amlrealtimeai.npu.native` builds it now; otherwise the first use does. Wheels for Linux bring it, built by
`build_for`.
"""

import functools
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from amlrealtimeai.errors import UnsupportedError

_HERE = Path(__file__).resolve().parent
_SOURCES = _HERE / "src"
# -ffp-contract=off: a fused multiply-add rounds once where the specification rounds twice
_FLAGS = (
    *("-std=c++20", "-O3", "-fno-exceptions", "-fno-rtti", "-nostdlib++", "-fno-threadsafe-statics"),
    *(() if platform.system() == "Windows" else ("-fPIC",)),
    *("-ffp-contract=off", "-fno-sanitize=all", "-fvisibility=hidden", "-Wall", "-Wextra"),
)
_SUFFIXES = {"Darwin": ".dylib", "Windows": ".dll"}


def _instruction_sets(machine: str) -> dict[str, str]:
    """Compiler flag for each source that has its own instruction set; "" is for the rest, which any such CPU runs."""
    if machine in ("x86_64", "AMD64"):
        wide = "x86_64+avx2+fma+avx512f+avx512bw+avx512dq+avx512vl+avx512vnni"
        tiles = f"{wide}+amx_tile+amx_int8"
        return {
            "isa_amx.cpp": f"-mcpu={tiles}",
            "isa_avx512vnni.cpp": f"-mcpu={wide}",
            "isa_avxvnni.cpp": "-mcpu=x86_64+avx2+fma+avxvnni",
            "isa_avx2.cpp": "-mcpu=x86_64+avx2+fma",
            "": "-mcpu=baseline",
        }
    if machine in ("aarch64", "arm64", "ARM64"):
        return {"isa_neon.cpp": "-mcpu=generic+dotprod", "": "-mcpu=baseline"}
    return {"": "-mcpu=baseline"}


def source_digest() -> str:
    """SHA-256 (hex, shortened) over the sources and the way they are compiled."""
    total = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(_SOURCES.iterdir()):
        total.update(source.name.encode() + b"\0" + source.read_bytes())
    return total.hexdigest()[:16]


def _library_name(machine: str, system: str) -> str:
    return f"npu_kernel-{machine.lower()}-{source_digest()}{_SUFFIXES.get(system, '.so')}"


def _cache_folder() -> Path | None:
    """None for a user without a home, as in a container that was given a number as its user."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amlrealtimeai"
    except RuntimeError:
        return None


@functools.cache
def library_path() -> Path:
    """Path of the compiled library; builds it when this version was not built on this machine yet."""
    name = _library_name(platform.machine(), platform.system())
    if (_HERE / name).exists():
        return _HERE / name
    cache = _cache_folder()
    if cache is not None and (cache / name).exists():
        return cache / name
    folder = _HERE if os.access(_HERE, os.W_OK) else cache
    if folder is None:
        raise UnsupportedError("this user has no home folder; set XDG_CACHE_HOME to a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    _compile(folder / name, platform.machine())
    return folder / name


def build_for(machine: str, glibc: str, folder: Path) -> Path:
    """The library for Linux on another kind of CPU ("x86_64", "aarch64") and that glibc or a later one, in `folder`."""
    library = folder / _library_name(machine, "Linux")
    folder.mkdir(parents=True, exist_ok=True)
    _compile(library, machine, "-target", f"{machine}-linux-gnu.{glibc}")
    return library


def _compile(library: Path, machine: str, *target: str) -> None:
    flags = _instruction_sets(machine)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        objects = []
        for source in sorted(_SOURCES.glob("*.cpp")):
            compiled = Path(folder) / f"{source.stem}.o"
            _run([*_FLAGS, *target, flags.get(source.name, flags[""]), "-c", str(source), "-o", str(compiled)])
            objects.append(str(compiled))
        built = Path(folder) / library.name
        _run([*target, "-shared", "-nostdlib++", "-o", str(built), *objects])
        built.replace(library)  # whoever builds at the same time makes the same file


def _run(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ziglang", "c++", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()[-20:]
        raise UnsupportedError(
            "the native NPU kernel could not be compiled; expected the PyPI package ziglang to do it. "
            "Install it (pip install ziglang==0.16.0) and try again. The compiler said:\n" + "\n".join(lines)
        )
