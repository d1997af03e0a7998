"""A cluster on this machine: emulated FPGAs behind one gRPC server, in this process or in a child process.

Services are routed by name. An FPGA holds one model at a time, so the replicas of all services of a cluster are at most
its number of FPGAs; what waits for an FPGA to finish a request waits in the server's queue.
"""

import atexit
import os
import threading
import time
from pathlib import Path
from typing import Any

from amlrealtimeai.errors import DeploymentError
from amlrealtimeai.serving.ports.address import address_of
from amlrealtimeai.store import Store
from amlrealtimeai.store.locks import LifeLock
from amlrealtimeai.store.store import Row, select, update
from amlrealtimeai.targets import hosts
from amlrealtimeai.targets.base import FAILED, HEALTHY, STOPPED, TRANSITIONING, UNHEALTHY, Service, Status
from amlrealtimeai.targets.hosts import Files, Host, Settings

NOTEBOOK, PROCESS = "notebook", "process"
_APPLY_SECONDS = 60.0
_STATES = {"AVAILABLE": HEALTHY, "LOADING": TRANSITIONING, "END": FAILED}

_started: dict[tuple[Path, str], tuple[int, Host]] = {}
"""Servers that this process has started: (store, cluster) -> (process id, host). A forked child owns none of them."""
_lock = threading.RLock()


