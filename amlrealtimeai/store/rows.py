"""Rows of a workspace's tables, inside a transaction: what is listed, found, changed and deleted, and who uses it."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from amlrealtimeai.errors import (
    ComputeTargetNotFoundError,
    ImageNotFoundError,
    InUseError,
    InvalidInputError,
    ModelNotFoundError,
    NotFoundError,
    WebserviceNotFoundError,
)
from amlrealtimeai.store import schema

Row = dict[str, Any]
Key = Mapping[str, Any]


def now() -> str:
    """The present moment as stored: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def insert(connection: sqlite3.Connection, table: str, row: Row) -> None:
    """List a new row; InvalidInputError when its name is taken."""
    key = {column: row[column] for column in schema.KEYS[table]}
    if find(connection, table, key) is not None:
        raise InvalidInputError(f"{_noun(table)} {_id(key)!r} exists already. Choose another name, or delete it first.")
    append(connection, table, {"created": now(), **row})


def select(connection: sqlite3.Connection, table: str, **where: Any) -> list[Row]:
    """Rows whose columns equal `where` (None means any), oldest first."""
    key = {column: value for column, value in where.items() if value is not None}
    condition = f" WHERE {_where(key)}" if key else ""
    values = [storable(column, value) for column, value in key.items()]
    rows = connection.execute(f"SELECT * FROM {table}{condition} ORDER BY created, rowid", values)
    return [_decoded(row) for row in rows]


def find(connection: sqlite3.Connection, table: str, key: Key) -> Row | None:
    """The row with this primary key, or None. A part of a key without a value is an InvalidInputError, not "any"."""
    for column, value in key.items():
        expected = int if column == "version" else str
        if not isinstance(value, expected) or not value:
            raise InvalidInputError(f"{_noun(table)} {column}: expected a {_WORDS[expected]}, got {value!r}")
        storable(column, value)
    row = connection.execute(f"SELECT * FROM {table} WHERE {_where(key)}", list(key.values())).fetchone()
    return None if row is None else _decoded(row)


def update(connection: sqlite3.Connection, table: str, key: Key, **changes: Any) -> Row:
    """Change columns of one row and return it; NotFoundError when it is gone."""
    row = required(connection, table, key)
    if changes:
        columns = ", ".join(f"{column} = ?" for column in changes)
        values = [_encoded(column, value) for column, value in changes.items()]
        with _references_checked(connection, table, {**row, **changes}):
            connection.execute(f"UPDATE {table} SET {columns} WHERE {_where(key)}", [*values, *key.values()])
    return {**row, **changes}


def delete(connection: sqlite3.Connection, table: str, key: Key) -> Row:
    """Delete a row and its secrets, and return it; InUseError names its users, NotFoundError says that it is gone."""
    row = required(connection, table, key)
    _refuse_if_used(connection, table, key)
    connection.execute(f"DELETE FROM {table} WHERE {_where(key)}", list(key.values()))
    connection.execute("DELETE FROM secrets WHERE kind = ? AND owner = ?", (table, row.get("name", row.get("id"))))
    return row


def set_secrets(connection: sqlite3.Connection, kind: str, owner: str, values: Mapping[str, str]) -> None:
    """Add or replace secrets of one object."""
    rows = [(kind, owner, name, value) for name, value in values.items()]
    connection.executemany("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?)", rows)


def append(connection: sqlite3.Connection, table: str, row: Row) -> None:
    """List a new row whose name is known to be free."""
    marks = ", ".join("?" * len(row))
    values = [_encoded(column, value) for column, value in row.items()]
    with _references_checked(connection, table, row):
        connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", values)


def count_up(connection: sqlite3.Connection, table: str, name: str) -> int:
    """The next version of this name: never given twice."""
    storable("name", name)
    connection.execute(
        "INSERT INTO counters VALUES (?, ?, 1) ON CONFLICT (kind, name) DO UPDATE SET last = last + 1", (table, name)
    )
    found = connection.execute("SELECT last FROM counters WHERE kind = ? AND name = ?", (table, name)).fetchone()
    return int(found["last"])


