"""Opens a workspace's SQLite file. One connection per transaction: threads and forked processes share nothing."""

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from amlrealtimeai.errors import StoreError
from amlrealtimeai.store import failures, locks, schema

BUSY_SECONDS = 30.0
_RESERVE_BYTES = 256 << 10
T = TypeVar("T")


class Database:
    """The file `path`, created with its tables when it is not there; only its owner can read it.

    Raises StoreError for a file that is not ours, of a newer version, damaged, locked for too long or not writable;
    a transaction raises WorkspaceNotFoundError when the workspace was deleted, even if another has its name now.
    """

    def __init__(self, path: Path, check_new: Callable[[], None] = lambda: None) -> None:
        """check_new: raises where no empty database may be; called before there are tables in one."""
        self.path = path
        self._reserve = path.with_name("reserve")
        self._identity: str | None = None
        with failures.workspace(path.parent):
            # SQLite gives its -wal and -shm files the permissions of the main file.
            locks.make_private(path)
        version = self._patiently(self._first_version)  # before anything is changed: the file may not be ours
        self._patiently(lambda connection: connection.execute("PRAGMA journal_mode = WAL"))
        if version == 0:
            self._create(check_new)
        elif version < schema.SCHEMA_VERSION:
            self._migrate()
        with self.read() as connection:
            self._identity = _identity(connection)

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of everything, without waiting for writers."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def write(self, *, deletes: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction, alone among all processes; committed to the disk at the end, undone by any exception.

        deletes: it makes room, and may use the reserve for that.
        """
        with self._connection(spend_reserve=deletes) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def check_whole(self, connection: sqlite3.Connection) -> None:
        """Raise StoreError when SQLite finds pages or records of the file damaged."""
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise failures.damaged(self.path, found)

    @contextlib.contextmanager
    def _connection(self, *, spend_reserve: bool = True) -> Iterator[sqlite3.Connection]:
        with locks.workspace(self.path.parent, shared=True), failures.database(self.path):
            try:
                connection = self._connected()
            except sqlite3.OperationalError as problem:
                if not (spend_reserve and failures.is_full(problem) and self.give_up_reserve()):
                    raise
                connection = self._connected()
            try:
                yield connection
            finally:
                connection.close()  # undoes what was not committed

    def _connected(self) -> sqlite3.Connection:
        if not self.path.exists():  # asked before SQLite is: another workspace may be coming in its place
            raise failures.deleted(self.path.parent)
        address = f"{self.path.as_uri()}?mode=rw"  # never an empty database where the workspace was deleted
        connection = sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            found = _identity(connection)  # also where nothing is known yet: on a full disk the first look fails
            if self._identity is not None and found != self._identity:
                raise failures.deleted(self.path.parent)
        except BaseException:
            connection.close()
            raise
        return connection

    def keep_reserve(self) -> None:
        """Keep some room for the log that SQLite writes before it can read or delete anything; none on a full disk."""
        if self._reserve.exists():
            return
        try:
            self._reserve.write_bytes(secrets.token_bytes(_RESERVE_BYTES))  # which no file system makes smaller
        except OSError:
            self._reserve.unlink(missing_ok=True)

    def give_up_reserve(self) -> bool:
        """Free the reserve, for those who want to delete; False when there was none."""
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True

    def _patiently(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # The switch to WAL does not honour the busy timeout when several processes open a new file at once.
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with self._connection() as connection:
                    return work(connection)
            except StoreError as problem:
                busy = getattr(problem.__cause__, "sqlite_errorcode", 0) & 0xFF in (5, 6)
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _first_version(self, connection: sqlite3.Connection) -> int:
        connection.execute("BEGIN")  # one view: between two questions another process may create the tables
        return self._version(connection)

    def _version(self, connection: sqlite3.Connection) -> int:
        """Schema version of the file as this transaction sees it; 0 for an empty one."""
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty and (application != schema.APPLICATION_ID or version < 1):
            raise StoreError(f"{self.path} is an SQLite file, but not a workspace's. Choose another folder.")
        if version > schema.SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}; this amlrealtimeai reads up to {schema.SCHEMA_VERSION}. "
                "It was written by a newer one: pip install --upgrade amlrealtimeai."
            )
        return 0 if empty else version

    def _create(self, check_new: Callable[[], None]) -> None:
        with self.write() as connection:
            if self._version(connection) != 0:
                return  # another process was quicker
            check_new()
            for statement in schema.TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO facts VALUES ('id', ?)", (secrets.token_hex(16),))
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")

    def _migrate(self) -> None:
        """Bring the tables to this version, whole or not at all; one process does it, the others wait."""
        with self.write() as connection:
            for version in range(self._version(connection), schema.SCHEMA_VERSION):
                for statement in schema.MIGRATIONS[version]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")


def _identity(connection: sqlite3.Connection) -> str | None:
    """What tells a workspace from another one in the same place; None before there is one."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
        return None
    query = "SELECT value FROM facts WHERE name IN ('id', 'created') ORDER BY name DESC"  # older ones have no id
    found = connection.execute(query).fetchone()
    return None if found is None else str(found[0])
