"""The store of one workspace: rows with versions, blobs, and the rule that nothing in use is deleted."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from amlrealtimeai.errors import InvalidInputError, MissingFileError, StoreError, WorkspaceNotFoundError
from amlrealtimeai.store import blobs, failures, folders, locks, rows, temporary
from amlrealtimeai.store.blobs import Blobs, HashingWriter, Staged
from amlrealtimeai.store.database import Database
from amlrealtimeai.store.rows import Key, Row

DATABASE = "store.sqlite3"
"""Name of the database in a store's folder."""
_SERVER_ID = re.compile("[0-9a-f]{16}")


class Store:
    """The folder `path`, created when it is not there. Safe to use from many threads and processes at once.

    A change is one SQLite transaction; bytes are on the disk before the row that names them, so an object that is
    listed is whole even when the process was killed. Needs a local disk: SQLite's WAL does not span machines.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        with self._made():
            self.database = Database(self.path / DATABASE, self._check_new)
            self.blobs = Blobs(self.path)
            with contextlib.suppress(StoreError):
                self.collect_garbage()
            self.database.keep_reserve()

    @classmethod
    def opened(cls, path: Path) -> "Store | None":
        """The store in this folder, or None where there is none; nothing is made."""
        with contextlib.suppress(WorkspaceNotFoundError), locks.workspace(path, shared=True):
            return cls(path) if (path / DATABASE).is_file() else None
        return None

    def remove(self, doomed: Path) -> bool:
        """Move the folder to `doomed`, so that it is gone at once for everyone; False when there are webservices.

        Waits for transactions that have begun. Raises WorkspaceNotFoundError when somebody else was quicker.
        """
        with locks.workspace(self.path, shared=False):
            if self.select("webservices"):
                return False
            with failures.workspace(self.path):
                self.path.rename(doomed)
        return True

    @contextlib.contextmanager
    def _made(self) -> Iterator[None]:
        """Make the folder where there is none, and hold it: between the two it may be deleted."""
        with contextlib.ExitStack() as stack:
            while True:
                with failures.disk(self.path):
                    self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
                try:
                    stack.enter_context(locks.workspace(self.path, shared=True))
                    break
                except WorkspaceNotFoundError:
                    continue
            yield

    def _check_new(self) -> None:
        """Bytes without any row are those of a database that was lost, not garbage."""
        folder = blobs.folder_of(self.path)
        count = len(list(folder.iterdir())) if folder.is_dir() else 0
        if count:
            raise StoreError(
                f"{self.path / DATABASE} is empty or was lost, but {count} models and images are in {folder}. "
                "Restore it from a backup, or move the folder away and create the workspace again."
            )

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def logs(self) -> Path:
        """Folder of build and service logs."""
        return self._folder("logs")

    @property
    def run(self) -> Path:
        """Folder of the lock files of running servers."""
        return self._folder("run")

    def _folder(self, name: str) -> Path:
        with failures.workspace(self.path):
            (self.path / name).mkdir(exist_ok=True)
        return self.path / name

    @contextlib.contextmanager
    def staged(self, source: Path) -> Iterator[Staged]:
        """The bytes of a file, or the deterministic tar of a folder, flushed to the store's disk but not yet listed."""
        if source.is_dir():
            write: Callable[[HashingWriter], None] = lambda writer: folders.pack(source, writer)  # noqa: E731
            needed = folders.size(source)
        elif source.is_file():
            write, needed = lambda writer: _copy_file(source, writer), source.stat().st_size
        elif source.exists():
            raise InvalidInputError(
                f"{source} is neither a file nor a folder; expected one of them. Write what it gives into a file."
            )
        else:
            raise MissingFileError(f"{source} does not exist; expected a file or a folder. Check the path.")
        with self.blobs.stage(write, needed) as staged:
            yield staged

    def export(self, digest: str, target: Path, *, is_folder: bool) -> None:
        """Copy a blob to the file `target`, or unpack it as the folder `target`; verified, whole or not at all."""
        if target.exists() and target.is_dir() != is_folder:
            found, expected = ("folder", "file") if target.is_dir() else ("file", "folder")
            raise InvalidInputError(f"{target} is a {found}; expected the path of a {expected}. Choose another one.")
        if not is_folder:
            self.blobs.export(digest, target)
            return
        self.blobs.verify(digest)
        with failures.disk(target.parent, self.blobs.path(digest).stat().st_size):
            folders.unpack(self.blobs.path(digest), target)

    def kept(self, digest: str, filename: str, *, is_folder: bool) -> Path:
        """Path of a copy with the name `filename`, for readers that want a real file or folder; repaired if altered."""
        target = self._folder("kept") / digest / filename
        if _is_copy(digest, target):
            return target
        with self.blobs.temporary_folder() as made:  # in "kept", a copy whose maker is killed would stay
            self.export(digest, made / filename, is_folder=is_folder)
            with failures.workspace(self.path):
                target.parent.mkdir(exist_ok=True)
                _move(made / filename, target, digest)
        return target

    def collect_garbage(self) -> int:
        """Remove blobs that no row names and what processes that have ended left; returns how many were removed.

        Writers turn bytes into a blob and name it in one transaction, so a blob seen here without a name has no future.
        """
        with failures.workspace(self.path):
            return self._collect_garbage()

    def _collect_garbage(self) -> int:
        removed = 0
        with self.database.read() as connection:
            candidates = self.blobs.unreferenced(rows.used_blobs(connection))
        if candidates:
            with self.database.write() as connection:
                self.database.check_whole(connection)  # else a damaged row's bytes would be taken for garbage
                for path in self.blobs.unreferenced(rows.used_blobs(connection)):
                    removed += self._forget(path.name)
        self._forget_dead_servers()
        return removed + temporary.sweep(self.blobs.temporary)

    def _forget_dead_servers(self) -> None:
        """Remove the rows and files of servers that have ended: a private key must not stay behind."""
        for id in {path.name.partition(".")[0] for path in (self.path / "run").glob("*.*")}:
            if not _SERVER_ID.fullmatch(id):
                continue
            with locks.if_free(self.path / "run" / f"{id}.lock") as free:
                if free:
                    self.forget_server(id)

    def forget_server(self, id: str) -> None:
        """Remove what is left of a server that has ended; its services are without a server then."""
        with self.database.write() as connection:
            connection.execute("DELETE FROM servers WHERE id = ?", (id,))
        for path in sorted(self.run.glob(f"{id}.*"), key=lambda path: path.suffix == ".lock"):  # its lock goes last
            temporary.remove(path)

    def add_version(self, table: str, row: Row, staged: Staged, version: int | None = None) -> int:
        """List a new object of a versioned table with its bytes; returns the version.

        `version` is one from `next_version`; without it the next one is taken in the same transaction.
        """
        with self.database.write() as connection:
            if version is None:
                version = rows.count_up(connection, table, row["name"])
            self.blobs.commit(staged)
            row = {**row, "version": version, "blob": staged.digest, "size": staged.size}
            rows.append(connection, table, {"created": rows.now(), **row})
        return version

    def next_version(self, table: str, name: str) -> int:
        """Reserve a version for an object that takes a while to make."""
        with self.database.write() as connection:
            return rows.count_up(connection, table, name)

    def insert(self, table: str, row: Row) -> None:
        """List a new object of a table without versions; InvalidInputError when its name is taken."""
        with self.database.write() as connection:
            rows.insert(connection, table, row)

    def select(self, table: str, **where: Any) -> list[Row]:
        """Rows whose columns equal `where` (None means any), oldest first."""
        with self.database.read() as connection:
            return rows.select(connection, table, **where)

    def find(self, table: str, **key: Any) -> Row | None:
        """The row with this primary key, or None."""
        with self.database.read() as connection:
            return rows.find(connection, table, key)

    def require(self, table: str, key: Key) -> Row:
        """The row with this primary key; NotFoundError when it is gone."""
        with self.database.read() as connection:
            return rows.required(connection, table, key)

    def update(self, table: str, key: Key, **changes: Any) -> Row:
        """Change columns of one row and return it; NotFoundError when it is gone."""
        with self.database.write() as connection:
            return rows.update(connection, table, key, **changes)

    def change(self, table: str, key: Key, function: Callable[[Row], Row]) -> Row:
        """Read a row, compute changes from it and write them, as one transaction (so no other change is lost)."""
        with self.database.write() as connection:
            return rows.update(connection, table, key, **function(rows.required(connection, table, key)))

    def delete(self, table: str, key: Key) -> None:
        """Delete a row, its secrets, and its bytes when nothing else uses them.

        Raises InUseError naming the users, NotFoundError when it is gone.
        """
        try:
            row = self._unlist(table, key)
        except StoreError as problem:
            if not (failures.is_full(problem.__cause__) and self.database.give_up_reserve()):
                raise
            row = self._unlist(table, key)
        if "blob" in row:
            # Only after the commit: a kill in between leaves a blob too many, never a row without its blob.
            self._remove_blob(row["blob"])
        self.database.keep_reserve()

    def _unlist(self, table: str, key: Key) -> Row:
        with self.database.write(deletes=True) as connection:
            return rows.delete(connection, table, key)

    def _remove_blob(self, digest: str) -> None:
        with self.database.write(deletes=True) as connection:
            if digest not in rows.used_blobs(connection):
                self._forget(digest)

    def _forget(self, digest: str) -> int:
        temporary.remove(self.path / "kept" / digest)
        return temporary.remove(self.blobs.path(digest))

    def secrets(self, kind: str, owner: str) -> dict[str, str]:
        """Secrets of one object, by name."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT name, value FROM secrets WHERE kind = ? AND owner = ?", (kind, owner))
            return {row["name"]: row["value"] for row in rows}

    def facts(self) -> dict[str, str]:
        """What the workspace says about itself (its name, location, ...)."""
        with self.database.read() as connection:
            return {row["name"]: row["value"] for row in connection.execute("SELECT name, value FROM facts")}

    def add_facts(self, values: Mapping[str, str]) -> bool:
        """Add facts, all or, when one of them is known already, none; whether that was done."""
        with self.database.write() as connection:
            known = {row["name"] for row in connection.execute("SELECT name FROM facts")}
            if known & set(values):
                return False
            connection.executemany(
                "INSERT INTO facts VALUES (?, ?)",
                [(name, rows.storable(name, value)) for name, value in values.items()],
            )
            return True


def _copy_file(source: Path, writer: HashingWriter) -> None:
    with source.open("rb") as stream:
        blobs.copy(stream, writer)


def _is_copy(digest: str, path: Path) -> bool:
    if path.is_dir():
        return folders.digest(path) == digest
    return path.is_file() and blobs.digest(path) == digest


def _move(made: Path, target: Path, digest: str) -> None:
    """Put a copy in its place; what was altered there goes, an equal copy of a quicker process stays."""
    try:
        made.replace(target)
    except OSError:
        if not _is_copy(digest, target):
            target.rename(made.with_name(f"altered {made.name}"))
            made.replace(target)
