"""A cluster on this machine: emulated FPGAs behind one gRPC server, in this process or in a child process.

Services are routed by name. An FPGA holds one model at a time, so the replicas of all services of a cluster are at most
its number of FPGAs; what waits for an FPGA to finish a request waits in the server's queue. A service that may have
several replicas has a process for each, behind the server's one address (serving/replicas); it claims the most that it
may have, so that scaling never fails.
"""

import atexit
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from amlrealtimeai.errors import DeploymentError
from amlrealtimeai.serving.health import answers
from amlrealtimeai.serving.ports.address import address_of
from amlrealtimeai.store import Store
from amlrealtimeai.store.locks import LifeLock
from amlrealtimeai.store.rows import Row, find, select
from amlrealtimeai.targets import hosts, logs
from amlrealtimeai.targets.base import (
    FAILED,
    HEALTHY,
    STOPPED,
    TRANSITIONING,
    UNHEALTHY,
    Record,
    Scaling,
    Service,
    Status,
)
from amlrealtimeai.targets.files import Files
from amlrealtimeai.targets.follow import retire
from amlrealtimeai.targets.hosts import NOTEBOOK, PROCESS, Host, Settings

_APPLY_SECONDS = 60.0
_SILENT_SECONDS = 2.0  # after which people are told what they wait for
_END_SECONDS = 15.0
_TRIES = 5
_SCALING = {item.name for item in fields(Scaling)}
_STATES = {"AVAILABLE": HEALTHY, "LOADING": TRANSITIONING, "END": FAILED}

_started: dict[str, tuple[int, Path, Host]] = {}
"""Servers that this process has started and that end with it: id -> (process id, store, host).

A forked child owns none of them, which the process id tells.
"""
_lock = threading.RLock()


class _GoneError(Exception):
    """A server has ended since it was chosen."""


