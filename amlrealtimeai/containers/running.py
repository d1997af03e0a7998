"""Run a built image with podman, docker or runc, wait until it serves, and leave nothing behind when it is stopped."""

import atexit
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from amlrealtimeai.containers.archive import verify_image
from amlrealtimeai.containers.configuration import PORT
from amlrealtimeai.containers.engine import LABEL, Engine, container_name, find_engine
from amlrealtimeai.containers.image import ImageInfo
from amlrealtimeai.containers.mounts import Mount, SecretFolder
from amlrealtimeai.errors import ContainerError
from amlrealtimeai.serving.health import answers

_LOOPBACK = "127.0.0.1"
_READY = re.compile(r"^ready on \S+:(\d+)\s*$", re.MULTILINE)
_LIMIT = 4096
_LOG_LINES = 30
_SCRATCH = "/tmp:rw,noexec,nosuid,nodev,size=64m,mode=1777"


class Running:
    """A service in a container: `address` ("127.0.0.1:port"), `port`, `id` of the container, `name`, `engine`, `image`.

    A context manager: leaving it stops and removes the container.
    """

    def __init__(self, engine: Engine, name: str, image: str, container: str) -> None:
        self.engine, self.name, self.image, self.id = engine, name, image, container
        self.port = 0
        self._stopped = False

    @property
    def address(self) -> str:
        """Where the service answers on this machine."""
        return f"{_LOOPBACK}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether the container's process is alive."""
        return not self._stopped and self.engine.is_running(self.id)

    def logs(self, tail: int | None = None) -> str:
        """What the service has printed so far; `tail`: the last lines only."""
        return "" if self._stopped else self.engine.logs(self.id, tail)

    def stop(self, grace: float = 5.0, remove_image: bool = False) -> None:
        """Let requests in flight end for up to `grace` seconds, then remove the container; may be called again."""
        if not self._stopped:
            self.engine.remove(self.id, grace)
            self._stopped = True
            atexit.unregister(self.stop)
        if remove_image:
            self.engine.succeeds("image", "rm", self.image)

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else self.address
        return f"Running({self.name!r}, {state}, {self.engine.name})"


def run(
    image: ImageInfo | str | Path,
    *,
    port: int = 0,
    engine: str | None = None,
    cpus: float | None = None,
    memory: str = "2g",
    read_only: bool = True,
    network: str | None = None,
    arguments: Sequence[str] = (),
    timeout: float = 60.0,
    keep: bool = False,
    mounts: Sequence[Mount] = (),
    secrets: SecretFolder | None = None,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    restart: bool = False,
    shared_port: bool = False,
) -> Running:
    """Start the service in an image file and return when its health check says SERVING.

    The service is reached on this machine's loopback address only. `port` 0 picks a free one. `engine`: "podman",
    "docker" or "runc", default whichever answers. `cpus` (default: all) and `memory` limit the container. `network`:
    "host" (default with podman and runc on Linux: works as root and rootless, without any network package; the service
    then binds 127.0.0.1) or "bridge" (default with docker; the port is published on 127.0.0.1). `arguments` go to
    `python -m amlrealtimeai.serving`. The container ends with this process unless `keep` is set. `mounts`: files and
    folders of this machine that it sees; `secrets`: what it finds in /run/secrets, which is the caller's to remove.
    `name`, `labels`: of the container. `restart`: the engine starts it again when it crashes. `shared_port`: another
    container has the port still, and is to be replaced by this one; needs the network "host".

    Raises NotFoundError for a missing file and ContainerError when there is no engine, the file is damaged, the port is
    taken, or the service does not come up within `timeout` seconds (with the end of its log).
    """
    path = Path(image.path if isinstance(image, ImageInfo) else image)
    found = find_engine(engine)
    network = network or ("bridge" if found.name == "docker" or sys.platform != "linux" else "host")
    if network not in ("host", "bridge"):
        raise ContainerError(f"expected the network 'host' or 'bridge', got {network!r}")
    if shared_port:
        if network != "host":
            raise ContainerError(f"a port is shared on the network 'host' only, got {network!r}")
        arguments = [*arguments, "--shared-port"]
    else:
        _check_free(port)
    checked = verify_image(path)
    loaded = found.load(path, checked)
    name = name or container_name(checked.reference, os.urandom(4).hex())
    options = _options(cpus, memory, read_only)
    options += [f"--label={key}={value}" for key, value in (labels or {}).items()]
    options += ["--restart", "on-failure:10"] if restart else []
    options += [option for mount in mounts for option in mount.options()]
    options += secrets.options(found) if secrets else []
    serving = ["--threads", str(max(1, round(cpus)))] if cpus else []
    if network == "host":
        options += ["--network", "host"]
        serving += ["--host", _LOOPBACK, "--port", str(port)]
    else:
        options += ["--publish", f"{_LOOPBACK}:{port or ''}:{PORT}"]
    started = _start(found, [*options, "--name", name, loaded, *serving, *arguments], name, loaded)
    warn_without_limits(started, memory)
    try:
        _wait_until_serving(started, network, "--ssl-cert" in arguments, time.monotonic() + timeout, timeout)
    except BaseException:
        started.stop(grace=0)
        raise
    if not keep:
        atexit.register(started.stop)
    return started


