"""Servers that clusters run: started in this process or as a child, steered by a file, found and ended by any process.

Each server follows one JSON file of services (serving/process/watch.py), so that every process that shares the
store can change what it serves. That it lives is shown by a lock that ends with it.
"""

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amlrealtimeai
from amlrealtimeai.artifact.stages import usable_cpus
from amlrealtimeai.client.proxy import DIRECT
from amlrealtimeai.errors import DeploymentError
from amlrealtimeai.serving.ports.address import address_of
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.process.watch import Watcher
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from amlrealtimeai.store import Store
from amlrealtimeai.store.locks import LifeLock, is_held
from amlrealtimeai.store.store import Row

START_SECONDS = 60.0
GRACE_SECONDS = 5.0
_LOG_BYTES = 8 << 20
_LOG_FORMAT = "time=%(asctime)s.%(msecs)03d level=%(levelname)s %(message)s"
_LOG_TIME = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True)
class Settings:
    """What all servers of a cluster have in common; agents: emulated FPGAs, each runs one request at a time."""

    cluster: str
    agents: int = 1
    host: str = "127.0.0.1"
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    keep_running: bool = False

    @property
    def threads(self) -> int:
        """CPU threads for one request: the CPUs are shared out among the FPGAs."""
        return max(1, usable_cpus() // self.agents)


class Files:
    """The files of one server, in the store's folder for running things."""

    def __init__(self, store: Store, id: str) -> None:
        self.lock = store.run / f"{id}.lock"
        self.services = store.run / f"{id}.json"
        self.status = store.run / f"{id}.json.status"
        self.port = store.run / f"{id}.port"
        self.certificate = store.run / f"{id}.crt"
        self.key = store.run / f"{id}.key"

    def remove(self) -> None:
        """Forget a server that has ended."""
        for path in vars(self).values():
            with contextlib.suppress(OSError):
                path.unlink()

    def tls(self) -> tuple[Path, Path] | None:
        """Certificate and key, where the server has them."""
        return (self.certificate, self.key) if self.certificate.exists() else None

    def write_tls(self, settings: Settings) -> None:
        """Write or replace certificate and key; a running server takes them for its next connections."""
        if settings.certificate and settings.key:
            _write_private(self.key, settings.key)
            _write_private(self.certificate, settings.certificate)

    def read_services(self) -> dict[str, Any]:
        """The services that the server is told to have, by name."""
        return _read_json(self.services).get("services", {})

    def write_services(self, services: dict[str, Any]) -> None:
        """Tell the server what to serve; call it while holding the store's write lock."""
        _write_private(self.services, json.dumps({"generation": secrets.token_hex(8), "services": services}))

    def report(self) -> dict[str, Any] | None:
        """What the server made of the services; None as long as it is still busy with the last change."""
        wanted, report = _read_json(self.services), _read_json(self.status)
        return report if wanted and report.get("generation") == wanted.get("generation") else None


@dataclass
class Host:
    """A server that this process has started: in itself, or as a child."""

    id: str
    files: Files
    stop: Callable[[], None]


def log_path(store: Store, cluster: str) -> Path:
    """Log of all servers of a cluster."""
    return store.logs / f"cluster-{cluster}.log"


def start_here(store: Store, settings: Settings) -> Host:
    """A server in this process."""
    id, files, lock = _prepare(store, settings)
    handler = logging.FileHandler(_fresh_log(store, settings.cluster))
    handler.setFormatter(logging.Formatter(_LOG_FORMAT, _LOG_TIME))
    logger = logging.getLogger("amlrealtimeai.serving")
    try:
        tls = files.tls()
        limits = Limits(workers=settings.agents)
        server = Server(settings.host, 0, tls=Tls.from_files(*tls) if tls else None, limits=limits)
        watcher = Watcher(server, files.services, settings.threads, tls)
        server.start()
        watcher.start()
    except BaseException:
        handler.close()
        lock.release()
        files.remove()
        raise
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    logger.info("ready on %s", server.address)

    def stop() -> None:
        watcher.stop()
        server.stop(GRACE_SECONDS)
        logger.removeHandler(handler)
        handler.close()
        lock.release()

    _insert(store, settings, id, os.getpid(), server.port)
    return Host(id, files, stop)


def start_child(store: Store, settings: Settings) -> Host:
    """A server in a process of its own, below one that replaces it when it dies.

    Both hold the lock, so that neither is believed dead while the other lives. Raises DeploymentError with the end of
    the log when it does not start.
    """
    id, files, lock = _prepare(store, settings)
    with _fresh_log(store, settings.cluster).open("ab") as log:
        process = subprocess.Popen(
            _command(settings, files),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=store.run,
            env=_environment(),
            start_new_session=True,  # an interrupted notebook cell must not interrupt the service
            pass_fds=() if os.name == "nt" else (lock.descriptor,),
        )
    lock.release()  # the child has its own hold now
    row = _insert(store, settings, id, process.pid, 0)

    def stop() -> None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS + 10.0)
        end(store, row)  # a server that its supervisor left behind
        process.kill()
        process.wait()

    try:
        port = _wait_for_port(files, process, log_path(store, settings.cluster))
        store.update("servers", {"id": id}, port=port)
    except BaseException:
        stop()
        forget(store, id)
        raise
    return Host(id, files, stop)