class EmbeddedTarget:
    """Runs the services of one cluster; run_in: "notebook" (this process) or "process" (a child)."""

    def __init__(self, store: Store, settings: Settings, run_in: str = NOTEBOOK) -> None:
        self._store = store
        self._settings = settings
        self._run_in = run_in

    def check(self, service: Service) -> Sequence[str]:
        """Names of what has no meaning here; DeploymentError when the cluster has too few FPGAs free."""
        with self._store.database.read() as connection:
            self._check_capacity(connection, service)
        return [name for name in service.asked() if name not in _SCALING]

    def deploy(self, service: Service, record: Record) -> None:
        """Start the service on this process's server of the cluster, which is started when there is none."""
        for _ in range(_TRIES):
            with _lock:
                server = self._server()
                try:
                    former = self._place(service, server, record)
                    break
                except _GoneError:
                    continue
                except BaseException:
                    self._end_if_idle(server)
                    raise
        else:
            raise DeploymentError(
                f"the servers of {self._settings.cluster!r} end as soon as they start; see get_logs()."
            )
        if former != server:
            self._settle(former)

    def update(self, service: Service, record: Record) -> None:
        """Replace what the service's server serves, whichever process has it; a stopped service is deployed."""
        row = self._server_of(service.name)
        try:
            if row is None:
                raise _GoneError
            self._place(service, row["id"], record)
        except _GoneError:
            self.deploy(service, record)

    def status(self, name: str) -> Status:
        """How the service is, by asking its server."""
        service = self._store.find("webservices", name=name)
        wanted = int(service["settings"]["num_replicas"]) if service else 0
        row = self._server_of(name)
        if row is None:
            reason = "the process that ran it has ended; call update() to deploy it again"
            return Status(STOPPED, reason=reason, wanted=wanted)
        if not row["port"]:
            return Status(TRANSITIONING, wanted=wanted)
        address = address_of(row["host"], row["port"])
        files = Files(self._store, row["id"])
        files.derive()
        report, entry = files.report(), files.read_services().get(name)
        if report is None or entry is None:
            return Status(TRANSITIONING, address, wanted=wanted)
        if report.get("error"):
            return Status(FAILED, address, report["error"], wanted)
        found = report["services"].get(name)
        if found is None or (found["version"] != entry["version"] and found["state"] != "END"):
            return Status(TRANSITIONING, address, wanted=wanted)
        state = _STATES[found["state"]]
        here = row["run_in"] == NOTEBOOK and _is_mine(row["id"])
        if state == HEALTHY and not here and not answers(row["host"], row["port"], self._settings.secure):
            return Status(UNHEALTHY, address, f"its server (process {row['pid']}) does not answer", wanted)
        # The store's file has its digest for a name, which tells people nothing.
        reason = found["error"].replace(Path(entry["model"]).name, "the model")
        wanted = found.get("wanted", wanted)
        ready = found.get("ready", wanted if state == HEALTHY else 0)
        if state == HEALTHY and not ready:
            state, reason = UNHEALTHY, "all its replicas have ended; others are being started"
        served = found["version"] if state == HEALTHY else found.get("served")
        return Status(state, address, reason, wanted, ready, served)

    def logs(self, name: str, lines: int) -> str:
        """Lines of the cluster's logs about this service, or about no service in particular."""
        return "\n".join(logs.read(self._store, self._settings.cluster, name)[-lines:] if lines > 0 else [])

    def delete(self, name: str, record: Record) -> None:
        """Take the service off its server; a server without services is ended."""
        with self._store.database.write() as connection:
            row = find(connection, "webservices", {"name": name})
            record(connection, None)
        if row and row["compute_target"] == self._settings.cluster:
            self._settle(row["server"])

    def close(self, record: Record) -> None:
        """End all servers of the cluster; those in other processes end themselves, now that they have no row."""
        with _lock:
            with self._store.database.write() as connection:
                servers = select(connection, "servers", compute_target=self._settings.cluster)
                record(connection, None)  # their rows go with the cluster's
            for row in servers:
                self._end(row)

    def refresh_certificate(self) -> None:
        """Give the running servers the certificate and key that the store has; no restart, no lost request."""
        for row in self._alive():
            self._follow(row["id"])

    def _alive(self) -> list[Row]:
        """Servers of the cluster that run; those that have ended are forgotten."""
        alive = []
        for row in self._store.select("servers", compute_target=self._settings.cluster):
            if not hosts.is_alive(self._store, row):
                self._store.forget_server(row["id"])
                continue
            if not row["port"] and (port := Files(self._store, row["id"]).read_port()):
                row = self._store.update("servers", {"id": row["id"]}, port=port)  # its starter was killed
            alive.append(row)
        return alive

    def _server(self) -> str:
        """Id of the server that this process deploys to; one that outlives its starter is shared by all processes."""
        if not (self._settings.keep_running and self._run_in == PROCESS):
            return self._found_or_started(shared=False)
        turn = LifeLock(self._store.run / f"starting-{self._settings.cluster}.lock")
        try:
            return self._found_or_started(shared=True)
        finally:
            turn.release()

    def _found_or_started(self, shared: bool) -> str:
        for row in self._alive():
            if _is_mine(row["id"]) or (shared and row["run_in"] == PROCESS and self._is_ready(row)):
                return str(row["id"])
        if self._run_in == PROCESS:
            host = hosts.start_child(self._store, self._settings)
        else:
            host = hosts.start_here(self._store, self._settings, _end_started)
        if not shared:
            _started[host.id] = (os.getpid(), self._store.path, host)
        return host.id

    def _is_ready(self, row: Row) -> bool:
        """Whether a server has its port; one whose starter was killed is waited for, as long as it lives."""
        deadline = time.monotonic() + hosts.START_SECONDS
        while not row["port"] and time.monotonic() < deadline:
            found = next((found for found in self._alive() if found["id"] == row["id"]), None)
            if found is None:
                return False
            row = found
            time.sleep(0.05)
        return bool(row["port"])

    def _server_of(self, name: str) -> Row | None:
        """The living server that has the service."""
        service = self._store.find("webservices", name=name)
        row = self._store.find("servers", id=service["server"]) if service and service["server"] else None
        if row is None or not hosts.is_alive(self._store, row):
            return None
        return row if row["port"] else next((found for found in self._alive() if found["id"] == row["id"]), None)

    def _follow(self, id: str) -> None:
        """Let a server have what its rows say now, not only at its next look."""
        if _is_mine(id):
            _started[id][2].follow()
        else:
            Files(self._store, id).derive()

    def _end_if_idle(self, id: str) -> bool:
        """End a server that no service uses, unless it is inside another process, which may go on with it."""
        row = self._store.find("servers", id=id)
        if row is None:
            return True
        if row["run_in"] == NOTEBOOK and not _is_mine(id):
            return False
        if not retire(self._store, id):
            return False
        self._end(row)
        return True

    def _end(self, row: Row) -> None:
        """End a server whose row is gone; one inside another process does that itself."""
        if _is_mine(row["id"]):
            _end_started(row["id"])
        elif row["run_in"] == PROCESS:
            hosts.end(self._store, row)
        else:
            return
        deadline = time.monotonic() + _END_SECONDS  # its follower may have been quicker, and be ending it
        while hosts.is_alive(self._store, row) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not hosts.is_alive(self._store, row):
            self._store.forget_server(row["id"])

    def _place(self, service: Service, server: str, record: Record) -> str | None:
        """Write the service down for a server, if that lives and the FPGAs are enough; then let the server know.

        Returns the server that had the service before.
        """
        with self._store.database.write() as connection:
            row = find(connection, "servers", {"id": server})
            if row is None or not hosts.is_alive(self._store, row):
                raise _GoneError
            before = find(connection, "webservices", {"name": service.name})
            record(connection, server)
            self._check_capacity(connection, service)
        self._follow(server)
        return before["server"] if before else None

    def _settle(self, server: str | None) -> None:
        """Let a server know that it has lost a service (of any cluster), and end it if that was its last."""
        row = self._store.find("servers", id=server) if server else None
        if row is None or not hosts.is_alive(self._store, row):
            return
        self._follow(row["id"])
        with _lock:
            ended = self._end_if_idle(row["id"])
        if not ended:
            self._wait_until_applied(row)

    def _wait_until_applied(self, row: Row) -> None:
        files = Files(self._store, row["id"])
        start, said = time.monotonic(), False
        while files.report() is None and hosts.is_alive(self._store, row) and time.monotonic() < start + _APPLY_SECONDS:
            if not said and time.monotonic() > start + _SILENT_SECONDS:
                said = True
                print(
                    f"Waiting for process {row['pid']}, whose server had the service, to take notice (at most "
                    f"{_APPLY_SECONDS:.0f} s). If it is suspended, it will when it goes on."
                )
            time.sleep(0.02)

    def _check_capacity(self, connection: sqlite3.Connection, service: Service) -> None:
        """DeploymentError unless the cluster has the FPGAs that the service may come to need."""
        agents, cluster, name = self._settings.agents, self._settings.cluster, service.name
        living = {
            row["id"]
            for row in select(connection, "servers", compute_target=cluster)
            if hosts.is_alive(self._store, row)
        }
        others = {
            row["name"]: _claimed(row["settings"], agents)
            for row in select(connection, "webservices", compute_target=cluster)
            if row["name"] != name and row["server"] in living
        }
        _, most = service.scaling.bounds(service.replicas, agents)
        if most + sum(others.values()) <= agents:
            return
        used = "".join(f" The service {other!r} uses {count}." for other, count in others.items())
        asked = f"{most} replica(s)"
        if service.scaling.autoscale_enabled:
            asked = f"up to {most} replica(s) (autoscale_max_replicas)"
        raise DeploymentError(
            f"Couldn't schedule because the cluster {cluster!r} doesn't have the resources: 0/{agents} nodes are "
            f"available: {agents} Insufficient fpga. {name!r} asks for {asked}, one FPGA each; the "
            f"cluster has agent_count={agents}.{used} Ask for fewer replicas, delete a service, or provision a cluster "
            f"with agent_count={most + sum(others.values())}."
        )


def _claimed(settings: dict[str, Any], agents: int) -> int:
    return Scaling.of(settings.get("asked", {})).bounds(settings["num_replicas"], agents)[1]


def _is_mine(id: str) -> bool:
    return id in _started and _started[id][0] == os.getpid()


def _end_started(id: str) -> None:
    """End a server of this process; its row is gone, or goes with this process."""
    found = _started.pop(id, None)  # without _lock: who holds it may be waiting for the follower that calls this
    if found is not None and found[0] == os.getpid():
        found[2].stop()


@atexit.register
def _end_all() -> None:
    """Servers end with the process that started them."""
    for id, (process, path, _) in list(_started.items()):
        if process != os.getpid():
            continue
        _end_started(id)
        if store := Store.opened(path):
            store.forget_server(id)
