"""The files by which a server is steered, made from the store's rows: whoever sees that they differ writes them.

A change is committed first. A process that is killed before it has written the files leaves that to the next: another
process that looks, or the server's own follower (follow.py), which looks every second.
"""

import contextlib
import json
import os
import secrets
import sqlite3
from pathlib import Path
from typing import Any

from amlrealtimeai.store import Store
from amlrealtimeai.store.rows import find, select
from amlrealtimeai.targets.base import Scaling

_TLS = {"key": "key", "certificate": "crt"}
"""Secrets of a compute target that its child processes read from files: name -> suffix; the certificate last."""


class Files:
    """The files of one server, in the store's folder for running things."""

    def __init__(self, store: Store, id: str) -> None:
        self.store = store
        self.id = id
        self.lock = store.run / f"{id}.lock"
        self.services = store.run / f"{id}.json"
        self.port = store.run / f"{id}.port"
        self.certificate = store.run / f"{id}.crt"
        self.key = store.run / f"{id}.key"

    def derive(self) -> bool:
        """Make them what the rows say; False when the server has no row any more (or the store is gone)."""
        with self.store.database.read() as connection:
            if find(connection, "servers", {"id": self.id}) is None:
                return False
            if not self._stale(connection):
                return True
        with self.store.database.write() as connection:  # one at a time, so that an older state never comes last
            if find(connection, "servers", {"id": self.id}) is None:
                return False
            for path, text in self._stale(connection):
                _write_private(path, text)
        return True

    def read_services(self) -> dict[str, Any]:
        """The services that the server is told to have, by name."""
        return _read_json(self.services).get("services", {})

    def report(self) -> dict[str, Any] | None:
        """What the server made of the services; None as long as it has not seen the last change."""
        wanted, report = _read_json(self.services), _read_json(self.services.with_name(f"{self.id}.json.status"))
        seen = report.get("seen", report.get("generation"))  # a server of an earlier version has only the latter
        return report if wanted and seen == wanted.get("generation") else None

    def read_port(self) -> int:
        """The port that a child listens on; 0 before it has said so."""
        try:
            return int(self.port.read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return 0

    def _stale(self, connection: sqlite3.Connection) -> list[tuple[Path, str]]:
        """(file, what it should hold) of each that differs."""
        stale = []
        services = wanted_services(self.store, connection, self.id)
        if not self.services.exists() or self.read_services() != services:
            generation = secrets.token_hex(8)
            stale.append((self.services, json.dumps({"generation": generation, "services": services})))
        server = find(connection, "servers", {"id": self.id})
        if server is not None and server["run_in"] != "notebook":  # in this process, nothing has to be read from files
            tls = read_tls(connection, server["compute_target"])
            for name, suffix in _TLS.items():
                path = self.store.run / f"{self.id}.{suffix}"
                if name in tls and _read_text(path) != tls[name]:
                    stale.append((path, tls[name]))
        return stale


def wanted_services(store: Store, connection: sqlite3.Connection, server: str) -> dict[str, Any]:
    """What the rows want a server to have, in the words of serving's watched file."""
    wanted = {}
    for row in select(connection, "webservices", server=server):
        model = find(connection, "models", {"name": row["model_name"], "version": row["model_version"]})
        assert model is not None, "the row's foreign key"
        settings = row["settings"]
        entry = {"model": str(store.blobs.path(model["blob"])), "version": settings["revision"]}
        target = find(connection, "compute_targets", {"name": row["compute_target"]})
        entry["replicas"] = _replicas(settings, target["settings"].get("agent_count", 1) if target else 1)
        if settings["auth_enabled"]:
            keys = connection.execute(
                "SELECT value FROM secrets WHERE kind = 'webservices' AND owner = ? ORDER BY name", (row["name"],)
            )
            entry["keys"] = [key["value"] for key in keys]
        wanted[row["name"]] = entry
    return wanted


def _replicas(settings: dict[str, Any], agents: int) -> int | dict[str, float]:
    """Their number, or how it follows the load, in the words of serving's watched file."""
    scaling = Scaling.of(settings.get("asked", {}))
    least, most = scaling.bounds(settings["num_replicas"], agents)
    if not scaling.autoscale_enabled:
        return least
    given = {"target": scaling.autoscale_target_utilization, "seconds": scaling.autoscale_refresh_seconds}
    return {"least": least, "most": most, **{name: value for name, value in given.items() if value is not None}}


def read_tls(connection: sqlite3.Connection, compute_target: str) -> dict[str, str]:
    """{"certificate": ..., "key": ...} of a compute target, as PEM texts; empty without TLS."""
    rows = connection.execute(
        "SELECT name, value FROM secrets WHERE kind = 'compute_targets' AND owner = ?", (compute_target,)
    )
    return {row["name"]: row["value"] for row in rows if row["name"] in _TLS}


def _write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner can read."""
    partial = path.with_name(f"{path.name}.part")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()  # of a writer that was killed; there is one at a time
    descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    partial.replace(path)


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content
