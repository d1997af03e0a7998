"""The app layer: the parts of this package that serve a model, and the native kernel, built before it goes in."""

from pathlib import Path

import amlrealtimeai
from amlrealtimeai.containers import elf
from amlrealtimeai.containers.layer import Entry
from amlrealtimeai.npu import native

PLACE = "app"
# What `python -m amlrealtimeai.serving` reads; authoring, lessons and deployment stay outside.
MODULES = ("__init__.py", "command_line.py", "errors.py", "lazy.py", "resources.py", "retired.py")
ROOMS = ("serving", "artifact", "npu")

_LEFT_OUT = {"__pycache__", "tests"}
_LEFT_OUT_SUFFIXES = {".pyc", ".so", ".dylib", ".dll", ".o", ".lock", ".tmp"}


def root() -> Path:
    """The folder of the package `amlrealtimeai`."""
    return Path(amlrealtimeai.__file__).resolve().parent


def sources() -> list[Entry]:
    """Our own files for the image, without the native library and without byte code."""
    paths = [root() / name for name in MODULES]
    for room in ROOMS:
        paths += [path for path in (root() / room).rglob("*") if path.is_file()]
    places = [(path, path.relative_to(root())) for path in paths]
    return [
        Entry(f"{PLACE}/amlrealtimeai/{place.as_posix()}", path)
        for path, place in sorted(places)
        if not _LEFT_OUT.intersection(place.parts)
        and place.suffix not in _LEFT_OUT_SUFFIXES
        and not any(part.startswith(".") for part in place.parts)
    ]


def entries() -> list[Entry]:
    """Everything of the app layer, byte code aside."""
    return [*sources(), _kernel()]


def _kernel() -> Entry:
    """The compiled kernel beside its Python module, where it is found without a compiler."""
    library = native.library_path()
    place = Path(native.__file__).resolve().parent.relative_to(root())
    return Entry(f"{PLACE}/amlrealtimeai/{place.as_posix()}/{library.name}", elf.trim(library.read_bytes()), 0o755)