def _prepare(store: Store, settings: Settings) -> tuple[str, Files, LifeLock]:
    id = secrets.token_hex(8)
    files = Files(store, id)
    lock = LifeLock(files.lock)
    files.write_services({})
    files.write_tls(settings)
    return id, files, lock


def _insert(store: Store, settings: Settings, id: str, pid: int, port: int) -> Row:
    row = {"id": id, "compute_target": settings.cluster, "pid": pid, "owner": os.getpid()}
    row |= {"host": settings.host, "port": port}
    store.insert("servers", row)
    return row


def _command(settings: Settings, files: Files) -> list[str]:
    command = [sys.executable, "-m", "amlrealtimeai.serving", "--watch", str(files.services)]
    command += ["--host", settings.host, "--port", "0", "--port-file", str(files.port), "--log-level", "info"]
    command += ["--limit", f"workers={settings.agents}", "--threads", str(settings.threads)]
    command += ["--grace", str(GRACE_SECONDS)]
    if os.name != "nt":  # where ending the supervisor would not end its child
        command.append("--supervise")
    if tls := files.tls():
        command += ["--ssl-cert", str(tls[0]), "--ssl-key", str(tls[1])]
    return command if settings.keep_running else [*command, "--with-parent", str(os.getpid())]


def _environment() -> dict[str, str]:
    """This environment, in which the child finds the same package as this process."""
    root = str(Path(amlrealtimeai.__file__).resolve().parent.parent)
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _wait_for_port(files: Files, process: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while not files.port.exists():
        if process.poll() is not None:
            raise DeploymentError(f"the server ended at its start, with status {process.returncode}:\n{tail(log, 10)}")
        if time.monotonic() > deadline:
            raise DeploymentError(f"the server did not start within {START_SECONDS:.0f} s:\n{tail(log, 10)}")
        time.sleep(0.02)
    return int(files.port.read_text().split()[0])


def is_alive(store: Store, row: Row) -> bool:
    """Whether the server of this row runs (it may be starting still)."""
    held = is_held(Files(store, row["id"]).lock)
    if held is None:
        return row["port"] == 0 or is_listening(row["host"], row["port"])
    return held


def is_listening(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError:
        return False
    return True


def answers(row: Row, secure: bool) -> bool:
    """Whether the server says that it is serving (with TLS: whether it shakes hands) within two seconds."""
    if secure:
        return _shakes_hands(row["host"], row["port"])
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = address_of(row["host"], row["port"])
    with grpc.insecure_channel(address, DIRECT) as channel, contextlib.suppress(grpc.RpcError):
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2.0)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
    return False


def _shakes_hands(host: str, port: int) -> bool:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # life is asked for, not identity
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), timeout=2.0) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def end(store: Store, row: Row) -> None:
    """End a child of any process: SIGTERM, and SIGKILL to it and the server below it when they do not go."""
    lock = Files(store, row["id"]).lock
    last = (getattr(os, "killpg", os.kill), getattr(signal, "SIGKILL", signal.SIGTERM), 5.0)
    for kill, number, seconds in ((os.kill, signal.SIGTERM, GRACE_SECONDS + 10.0), last):
        if not is_alive(store, row):  # checked each time: the number of a process that has ended may be another's
            return
        with contextlib.suppress(OSError):
            kill(row["pid"], number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and is_held(lock):
            time.sleep(0.02)


def forget(store: Store, id: str) -> None:
    """Remove what is left of a server that has ended; its services are without a server then."""
    Files(store, id).remove()
    with store.database.write() as connection:
        connection.execute("DELETE FROM servers WHERE id = ?", (id,))


def tail(path: Path, lines: int) -> str:
    """The last lines of a log, of at most a megabyte."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - (1 << 20)))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _fresh_log(store: Store, cluster: str) -> Path:
    path = log_path(store, cluster)
    with contextlib.suppress(OSError):
        if path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
    return path


def _write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner can read."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content
