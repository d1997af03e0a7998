"""One layer of an image: a list of entries becomes a tar.gz that is the same bytes every time."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One path in the image (no leading slash): a file (`data` is its source or its bytes), a link, or a folder."""

    name: str
    data: Path | bytes | None = None
    mode: int = 0o644
    link: str = ""

    @property
    def size(self) -> int:
        """Bytes of content; 0 for links and folders."""
        return self.data.stat().st_size if isinstance(self.data, Path) else len(self.data or b"")

    def open(self) -> BinaryIO:
        """The content, to be read once."""
        return self.data.open("rb") if isinstance(self.data, Path) else io.BytesIO(self.data or b"")


@dataclass(frozen=True)
class Packed:
    """A written layer: digest and size of the tar.gz, digest of the tar inside (OCI: diff_id), content bytes."""

    digest: str
    diff_id: str
    size: int
    content_size: int


def complete(entries: Iterable[Entry]) -> list[Entry]:
    """The entries sorted by name, with every parent folder that is not listed itself (mode 0755)."""
    by_name = {entry.name: entry for entry in entries}
    for name in list(by_name):
        for parent in PurePosixPath(name).parents:
            if str(parent) != ".":
                by_name.setdefault(str(parent), Entry(str(parent), mode=0o755))
    return [by_name[name] for name in sorted(by_name)]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(entries: Sequence[Entry], *more: str) -> str:
    """SHA-256 over names, modes, links and contents: the key under which a packed layer is remembered."""
    total = hashlib.sha256("\0".join(more).encode())
    for entry in sorted(entries, key=lambda entry: entry.name):
        content = (
            file_digest(entry.data) if isinstance(entry.data, Path) else hashlib.sha256(entry.data or b"").hexdigest()
        )
        total.update(f"{entry.name}\0{entry.mode:o}\0{entry.link}\0{entry.data is None}\0{content}\n".encode())
    return total.hexdigest()


class _Gzip:
    """Writable: counts, compresses and hashes on the way to `target`. wbits 31 writes a gzip header with time 0."""

    def __init__(self, target: BinaryIO, level: int, on_bytes: Callable[[int], None]) -> None:
        self._target, self._on_bytes = target, on_bytes
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, 31)
        self.raw, self.packed = hashlib.sha256(), hashlib.sha256()
        self.position = self.size = 0

    def tell(self) -> int:
        """Bytes written so far, before compression; tarfile asks."""
        return self.position

    def write(self, data: bytes) -> int:
        self.position += len(data)
        self.raw.update(data)
        self._emit(self._compressor.compress(data))
        self._on_bytes(len(data))
        return len(data)

    def _emit(self, data: bytes) -> None:
        self.packed.update(data)
        self.size += len(data)
        self._target.write(data)

    def finish(self) -> None:
        """Write what the compressor still holds, and gzip's end."""
        self._emit(self._compressor.flush())


def _header(entry: Entry, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(entry.name)
    info.mode, info.size = entry.mode, size
    if entry.link:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
    elif entry.data is None:
        info.type = tarfile.DIRTYPE
    return info


def pack(
    entries: Iterable[Entry], target: BinaryIO, level: int, on_bytes: Callable[[int], None] = lambda n: None
) -> Packed:
    """Write the layer as tar.gz: sorted names, owner 0:0, time 0. `on_bytes` is told of each piece."""
    stream = _Gzip(target, level, on_bytes)
    content = 0
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, copybufsize=CHUNK) as tar:  # type: ignore[call-overload]
        for entry in complete(entries):
            size = entry.size
            content += size
            with entry.open() as file:
                tar.addfile(_header(entry, size), file if entry.data is not None else None)
    stream.finish()
    return Packed(f"sha256:{stream.packed.hexdigest()}", f"sha256:{stream.raw.hexdigest()}", stream.size, content)
