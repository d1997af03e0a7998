"""Servers that clusters run: started in this process or as a child, steered by a file, found and ended by any process.

Each server follows one JSON file of services (serving/process/watch.py), so that every process that shares the
store can change what it serves. That it lives is shown by a lock that ends with it.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amlrealtimeai.errors import ComputeTargetNotFoundError, DeploymentError, NotFoundError
from amlrealtimeai.npu.cpus import usable_cpus
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.process.environment import with_this_package
from amlrealtimeai.serving.process.watch import Watcher
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from amlrealtimeai.store import Store
from amlrealtimeai.store.locks import LifeLock, holders, is_held
from amlrealtimeai.store.rows import Row
from amlrealtimeai.targets import logs
from amlrealtimeai.targets.files import Files, read_tls
from amlrealtimeai.targets.follow import Follower

NOTEBOOK, PROCESS = "notebook", "process"
"""Where a server runs: in the process that started it, or in a child process."""
START_SECONDS = 60.0
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """What all servers of a cluster have in common.

    agents: emulated FPGAs, each runs one request at a time. secure: with TLS; the store has the certificate and key.
    """

    cluster: str
    agents: int = 1
    host: str = "127.0.0.1"
    secure: bool = False
    keep_running: bool = False

    @property
    def threads(self) -> int:
        """CPU threads for one request: the CPUs are shared out among the FPGAs."""
        return max(1, usable_cpus() // self.agents)


@dataclass
class Host:
    """A server that this process has started: in itself, or as a child. `follow` makes it look at its rows now."""

    id: str
    stop: Callable[[], None]
    follow: Callable[[], object]


def start_here(store: Store, settings: Settings, on_gone: Callable[[str], None]) -> Host:
    """A server in this process; on_gone(id) is called when its row has been deleted."""
    id, files, lock, log = _prepare(store, settings, NOTEBOOK)
    with contextlib.ExitStack() as stack:  # undone in reverse, at a failure as well as at the end
        stack.callback(lock.release)
        try:
            tls = _tls(store, settings)
            server = Server(settings.host, 0, tls=tls, limits=Limits(workers=settings.agents), plain_keys=True)
            watcher = Watcher(server, files.services, settings.threads)
            own_log = stack.enter_context(logs.written_to(log, server, watcher))
            stack.callback(server.stop, GRACE_SECONDS)
            server.start()
            own_log.info("ready on %s", server.address)
            stack.callback(watcher.stop)
            watcher.start()
            _announce(store, settings, id, port=server.port)
        except BaseException:
            store.forget_server(id)
            raise

        def renew() -> None:
            nonlocal tls
            if (fresh := _tls(store, settings)) and fresh != tls:
                server.replace_tls(fresh)
                tls = fresh

        def follow() -> None:
            if files.derive():
                renew()

        follower = Follower(store, id, log, on_gone=lambda: on_gone(id), on_look=renew)
        stack.callback(follower.stop)
        follower.start()
        return Host(id, stack.pop_all().close, follow)


def _tls(store: Store, settings: Settings) -> Tls | None:
    with store.database.read() as connection:
        texts = read_tls(connection, settings.cluster)
    return Tls(texts["certificate"].encode(), texts["key"].encode()) if texts else None


def start_child(store: Store, settings: Settings) -> Host:
    """A server in a process of its own, below one that replaces it when it dies.

    Both hold the lock, so that neither is believed dead while the other lives. Raises DeploymentError with the end of
    the log when it does not start.
    """
    id, files, lock, log = _prepare(store, settings, PROCESS)
    try:
        with log.open("ab") as stream:
            process = subprocess.Popen(
                _command(store, settings, files, log),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=store.run,
                env=with_this_package(),
                start_new_session=True,  # an interrupted notebook cell must not interrupt the service
                pass_fds=() if os.name == "nt" else (lock.descriptor,),
            )
    except BaseException:
        lock.release()
        store.forget_server(id)
        raise
    lock.release()  # the child has its own hold now

    def stop() -> None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS + 10.0)
        with contextlib.suppress(NotFoundError):  # a workspace that was deleted has no server left
            end(store, row)  # a server that its supervisor left behind
        process.kill()
        process.wait()

    row = {"id": id, "pid": process.pid, "host": settings.host, "port": 0}
    try:
        port = _wait_for_port(files, process, log)
        _announce(store, settings, id, port=port, pid=process.pid)
    except BaseException:
        stop()
        store.forget_server(id)
        raise
    return Host(id, stop, files.derive)


def _announce(store: Store, settings: Settings, id: str, **where: int) -> None:
    """Write down where a server is; only the deletion of its cluster takes the row of one that has just started."""
    try:
        store.update("servers", {"id": id}, **where)
    except NotFoundError:
        raise ComputeTargetNotFoundError(
            f"ComputeTargetNotFound: the compute target {settings.cluster!r} was deleted while a server was started on "
            "it. Look at workspace.compute_targets."
        ) from None


def _prepare(store: Store, settings: Settings, run_in: str) -> tuple[str, Files, LifeLock, Path]:
    """Its lock, then its row, then its files: who finds the one without a holder forgets the others."""
    id = secrets.token_hex(8)
    files = Files(store, id)
    lock = LifeLock(files.lock)
    row = {"id": id, "compute_target": settings.cluster, "pid": os.getpid() if run_in == NOTEBOOK else 0}
    row |= {"owner": os.getpid(), "host": settings.host, "port": 0, "run_in": run_in}
    try:
        store.insert("servers", row)
        files.derive()
        log = logs.new(store, settings.cluster, id)
    except BaseException:
        lock.release()
        store.forget_server(id)
        raise
    return id, files, lock, log


def _command(store: Store, settings: Settings, files: Files, log: Path) -> list[str]:
    command = [sys.executable, "-m", "amlrealtimeai.targets.follow", str(store.path), files.id, str(log)]
    command += ["--watch", str(files.services)]
    command += ["--host", settings.host, "--port", "0", "--port-file", str(files.port), "--log-level", "info"]
    command += ["--limit", f"workers={settings.agents}", "--threads", str(settings.threads)]
    command += ["--grace", str(GRACE_SECONDS), "--plain-keys"]
    if os.name != "nt":  # where ending the supervisor would not end its child
        command.append("--supervise")
    if files.certificate.exists():
        command += ["--ssl-cert", str(files.certificate), "--ssl-key", str(files.key)]
    return command if settings.keep_running else [*command, "--with-parent", str(os.getpid())]


def _wait_for_port(files: Files, process: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while not files.port.exists():
        problem = f"did not start within {START_SECONDS:.0f} s" if time.monotonic() > deadline else ""
        if process.poll() is not None:
            problem = f"ended at its start, with status {process.returncode}"
        if problem:
            raise DeploymentError(f"the server {problem}:\n{logs.end_of(log)}")
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


def end(store: Store, row: Row) -> None:
    """End a child of any process: SIGTERM, and SIGKILL to it and the server below it when they do not go.

    Only processes that hold the server's lock are touched: a process id alone may be another's by now, or in another
    container. What cannot be seen from here ends by itself, since its row is gone.
    """
    lock = Files(store, row["id"]).lock
    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS + 10.0), (kill, 5.0)):
        for pid in _processes_of(store, row):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and is_held(lock):
            time.sleep(0.02)
        if not is_alive(store, row):
            return


def _processes_of(store: Store, row: Row) -> list[int]:
    """The processes of a child, as far as they can be seen and are known to be its."""
    found = holders(Files(store, row["id"]).lock)
    if found is None:
        found = [row["pid"]] if row["pid"] and is_alive(store, row) else []
    return [pid for pid in found if pid != os.getpid()]