class EmbeddedTarget:
    """Runs the services of one cluster; run_in: "notebook" (this process) or "process" (a child)."""

    def __init__(self, store: Store, settings: Settings, run_in: str = NOTEBOOK) -> None:
        self._store = store
        self._settings = settings
        self._run_in = run_in

    def deploy(self, service: Service) -> None:
        """Start the service on this process's server of the cluster, which is started when there is none."""
        self._check_capacity(service.name, service.replicas)
        with _lock:
            server = self._server()
            try:
                self._assign(service, server)
            except BaseException:
                self._end_if_idle(server)
                raise

    def update(self, service: Service) -> None:
        """Replace what the service's server serves, whichever process has it; a stopped service is deployed."""
        row = self._server_of(service.name)
        if row is None:
            self.deploy(service)
        else:
            self._assign(service, row["id"])

    def scale(self, name: str, replicas: int) -> None:
        """Claim more or fewer FPGAs."""
        with self._store.database.write():
            row = self._running(name)
            self._check_capacity(name, replicas)
            files = Files(self._store, row["id"])
            services = files.read_services()
            services[name]["replicas"] = replicas
            files.write_services(services)

    def status(self, name: str) -> Status:
        """How the service is, by asking its server."""
        row = self._server_of(name)
        if row is None:
            return Status(STOPPED, reason="the process that ran it has ended; call update() to deploy it again")
        if not row["port"]:
            return Status(TRANSITIONING)
        address = address_of(row["host"], row["port"])
        files = Files(self._store, row["id"])
        report = files.report()
        wanted = files.read_services().get(name)
        if report is None or wanted is None:
            return Status(TRANSITIONING, address)
        if report.get("error"):
            return Status(FAILED, address, report["error"])
        entry = report["services"].get(name)
        if entry is None or (entry["version"] != wanted["version"] and entry["state"] != "END"):
            return Status(TRANSITIONING, address)
        state = _STATES[entry["state"]]
        if state == HEALTHY and row["pid"] != os.getpid() and not hosts.answers(row, bool(self._settings.certificate)):
            return Status(UNHEALTHY, address, f"its server (process {row['pid']}) does not answer")
        # The store's file has its digest for a name, which tells people nothing.
        return Status(state, address, entry["error"].replace(Path(wanted["model"]).name, "the model"))

    def logs(self, name: str, lines: int) -> str:
        """Lines of the cluster's log about this service, or about no service in particular."""
        log = hosts.tail(hosts.log_path(self._store, self._settings.cluster), 100_000).splitlines()
        return "\n".join([line for line in log if "model=" not in line or f"model={name!r}" in line][-lines:])

    def delete(self, name: str) -> None:
        """Take the service off its server; a server without services is ended."""
        row = self._server_of(name)
        if row is None:
            return
        with self._store.database.write() as connection:
            update(connection, "webservices", {"name": name}, server=None)
            self._remove(name, row)
        with _lock:
            if not self._end_if_idle(row["id"]):
                self._wait_until_applied(row)

    def close(self) -> None:
        """End all servers of the cluster (of other processes: only children)."""
        with _lock:
            for row in self._store.select("servers", compute_target=self._settings.cluster):
                self._end(row)

    def refresh_certificate(self) -> None:
        """Give the running servers the certificate and key of the settings; no restart, no lost request."""
        for row in self._alive():
            Files(self._store, row["id"]).write_tls(self._settings)

    # --- servers -------------------------------------------------------------------------------------------------

    def _alive(self) -> list[Row]:
        """Servers of the cluster that run; those that have ended are forgotten."""
        alive = []
        for row in self._store.select("servers", compute_target=self._settings.cluster):
            if hosts.is_alive(self._store, row):
                alive.append(row)
            else:
                hosts.forget(self._store, row["id"])
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
            if row["port"] and (shared or row["owner"] == os.getpid()):
                return str(row["id"])
        start = hosts.start_child if self._run_in == PROCESS else hosts.start_here
        host = start(self._store, self._settings)
        if not shared:
            _started[self._store.path, self._settings.cluster] = (os.getpid(), host)
        return host.id

    def _server_of(self, name: str) -> Row | None:
        """The living server that has the service."""
        service = self._store.find("webservices", name=name)
        row = self._store.find("servers", id=service["server"]) if service and service["server"] else None
        return row if row and hosts.is_alive(self._store, row) else None

    def _running(self, name: str) -> Row:
        row = self._server_of(name)
        if row is None:
            raise DeploymentError(f"the service {name!r} is stopped; call update() to deploy it again.")
        return row

    def _end_if_idle(self, id: str) -> bool:
        row = self._store.find("servers", id=id)
        if row is None or Files(self._store, id).read_services():
            return row is None
        return self._end(row)

    def _end(self, row: Row) -> bool:
        """End a server; False for one inside another process, which only that process can end."""
        key = (self._store.path, self._settings.cluster)
        if key in _started and _started[key][1].id == row["id"] and _started[key][0] == os.getpid():
            _started.pop(key)[1].stop()
        elif row["pid"] != row["owner"]:
            hosts.end(self._store, row)
        elif hosts.is_alive(self._store, row):
            return False
        hosts.forget(self._store, row["id"])
        return True

    # --- services ------------------------------------------------------------------------------------------------

    def _assign(self, service: Service, server: str) -> None:
        """Write the service into the server's file, and out of the one it was in."""
        entry: dict[str, Any] = {"model": str(service.model), "version": service.revision, "replicas": service.replicas}
        if service.keys:
            entry["keys"] = list(service.keys)
        with self._store.database.write() as connection:
            self._check_capacity(service.name, service.replicas)
            before = select(connection, "webservices", name=service.name)[0]["server"]
            if before and before != server and (row := self._store.find("servers", id=before)):
                self._remove(service.name, row)
            update(connection, "webservices", {"name": service.name}, server=server)
            files = Files(self._store, server)
            files.write_services({**files.read_services(), service.name: entry})

    def _remove(self, name: str, row: Row) -> None:
        files = Files(self._store, row["id"])
        services = files.read_services()
        if services.pop(name, None) is not None:
            files.write_services(services)

    def _wait_until_applied(self, row: Row) -> None:
        files = Files(self._store, row["id"])
        deadline = time.monotonic() + _APPLY_SECONDS
        while files.report() is None and hosts.is_alive(self._store, row) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _check_capacity(self, name: str, replicas: int) -> None:
        """DeploymentError unless the cluster has that many FPGAs free."""
        agents, cluster = self._settings.agents, self._settings.cluster
        homes = {row["name"]: row["server"] for row in self._store.select("webservices", compute_target=cluster)}
        others = {
            other: entry["replicas"]
            for row in self._store.select("servers", compute_target=cluster)
            if hosts.is_alive(self._store, row)
            for other, entry in Files(self._store, row["id"]).read_services().items()
            if other != name and homes.get(other) == row["id"]
        }
        if replicas + sum(others.values()) <= agents:
            return
        used = "".join(f" The service {other!r} uses {count}." for other, count in others.items())
        raise DeploymentError(
            f"Couldn't schedule because the cluster {cluster!r} doesn't have the resources: 0/{agents} nodes are "
            f"available: {agents} Insufficient fpga. {name!r} asks for {replicas} replica(s), one FPGA each; the "
            f"cluster has agent_count={agents}.{used} Ask for fewer replicas, delete a service, or provision a cluster "
            f"with agent_count={replicas + sum(others.values())}."
        )


@atexit.register
def _end_all() -> None:
    """Servers end with the process that started them."""
    while _started:
        (path, _), (process, host) = _started.popitem()
        if process != os.getpid():
            continue
        host.stop()
        host.files.remove()
        if (path / "store.sqlite3").exists():
            hosts.forget(Store(path), host.id)
