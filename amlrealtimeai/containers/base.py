"""The base layer: this machine's Python interpreter, its standard library and every shared library behind both."""

import os
import platform
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from amlrealtimeai.containers import elf
from amlrealtimeai.containers.layer import Entry
from amlrealtimeai.errors import UnsupportedError

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = "usr/local/bin/python3"
LIBRARIES = "usr/local/lib"
STDLIB = f"{LIBRARIES}/{VERSION}"
USER = 10001

# Not needed to serve: user interfaces, installers, tests, and what would bring a database or a terminal library along.
_LEFT_OUT = {
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py",
    "ensurepip", "venv", "lib2to3", "pydoc_data", "pydoc.py", "distutils", "curses", "dbm", "sqlite3", "idle_test",
    "__phello__", "__hello__.py", "this.py", "antigravity.py", "sitecustomize.py", "usercustomize.py",
}  # fmt: skip
_LEFT_OUT_STARTS = ("config-", "_sysconfigdata", "_test", "_xx", "xx", "_tkinter", "_curses", "_dbm", "_gdbm",
                    "_sqlite3", "_ctypes_test", "readline", "nis.", "ossaudiodev", "_codecs_", "_crypt", "_lsprof",
                    "audioop", "EXTERNALLY-MANAGED")  # fmt: skip
_SYSTEM_FOLDERS = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
# Loaded by name at run time, before glibc 2.34: the resolver behind getaddrinfo.
_RESOLVERS = ("libnss_files.so.2", "libnss_dns.so.2")
_SYSCONFIG = ("EXT_SUFFIX", "SOABI", "MULTIARCH", "SIZEOF_VOID_P", "Py_DEBUG", "Py_ENABLE_SHARED", "VERSION")


def architecture() -> str:
    """The processor's name in OCI terms. Raises UnsupportedError where this machine cannot provide a base layer."""
    names = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    machine = platform.machine()
    if sys.platform != "linux" or machine not in names:
        raise UnsupportedError(
            "an image is assembled from the running Linux system (x86-64 or arm64); "
            f"this one is {sys.platform} {machine}. "
            "Use amlrealtimeai.containers.dockerfile(model, folder, name=..., tag=...) and then: docker build <folder>"
        )
    return names[machine]


def entries(extension_modules: Iterable[Path]) -> list[Entry]:
    """Everything of the base layer, byte code aside. `extension_modules`: .so files of other layers to provide for."""
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    modules = _standard_library(stdlib)
    native = [entry.data for entry in modules if isinstance(entry.data, Path) and ".so" in entry.name]
    libraries = elf.closure([interpreter, *native, *extension_modules], [Path(sys.base_prefix) / "lib"])
    result = [_private(entry) for entry in modules]
    result.append(_private(Entry(PYTHON, interpreter, 0o755)))
    result.append(Entry("usr/local/bin/python", link="python3"))
    for name, path in libraries.items():
        result.append(_private(Entry(_library_place(name, path), path, 0o755)))
    return result + _resolvers(libraries) + _system_files() + [_sysconfig_data(stdlib)]


def _standard_library(root: Path) -> list[Entry]:
    result = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = filter(_kept, subfolders)
        for name in filter(_kept, names):
            place = Path(folder, name).relative_to(root).as_posix()
            result.append(Entry(f"{STDLIB}/{place}", Path(folder, name), 0o755 if ".so" in name else 0o644))
    return result


def _kept(name: str) -> bool:
    return name not in _LEFT_OUT and not name.startswith(_LEFT_OUT_STARTS)


def _private(entry: Entry) -> Entry:
    """The interpreter's own binaries without debug information and without the folder that it was built in."""
    prefix = sys.base_prefix
    assert isinstance(entry.data, Path)
    if not str(entry.data).startswith(f"{prefix}/") or not elf.is_elf(entry.data):
        return entry
    data = elf.trim(entry.data.read_bytes())
    return Entry(entry.name, data if prefix.startswith("/usr") else elf.anonymise(data, prefix), entry.mode)


def _library_place(name: str, path: Path) -> str:
    """System libraries stay where that system's loader looks; all others go beside Python's own."""
    if name.startswith("/"):
        return name.lstrip("/")
    if str(path).startswith(_SYSTEM_FOLDERS):
        return f"{str(path.parent).lstrip('/')}/{name}"
    return f"{LIBRARIES}/{name}"


def _resolvers(libraries: dict[str, Path]) -> list[Entry]:
    folder = libraries["libc.so.6"].parent if "libc.so.6" in libraries else Path("/nonexistent")
    found = [folder / name for name in _RESOLVERS if (folder / name).is_file()]
    return [Entry(f"{str(folder).lstrip('/')}/{path.name}", path.resolve(), 0o755) for path in found]


def _sysconfig_data(stdlib: Path) -> Entry:
    """What `sysconfig` needs to answer at all; the original lists every path of the machine that built Python."""
    values = {name: sysconfig.get_config_var(name) for name in _SYSCONFIG}
    name = sysconfig._get_sysconfigdata_name()  # type: ignore[attr-defined]
    return Entry(f"{STDLIB}/{name}.py", f"build_time_vars = {values!r}\n".encode())


def _system_files() -> list[Entry]:
    return [
        Entry("etc/passwd", f"root:x:0:0:root:/:/sbin/nologin\nserving:x:{USER}:{USER}::/tmp:/sbin/nologin\n".encode()),
        Entry("etc/group", f"root:x:0:\nserving:x:{USER}:\n".encode()),
        Entry("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n"),
        Entry("tmp", mode=0o1777),
    ]