def _check_free(port: int) -> None:
    if not port:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise ContainerError(
                f"port {port} cannot be used ({error}); choose another one, or 0 for any free one"
            ) from None


def _options(cpus: float | None, memory: str, read_only: bool) -> list[str]:
    options = ["--detach", "--label", f"{LABEL}=1", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    options += ["--memory", memory, "--pids-limit", "512", "--tmpfs", _SCRATCH]
    # Engines ask for far more than a rootless user, or root in a container, may give away.
    options += [f"--ulimit={name}={limit}:{limit}" for name, limit in _limits().items()]
    options += ["--read-only"] if read_only else []
    return options + (["--cpus", str(cpus)] if cpus else [])


def _limits() -> dict[str, int]:
    if sys.platform == "win32":
        return {}
    import resource

    hard = {
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1],
    }
    return {name: _LIMIT if limit == resource.RLIM_INFINITY else min(limit, _LIMIT) for name, limit in hard.items()}


def _start(engine: Engine, command: list[str], name: str, image: str) -> Running:
    try:
        return Running(engine, name, image, engine.call("run", *command).splitlines()[-1])
    except ContainerError:
        # A container that was created but could not start is still listed.
        engine.succeeds("rm", "--force", name)
        raise


def warn_without_limits(service: Running, memory: str) -> None:
    """Engines that cannot limit a container only say so in passing: without root's rights on cgroups v1."""
    if hasattr(os, "geteuid") and os.geteuid():
        with suppress(ContainerError):
            if service.engine.inspect(service.id, "{{.HostConfig.Memory}}") == "0":
                warnings.warn(
                    f"{service.name} runs without limits of memory ({memory}) and CPUs: {service.engine.name} can set "
                    "them here for root only, or on a system with cgroups v2.",
                    stacklevel=3,
                )


def _wait_until_serving(service: Running, network: str, secure: bool, deadline: float, timeout: float) -> None:
    """Wait for the line that names the port, then for SERVING from the health service behind it."""
    while not (ready := _READY.search(service.logs())):
        _check_alive(service)
        _sleep(service, deadline, timeout)
    service.port = int(ready.group(1)) if network == "host" else service.engine.published_port(service.id, PORT)
    while not answers(_LOOPBACK, service.port, secure, seconds=5.0):
        _check_alive(service)
        _sleep(service, deadline, timeout)


def _check_alive(service: Running) -> None:
    """ContainerError if it has ended, with the engine starting it again or not: that would go on and on."""
    if service.engine.has_died(service.id):
        code = service.engine.exit_code(service.id)
        killed = " (killed: out of memory?)" if code == 137 else ""
        raise ContainerError(f"the container ended at start with exit code {code}{killed}. Its log:\n{_tail(service)}")


def _sleep(service: Running, deadline: float, timeout: float) -> None:
    if time.monotonic() > deadline:
        raise ContainerError(f"the service did not come up within {timeout:.0f} s. Its log:\n{_tail(service)}")
    time.sleep(0.05)


def _tail(service: Running) -> str:
    """The end of the log; the engine's log writer may be a moment behind the process that it follows."""
    for _ in range(10):
        if lines := service.logs().strip().splitlines():
            return "\n".join(lines[-_LOG_LINES:])
        time.sleep(0.05)
    return "(empty)"
