"""Packed layers remembered under a digest of everything that went into them; what has been damaged is made again."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from amlrealtimeai import resources
from amlrealtimeai.containers.files import remove_abandoned, replacing
from amlrealtimeai.containers.layer import Packed

# Per kind of layer: enough for a few checkouts and Python versions, small enough to forget about.
_KEPT = 4


def default_folder() -> Path:
    """$AMLREALTIMEAI_HOME/cache/layers, else amlrealtimeai/layers in $XDG_CACHE_HOME or ~/.cache."""
    if home := os.environ.get("AMLREALTIMEAI_HOME"):
        return Path(home) / "cache" / "layers"
    return resources.cache() / "layers"


class LayerCache:
    """Pairs of files `<kind>-<key>.json` (digests, sizes) and `<kind>-<key>.tar.gz` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _paths(self, kind: str, key: str) -> tuple[Path, Path]:
        return self.folder / f"{kind}-{key[:40]}.json", self.folder / f"{kind}-{key[:40]}.tar.gz"

    def find(self, kind: str, key: str) -> tuple[Packed, BinaryIO] | None:
        """The remembered layer, checked against its digest and open for reading; None when it is absent or damaged."""
        note, blob = self._paths(kind, key)
        try:
            packed = Packed(**json.loads(note.read_text()))
            file = blob.open("rb")
        except (OSError, ValueError, TypeError):
            return None
        if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" != packed.digest:
            file.close()
            return None
        file.seek(0)
        with suppress(OSError):
            os.utime(note)
        return packed, file

    def store(self, kind: str, key: str, write: Callable[[BinaryIO], Packed]) -> tuple[Packed, BinaryIO]:
        """Let `write` produce the layer and remember it; a process that dies meanwhile leaves nothing that counts."""
        note, blob = self._paths(kind, key)
        with replacing(blob) as file:
            packed = write(file)
        with replacing(note) as file:
            file.write(json.dumps(asdict(packed)).encode())
        remove_abandoned(self.folder, f".{kind}-")
        self._forget_old(kind)
        return packed, blob.open("rb")

    def _forget_old(self, kind: str) -> None:
        notes = []
        for note in self.folder.glob(f"{kind}-*.json"):
            with suppress(OSError):
                notes.append((note.stat().st_mtime, note))
        for _, note in sorted(notes, reverse=True)[_KEPT:]:
            note.unlink(missing_ok=True)
            note.with_suffix(".tar.gz").unlink(missing_ok=True)
