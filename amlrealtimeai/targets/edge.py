"""One device that runs one image: a container of podman, docker or runc, behind an address that stays.

A new deployment is warm before the old container goes; both have the port for that moment. The container outlives the
process that started it. Containers without a row of the store are removed by whoever looks next.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlrealtimeai.containers import Engine, SecretFolder, find_engine, run
from amlrealtimeai.containers.mounts import SECRETS
from amlrealtimeai.errors import ContainerError, DeploymentError, UnsupportedError
from amlrealtimeai.serving.health import answers
from amlrealtimeai.serving.ports.address import address_of
from amlrealtimeai.store import Store
from amlrealtimeai.store.locks import LifeLock, if_free
from amlrealtimeai.store.rows import Row, find, select
from amlrealtimeai.targets.base import (
    FAILED,
    HEALTHY,
    STOPPED,
    UNHEALTHY,
    UNREACHABLE,
    Record,
    Service,
    Status,
)
from amlrealtimeai.targets.files import read_tls

CONTAINER = "container"
_HOST = "127.0.0.1"
_STORE, _SERVER = "amlrealtimeai.store", "amlrealtimeai.server"
_START_SECONDS = 120.0
_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class EdgeSettings:
    """A device: its name, the engine (None: whichever answers), the port of its address, limits of the container."""

    name: str
    port: int
    engine: str | None = None
    cpus: float | None = None
    memory: str = "2g"
    secure: bool = False


class EdgeTarget:
    """Runs the one service of a device."""

    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        self._settings = settings

    def check(self, service: Service) -> Sequence[str]:
        """Names of what has no meaning here; UnsupportedError for a model without an image, or several replicas."""
        service.image_for(self._settings.name)
        if service.replicas != 1:
            raise UnsupportedError(f"{self._settings.name!r} runs one container, got num_replicas={service.replicas}.")
        return service.asked()

    def deploy(self, service: Service, record: Record) -> None:
        """Start the service's container; when it answers, the one that ran here before is ended."""
        with self._turn():
            engine = find_engine(self._settings.engine)
            self._sweep(engine)
            id = self._start(engine, service)
            try:
                with self._store.database.write() as connection:
                    record(connection, id)
                    # One model at a time: a service of another name that ran here has stopped.
                    connection.execute(
                        "UPDATE webservices SET server = NULL WHERE compute_target = ? AND name <> ?",
                        (self._settings.name, service.name),
                    )
            finally:
                self._sweep(engine)

    def update(self, service: Service, record: Record) -> None:
        """The same as deploying: a new container with the new image or keys is warm before the old one goes."""
        self.check(service)
        self.deploy(service, record)

    def status(self, name: str) -> Status:
        """How the service is, by asking the engine and the container."""
        row = self._server_of(name)
        if row is None:
            reason = "it is not on the device (another one may have replaced it); call update() to deploy it again"
            return Status(STOPPED, reason=reason, wanted=1)
        address = address_of(row["host"], row["port"])
        try:
            engine = find_engine(self._settings.engine)
            self._sweep_if_free(engine)
            container = self._containers(engine).get(row["id"])
            if container is None or not engine.is_running(container):
                code = engine.exit_code(container) if container else None
                return Status(FAILED, None, f"its container has ended (exit code {code}); call update()", wanted=1)
        except ContainerError as problem:
            return Status(UNREACHABLE, address, str(problem), wanted=1)
        if not answers(row["host"], row["port"], self._settings.secure):
            return Status(UNHEALTHY, address, "its container does not answer", wanted=1)
        service = self._store.find("webservices", name=name)
        return Status(HEALTHY, address, "", 1, 1, service["settings"]["revision"] if service else None)

    def logs(self, name: str, lines: int) -> str:
        """The last lines that the service's container has printed."""
        row = self._server_of(name)
        engine = find_engine(self._settings.engine)
        container = self._containers(engine).get(row["id"]) if row else None
        return engine.logs(container, lines) if container else ""

    def delete(self, name: str, record: Record) -> None:
        """End the service's container and forget its secrets."""
        with self._turn():
            with self._store.database.write() as connection:
                record(connection, None)
            self._sweep(find_engine(self._settings.engine))

    def refresh_certificate(self) -> None:
        """Give the running container the certificate and key that the store has."""
        with self._store.database.read() as connection:
            tls = read_tls(connection, self._settings.name)
            rows = select(connection, "servers", compute_target=self._settings.name)
        for row in rows:
            self._secrets(row["id"]).write({"tls.key": tls["key"], "tls.crt": tls["certificate"]})

    def close(self, record: Record) -> None:
        """End all that runs here, once the device is forgotten."""
        engine = find_engine(self._settings.engine)
        with self._turn():
            with self._store.database.write() as connection:
                record(connection, None)  # its servers' rows go with it
            self._sweep(engine)

    def _start(self, engine: Engine, service: Service) -> str:
        """A container that answers, and its row; neither is there when it does not come up."""
        id, settings = secrets.token_hex(8), self._settings
        image = service.image_for(settings.name)
        row = {"id": id, "compute_target": settings.name, "pid": 0, "owner": os.getpid(), "run_in": CONTAINER}
        self._store.insert("servers", {**row, "host": _HOST, "port": settings.port})
        private = self._secrets(id)
        try:
            arguments = ["--name", service.name, "--model-version", str(service.revision), "--log-level", "info"]
            if service.tls is not None:
                private.write({"tls.key": service.tls.key, "tls.crt": service.tls.certificate})
                arguments += ["--ssl-cert", f"{SECRETS}/tls.crt", "--ssl-key", f"{SECRETS}/tls.key"]
            if service.keys:
                private.write({"keys": "".join(f"{key}\n" for key in service.keys.values())})
                arguments += ["--key-file", f"{SECRETS}/keys", "--plain-keys"]
            run(
                image.archive,
                port=settings.port,
                engine=settings.engine,
                cpus=settings.cpus,
                memory=settings.memory,
                network="host",
                arguments=arguments,
                timeout=_START_SECONDS,
                keep=True,
                secrets=private if private.folder.exists() else None,
                name=f"amlrealtimeai-{service.name}-{id}",
                labels={_STORE: self._label(), _SERVER: id},
                restart=True,
                shared_port=True,
            )
        except BaseException as problem:
            self._store.forget_server(id)
            self._sweep(engine)
            if isinstance(problem, ContainerError):
                raise DeploymentError(
                    f"the service {service.name!r} does not start on {settings.name!r}: {problem}"
                ) from problem
            raise
        return id

    def _sweep(self, engine: Engine) -> None:
        """Remove what no service uses: rows, containers, secrets. Only while holding the turn: who deploys has some."""
        with self._store.database.write() as connection:
            connection.execute(
                "DELETE FROM servers WHERE compute_target = ? AND run_in = ? "
                "AND NOT EXISTS (SELECT 1 FROM webservices WHERE server = servers.id)",
                (self._settings.name, CONTAINER),
            )
            kept = {row["id"] for row in select(connection, "servers", run_in=CONTAINER)}
        for id, container in self._containers(engine).items():
            if id not in kept:
                image = engine.inspect(container, "{{.Image}}")
                engine.remove(container, _GRACE_SECONDS)
                engine.succeeds("image", "rm", image)  # refused, and rightly, where another container has it
        for folder in self._store.run.glob("container-*"):
            if folder.name.removeprefix("container-") not in kept:
                SecretFolder(folder).remove()

    def _sweep_if_free(self, engine: Engine) -> None:
        """What a killed process left beside the service goes; while somebody deploys, it is not left."""
        with if_free(self._turn_path()) as free:
            if free:
                self._sweep(engine)

    def _containers(self, engine: Engine) -> dict[str, str]:
        """Containers of this store, by the id of their server's row."""
        return {labels[_SERVER]: container for container, labels in engine.find({_STORE: self._label()}).items()}

    def _label(self) -> str:
        return hashlib.sha256(str(self._store.path).encode()).hexdigest()[:16]

    def _secrets(self, id: str) -> SecretFolder:
        return SecretFolder(self._store.run / f"container-{id}")

    def _server_of(self, name: str) -> Row | None:
        with self._store.database.read() as connection:
            service = find(connection, "webservices", {"name": name})
            return find(connection, "servers", {"id": service["server"]}) if service and service["server"] else None

    def _turn_path(self) -> Path:
        return self._store.run / f"starting-{self._settings.name}.lock"

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One process at a time changes what runs on the device."""
        lock = LifeLock(self._turn_path())
        try:
            yield
        finally:
            lock.release()
