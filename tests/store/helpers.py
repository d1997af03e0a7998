"""Shared by the store's tests and by the processes that they start and kill."""

import hashlib
from pathlib import Path
from typing import Any

from amlrealtimeai.store import Store


def model_row(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "filename": "weights.bin",
        "is_folder": 0,
        "is_converted": 0,
        "parent_id": None,
        "description": None,
        "framework": None,
        "framework_version": None,
        "tags": {},
        "properties": {},
        **more,
    }


def register(store: Store, path: Path, name: str = "m", **more: Any) -> int:
    with store.staged(path) as staged:
        return store.add_version("models", model_row(name, **more), staged)


def assert_whole(store: Store) -> None:
    """Every listed model has its bytes, and the versions of each name have no gap."""
    versions: dict[str, list[int]] = {}
    for row in store.select("models"):
        data = store.blobs.path(row["blob"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["blob"]
        assert len(data) == row["size"]
        versions.setdefault(row["name"], []).append(row["version"])
    for found in versions.values():
        assert found == list(range(1, len(found) + 1))
    with store.database.read() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def leftovers(store: Store) -> list[str]:
    """Names of blobs and temporary files that belong to nothing."""
    used = {row["blob"] for row in store.select("models")}
    return [p.name for p in store.blobs.folder.iterdir() if p.name not in used] + [
        p.name for p in store.blobs.temporary.iterdir()
    ]
