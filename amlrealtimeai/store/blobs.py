"""Content-addressed files: blobs/sha256/<digest>. Written to a temporary file, flushed to the disk, then renamed."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from amlrealtimeai.errors import StoreError
from amlrealtimeai.store import failures, temporary

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Staged:
    """Bytes that are safely on the disk, but not yet a blob."""

    path: Path
    digest: str
    size: int


class HashingWriter:
    """A binary stream that hashes and counts what passes through, on its way to `stream` if there is one."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Hash and pass on."""
        self._hash.update(data)
        self.size += len(data)
        if self._stream is not None:
            self._stream.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of everything written so far."""
        return self._hash.hexdigest()


def copy(source: BinaryIO, target: HashingWriter) -> None:
    """Copy everything that is left in `source`."""
    while chunk := source.read(_CHUNK):
        target.write(chunk)


def sync_folder(path: Path) -> None:
    """Make renames in `path` durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_of(root: Path) -> Path:
    """Where the blobs of a store are."""
    return root / "blobs" / "sha256"


class Blobs:
    """The blobs and the temporary files below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = folder_of(root)
        self.temporary = root / "tmp"
        with failures.workspace(root):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.temporary.mkdir(exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is."""
        return self.folder / digest

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[Path]:
        """A new folder on the store's own disk, removed at the end, or by others when its maker was killed."""
        with temporary.new_path(self.temporary) as path:
            with failures.workspace(self._root):
                path.mkdir()
            try:
                yield path
            except Exception as problem:
                if path.is_dir():
                    raise
                raise failures.deleted(self._root) from problem  # whatever it looked like to who works in it

    @contextlib.contextmanager
    def stage(self, write: Callable[[HashingWriter], None], needed: int | None) -> Iterator[Staged]:
        """Write a new temporary file with `write` and flush it; it is removed at the end unless it was committed."""
        with temporary.new_path(self.temporary) as path:
            with failures.workspace(self._root, self.folder, needed):
                with path.open("xb") as stream:
                    writer = HashingWriter(stream)
                    write(writer)
                    stream.flush()
                    os.fsync(stream.fileno())
                _make_read_only(path)
            yield Staged(path, writer.digest, writer.size)

    @contextlib.contextmanager
    def adopt(self, path: Path) -> Iterator[Staged]:
        """Like stage, for a file that was made below `temporary` and is moved instead of copied."""
        writer = HashingWriter()
        with failures.workspace(self._root, self.folder):
            with path.open("rb+") as stream:
                copy(stream, writer)
                os.fsync(stream.fileno())
            _make_read_only(path)
        yield Staged(path, writer.digest, writer.size)

    def commit(self, staged: Staged) -> None:
        """Make the staged bytes a blob. Call it while holding the write lock of the database.

        An equal blob is replaced: the new bytes have just been hashed, the old ones may have suffered.
        """
        final = self.path(staged.digest)
        with failures.workspace(self._root, self.folder, staged.size):
            try:
                staged.path.replace(final)
            except PermissionError:  # Windows, while a reader has the equal blob open
                self.verify(staged.digest)
            sync_folder(self.folder)

    @contextlib.contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        """The blob's bytes, not yet verified; StoreError when it is missing."""
        try:
            stream = self.path(digest).open("rb")
        except FileNotFoundError:
            raise StoreError(
                f"{self.path(digest)} is missing: something removed it. Register the object again."
            ) from None
        with stream:
            yield stream

    def verify(self, digest: str) -> None:
        """Raise StoreError unless the blob's bytes still have their digest."""
        writer = HashingWriter()
        with self.open(digest) as stream:
            copy(stream, writer)
        self._check(digest, writer.digest)

    def read(self, digest: str) -> bytes:
        """The whole blob, verified."""
        with self.open(digest) as stream:
            data = stream.read()
        self._check(digest, hashlib.sha256(data).hexdigest())
        return data

    def export(self, digest: str, target: Path) -> None:
        """Copy the blob to the file `target`, verified; an existing file is replaced at once or not at all."""
        partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        try:
            with self.open(digest) as stream, failures.disk(target.parent, os.fstat(stream.fileno()).st_size):
                with partial.open("xb") as out:
                    writer = HashingWriter(out)
                    copy(stream, writer)
                self._check(digest, writer.digest)
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _check(self, digest: str, found: str) -> None:
        if found != digest:
            raise StoreError(
                f"{self.path(digest)} is damaged: its bytes have the digest {found[:12]}, expected {digest[:12]}. "
                "Register the same file again (that repairs it)."
            )

    def unreferenced(self, used: set[str]) -> list[Path]:
        """Blobs that nothing uses; to be removed only while holding the write lock of the database."""
        return [path for path in self.folder.iterdir() if path.name not in used]


def digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    writer = HashingWriter()
    with path.open("rb") as stream:
        copy(stream, writer)
    return writer.digest


def _make_read_only(path: Path) -> None:
    if os.name != "nt":  # where a read-only file could not be removed
        path.chmod(0o400)
