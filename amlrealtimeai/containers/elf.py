"""What an ELF file loads, and two edits to it: cut off what the loader never reads, hide a path of the build machine.

Layout from the System V ABI, "Program Header" and "Dynamic Section"; 64-bit little-endian files only.
"""

import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from amlrealtimeai.errors import ContainerError

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")


@dataclass(frozen=True)
class Loads:
    """What the dynamic loader is asked for: library names, search path entries and the loader's own path."""

    needed: tuple[str, ...]
    search: tuple[str, ...]
    loader: str


def is_elf(path: Path) -> bool:
    """Whether the file starts with the ELF magic number."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _segments(data: bytes | mmap.mmap) -> list[tuple[int, int, int, int]]:
    """(type, file offset, virtual address, size in the file) of every program header."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ContainerError("expected a 64-bit little-endian ELF file; other processors are not supported")
    header = _HEADER.unpack_from(data)
    offset, size, count = header[5], header[9], header[10]
    rows = (_SEGMENT.unpack_from(data, offset + index * size) for index in range(count))
    return [(row[0], row[2], row[3], row[5]) for row in rows]


def read(path: Path) -> Loads:
    """Names and search path of one executable or shared library; `$ORIGIN` is replaced by its real folder."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _loads(data, str(path.resolve().parent))


def _loads(data: mmap.mmap, origin: str) -> Loads:
    segments = _segments(data)
    loader = next((data[at : at + size - 1].decode() for kind, at, _, size in segments if kind == _PT_INTERP), "")
    dynamic = next(((at, size) for kind, at, _, size in segments if kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return Loads((), (), loader)
    table = list(_DYNAMIC.iter_unpack(data[dynamic[0] : dynamic[0] + dynamic[1] // _DYNAMIC.size * _DYNAMIC.size]))
    address = next(value for tag, value in table if tag == _DT_STRTAB)
    strings = next(
        at + address - start
        for kind, at, start, size in segments
        if kind == _PT_LOAD and start <= address < start + size
    )

    def text(value: int) -> str:
        return data[strings + value : data.find(b"\0", strings + value)].decode()

    search = ":".join(text(value) for tag, value in table if tag in (_DT_RPATH, _DT_RUNPATH))
    search = search.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
    return Loads(
        tuple(text(value) for tag, value in table if tag == _DT_NEEDED),
        tuple(entry for entry in search.split(":") if entry),
        loader,
    )


def _configured_folders(conf: Path = Path("/etc/ld.so.conf")) -> list[str]:
    """Folders that /etc/ld.so.conf and the files it includes name."""
    if not conf.is_file():
        return []
    folders = []
    for line in conf.read_text(errors="replace").splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["include"]:
            base = Path("/") if words[1].startswith("/") else conf.parent
            for child in sorted(base.glob(words[1].lstrip("/"))):
                folders += _configured_folders(child)
        else:
            folders += words
    return folders


def _machine(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(20)[18:20]


def closure(files: Iterable[Path], extra_search: Iterable[Path] = ()) -> dict[str, Path]:
    """Every shared library that `files` need, directly or not: name asked for -> file. The loader's name is its path.

    Libraries already among `files` are not repeated. A name that nothing provides raises ContainerError.
    """
    files = sorted({file.resolve() for file in files})
    given = {file.name for file in files}
    machine = _machine(files[0])
    default = [*map(str, extra_search), *os.environ.get("LD_LIBRARY_PATH", "").split(":"), *_configured_folders()]
    default += ["/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    found: dict[str, Path] = {}
    # A library also inherits the search path of whoever asked for it (RPATH); the loader does the same.
    queue: list[tuple[Path, tuple[str, ...]]] = [(file, ()) for file in files]
    while queue:
        file, inherited = queue.pop()
        loads = read(file)
        if loads.loader:
            found[loads.loader] = Path(loads.loader).resolve()
        search = loads.search + inherited
        for name in loads.needed:
            if name in found or name in given or any(name == Path(loader).name for loader in found):
                continue
            places = (Path(folder) / name for folder in (*search, *default) if folder)
            place = next((place for place in places if place.is_file() and _machine(place) == machine), None)
            if place is None:
                raise ContainerError(
                    f"{file} needs the library {name}, which is in none of {', '.join(filter(None, default))}"
                )
            found[name] = place.resolve()
            queue.append((place.resolve(), search))
    return found


def trim(data: bytes) -> bytes:
    """The file without symbols, debug information and section headers, none of which the loader reads."""
    end = max(at + size for kind, at, _, size in _segments(data) if kind == _PT_LOAD)
    header = list(_HEADER.unpack_from(data))
    end = max(end, header[5] + header[9] * header[10])
    header[6] = header[11] = header[12] = header[13] = 0
    return _HEADER.pack(*header) + data[_HEADER.size : end]


def anonymise(data: bytes, prefix: str) -> bytes:
    """The file with the folders above `prefix` overwritten by slashes; no byte moves.

    The last folder's name stays: linkers store a string that ends another one only once, and "3.11.7" ends
    "/home/ada/.pyenv/versions/3.11.7".
    """
    parent, _, name = prefix.rpartition("/")
    return data.replace(f"{parent}/{name}".encode(), ("/" * (len(parent) + 1) + name).encode())
