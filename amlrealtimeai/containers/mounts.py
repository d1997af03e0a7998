"""What a container sees of this machine: files and folders, and secrets, which its service alone can read."""

import csv
import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from amlrealtimeai.containers import base
from amlrealtimeai.containers.engine import Engine
from amlrealtimeai.errors import InvalidInputError, MissingFileError

SECRETS = "/run/secrets"
"""Where a container finds its secrets, one file each."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, `source`, that a container sees at the absolute path `target`."""

    source: str | Path
    target: str
    read_only: bool = True

    def options(self) -> list[str]:
        """For the engine's `run`. Raises MissingFileError or InvalidInputError."""
        source, target = Path(self.source).resolve(), PurePosixPath(self.target)
        if not source.exists():
            raise MissingFileError(f"{source} does not exist; a container cannot see it. Check the path.")
        if not target.is_absolute() or ".." in target.parts or len(target.parts) < 2:
            raise InvalidInputError(f"expected an absolute path below / in the container, got {self.target!r}")
        fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if self.read_only else [])]
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(fields)  # a path may hold a comma
        return ["--mount", line.getvalue()]


class SecretFolder:
    """Secrets of one service, by file name, in a private folder that its container sees as /run/secrets.

    They are never in an image, in an environment variable or on a command line. `write` replaces them one at a time,
    each at once; a running service takes a new certificate for its next connections.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._shown = self.folder / "shown"

    def write(self, values: Mapping[str, str]) -> None:
        """Add or replace secrets; a certificate goes last, since it is what a service looks at."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._shown.mkdir(exist_ok=True)
        if _as_root():
            os.chown(self._shown, base.USER, base.USER)
        self._shown.chmod(0o550)
        for name in sorted(values, key=lambda name: name.endswith((".crt", ".pem")) and "key" not in name):
            if not name or "/" in name or name.startswith("."):
                raise InvalidInputError(f"expected the name of a secret without '/' and a leading '.', got {name!r}")
            self._write(self._shown / name, values[name])

    def options(self, engine: Engine) -> list[str]:
        """For the engine's `run`."""
        # Without root's rights the files are their owner's, and the service reads them through the group.
        group = [] if _as_root() else ["--group-add", str(engine.own_group())]
        return [*Mount(self._shown, SECRETS).options(), *group]

    def remove(self) -> None:
        """Forget the secrets."""
        if self._shown.exists():
            self._shown.chmod(0o750)  # else its owner, unless that is root, could not take a file out of it
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, path: Path, text: str) -> None:
        partial = self.folder / f"{path.name}.part"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        if _as_root():
            os.chown(partial, base.USER, base.USER)
        else:
            partial.chmod(0o640)
        self._shown.chmod(0o750)
        partial.replace(path)
        self._shown.chmod(0o550)


def _as_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
