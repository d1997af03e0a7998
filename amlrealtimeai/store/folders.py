"""A folder as one deterministic tar: equal content gives equal bytes, whatever its times, owners and order on disk."""

import os
import secrets
import shutil
import tarfile
from pathlib import Path
from typing import Any, cast

from amlrealtimeai.errors import InvalidInputError, StoreError
from amlrealtimeai.store.blobs import HashingWriter


def size(folder: Path) -> int:
    """Sum of the files' bytes; InvalidInputError for anything that is neither a file nor a folder."""
    return sum(path.stat().st_size for path in entries(folder) if path.is_file())


def entries(folder: Path) -> list[Path]:
    """Every file and folder below `folder`, ordered by name; links and devices are refused."""
    found = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
    for path in found:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidInputError(
                f"{path} is a link or a device; only files and folders can be stored. "
                "Copy the folder with its links followed (cp -rL) and register the copy."
            )
    return found


def pack(folder: Path, writer: HashingWriter) -> None:
    """Write the tar of everything below `folder`; names are relative to it."""
    with tarfile.open(fileobj=cast(Any, writer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in entries(folder):
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                continue
            with path.open("rb") as stream:
                info.size, info.mode = os.fstat(stream.fileno()).st_size, 0o644
                archive.addfile(info, stream)


def digest(folder: Path) -> str:
    """Digest that the folder's tar would have."""
    writer = HashingWriter()
    pack(folder, writer)
    return writer.digest


def unpack(archive_path: Path, target: Path) -> None:
    """Create the folder `target` from a tar; it appears whole or not at all.

    Only files and folders that stay inside `target` are made: no links, devices, absolute names or "..".
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        partial.mkdir()
        with tarfile.open(archive_path, "r:") as archive:
            for member in archive:
                _place(archive, member, partial)
        if target.exists():
            replaced = target.with_name(f".{target.name}.{secrets.token_hex(6)}.old")
            target.rename(replaced)
            partial.rename(target)
            shutil.rmtree(replaced)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    path = root / member.name
    inside = path.resolve().is_relative_to(root.resolve()) and ".." not in Path(member.name).parts
    if not inside or not (member.isreg() or member.isdir()):
        raise StoreError(
            f"{root.name} would get {member.name!r}, which is not a file or folder inside it. It is not ours."
        )
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None
    with source, path.open("xb") as out:
        shutil.copyfileobj(source, out)
