"""The packages layer: the installed distributions that serving imports, without tests, headers and tools."""

import re
from importlib import metadata
from pathlib import Path, PurePosixPath

from amlrealtimeai.containers.layer import Entry
from amlrealtimeai.errors import ContainerError

PLACE = "app/packages"
# Of what `pip install amlrealtimeai` installs, these serve nothing.
_NOT_SERVING = {"cryptography", "tqdm"}

_LEFT_OUT_FOLDERS = {"tests", "test", "__pycache__", "include", "testing"}
_LEFT_OUT_SUFFIXES = {
    ".pyi",
    ".pyc",
    ".h",
    ".hpp",
    ".a",
    ".lib",
    ".pxd",
    ".pyx",
    ".c",
    ".cpp",
    ".typed",
    ".f",
    ".f90",
    ".proto",
}
# Authoring tools inside packages that serving only reads from, and ONNX Runtime's second copy for C programs.
_LEFT_OUT_PLACES = (
    "numpy/f2py/", "numpy/distutils/", "onnxruntime/tools/", "onnxruntime/transformers/", "onnxruntime/quantization/",
    "onnxruntime/datasets/", "onnxruntime/capi/libonnxruntime.so", "grpc/_cython/_credentials/roots.pem",
)  # fmt: skip
_KEPT_OF_DIST_INFO = re.compile(r"^(METADATA|(LICEN[CS]E|COPYING|NOTICE|AUTHORS).*|licenses/.*)$", re.IGNORECASE)


def distributions() -> list[metadata.Distribution]:
    """What this package requires to serve, and what that requires, sorted by name; extras and absent ones left out."""
    found: dict[str, metadata.Distribution] = {}
    roots = [name for name in _required(metadata.distribution("amlrealtimeai")) if name not in _NOT_SERVING]
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in roots:
                raise ContainerError(
                    f"serving needs the package {name}, which is not installed: pip install {name}"
                ) from None
            continue
        queue += _required(found[name])
    return [found[name] for name in sorted(found)]


def _required(distribution: metadata.Distribution) -> list[str]:
    """Names of what a distribution requires without its extras, spelt as indices spell them."""
    lines = [line for line in distribution.requires or [] if "extra ==" not in line]
    names = [match.group() for line in lines if (match := re.match(r"[A-Za-z0-9._-]+", line))]
    return [re.sub(r"[-_.]+", "-", name).lower() for name in names]


def entries() -> list[Entry]:
    """The files of the packages layer, byte code aside. Raises ContainerError naming an incomplete package."""
    result = []
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if distribution.files is None:
            raise ContainerError(
                f"the package {name} has no list of its files (RECORD): pip install --force-reinstall {name}"
            )
        for file in distribution.files:
            place = PurePosixPath(file.as_posix())
            if not _kept(place):
                continue
            path = Path(str(distribution.locate_file(file)))
            if not path.is_file():
                raise ContainerError(
                    f"{path.name} of the package {name} is missing: pip install --force-reinstall {name}"
                )
            result.append(Entry(f"{PLACE}/{place}", path, 0o755 if is_library(place.name) else 0o644))
    return result


def is_library(name: str) -> bool:
    """Whether a file name is that of a shared library (x.so, x.so.6, x-1a2b.so.1.2)."""
    return re.search(r"\.so(\.[0-9.]+)?$", name) is not None


def _kept(place: PurePosixPath) -> bool:
    if ".." in place.parts or place.is_absolute() or place.suffix in _LEFT_OUT_SUFFIXES:
        return False
    if place.parts[0].endswith(".dist-info"):
        return _KEPT_OF_DIST_INFO.match("/".join(place.parts[1:])) is not None
    return not _LEFT_OUT_FOLDERS.intersection(place.parts[:-1]) and not str(place).startswith(_LEFT_OUT_PLACES)