_WORDS = {str: "text", int: "number"}


def required(connection: sqlite3.Connection, table: str, key: Key) -> Row:
    """The row with this primary key; NotFoundError when it is gone."""
    row = find(connection, table, key)
    if row is None:
        raise _missing(table, key)
    return row


_NOT_FOUND = {
    "models": ModelNotFoundError,
    "images": ImageNotFoundError,
    "compute_targets": ComputeTargetNotFoundError,
    "webservices": WebserviceNotFoundError,
}


def _missing(table: str, key: Key) -> NotFoundError:
    """The error for a row that is not there, by the words that old code looks for."""
    word = "".join(part.capitalize() for part in _noun(table).split())
    where = f": it was deleted. Look at workspace.{table}." if table in _NOT_FOUND else "."
    text = f"{word}NotFound: the {_noun(table)} {_id(key)!r} does not exist any more{where}"
    return _NOT_FOUND.get(table, NotFoundError)(text)


@contextlib.contextmanager
def _references_checked(connection: sqlite3.Connection, table: str, row: Row) -> Iterator[None]:
    """NotFoundError that names the missing one, where the row refers to another that was deleted meanwhile."""
    try:
        yield
    except sqlite3.IntegrityError:
        columns: dict[tuple[int, str], dict[str, Any]] = {}
        for found in connection.execute(f"PRAGMA foreign_key_list({table})"):
            columns.setdefault((found["id"], found["table"]), {})[found["to"]] = row.get(found["from"])
        for (_, other), wanted in columns.items():
            key = {column: wanted[column] for column in schema.KEYS[other]}
            if None not in key.values() and find(connection, other, key) is None:
                raise _missing(other, key) from None
        raise


def _refuse_if_used(connection: sqlite3.Connection, table: str, key: Key) -> None:
    for user_table, word, class_name, columns in schema.USERS.get(table, ()):
        users = select(connection, user_table, **dict(zip(columns, key.values(), strict=True)))
        if users:
            names = [_id({column: user[column] for column in schema.KEYS[user_table]}) for user in users]
            version = f", version={users[0]['version']}" if "version" in users[0] else ""
            raise InUseError(
                f"{_noun(table)} {_id(key)!r} is used by the {word} {', '.join(map(repr, names))}. "
                f"Delete that first: {class_name}(workspace, {users[0]['name']!r}{version}).delete()."
            )


def used_blobs(connection: sqlite3.Connection) -> set[str]:
    """Digests of the blobs that rows name."""
    query = " UNION ".join(f"SELECT blob FROM {table}" for table in schema.BLOB_TABLES)
    return {row["blob"] for row in connection.execute(query)}


def _where(key: Key) -> str:
    return " AND ".join(f"{column} = ?" for column in key)


def _id(key: Key) -> str:
    return ":".join(str(value) for value in key.values())


def _noun(table: str) -> str:
    return table.removesuffix("s").replace("_", " ")


def _encoded(column: str, value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if column in schema.JSON_COLUMNS else storable(column, value)


def storable(column: str, value: Any) -> Any:
    """`value`, if SQLite has a form for it."""
    if isinstance(value, str):
        fine = value.isascii() or not any(0xD800 <= ord(character) < 0xE000 for character in value)
    else:
        fine = value is None or (isinstance(value, int | float) and -(1 << 63) <= value < 1 << 63)
    if not fine:
        raise InvalidInputError(f"{column}: expected a text of Unicode or a number of 64 bits, got {value!a:.200}")
    return value


def _decoded(row: sqlite3.Row) -> Row:
    return {name: json.loads(row[name]) if name in schema.JSON_COLUMNS else row[name] for name in row.keys()}  # noqa: SIM118
