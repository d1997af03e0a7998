"""podman, docker or runc, whichever answers, through its command line; that of runc is ours."""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlrealtimeai.containers.archive import Image, verify_image
from amlrealtimeai.errors import ContainerError
from amlrealtimeai.serving.process.environment import with_this_package

ENGINES = ("podman", "docker", "runc")
LABEL = "amlrealtimeai.service"
_NO_ENGINE = (
    "no container engine is installed. Debian and Ubuntu: apt install podman runc; Fedora: dnf install podman; "
    "macOS and Windows: install Podman Desktop or Docker Desktop and start it. Then run this again."
)
_LOGGED = re.compile(r'time="[^"]*" level=\w+ msg=')  # for one, that health checks have no systemd to time them
_SECONDS = 120.0
_DAEMON_SECONDS = 10.0


@dataclass(frozen=True)
class Engine:
    """One container engine: `name` is "podman", "docker" or "runc", `command` what its command lines begin with.

    patience: seconds after which a command that has not ended is a ContainerError.
    """

    name: str
    command: tuple[str, ...]
    patience: float = _SECONDS

    def call(self, *arguments: str, timeout: float | None = None) -> str:
        """Run one command and return what it printed. Raises ContainerError with the engine's own words."""
        done = self._run(arguments, timeout or self.patience)
        if done.returncode:
            raise ContainerError(f"{self.name} {arguments[0]} failed: {_cause(done.stderr)[-1000:]}")
        return done.stdout.strip()

    def succeeds(self, *arguments: str) -> bool:
        """Whether a command ends without an error; ContainerError when it does not end."""
        return self._run(arguments, self.patience).returncode == 0

    def _run(
        self, arguments: Sequence[str], timeout: float, stderr: int = subprocess.PIPE
    ) -> "subprocess.CompletedProcess[str]":
        command = [*self.command, *arguments]
        try:
            return subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                errors="replace",
                timeout=timeout,
                env=with_this_package() if self.name == "runc" else None,
            )
        except subprocess.TimeoutExpired:
            raise ContainerError(
                f"{self.name} {arguments[0]} did not answer within {timeout:g} s. Look what holds it up with "
                f"`{self.name} ps`, or restart it."
            ) from None
        except OSError as error:
            raise ContainerError(
                f"{self.command[0]} cannot be run: {error.strerror}. Install {self.name} again."
            ) from error

    def load(self, path: Path, image: Image | None = None) -> str:
        """Bring an image file into the engine unless it is there, and return what to run it by.

        `image`: what verify_image said about the file; without it the file is checked here.
        """
        image = image or verify_image(path)
        if not self.succeeds("image", "inspect", image.id):
            printed = self.call(*self._loading(path), timeout=5 * _SECONDS)
            if not self.succeeds("image", "inspect", image.id):
                # Docker's containerd store knows an image by its manifest, not by its configuration.
                return printed.splitlines()[-1].split(": ", 1)[-1]
        return image.id

    def _loading(self, path: Path) -> list[str]:
        # `podman load` would read the OCI half of the file, and in that format podman knows no health checks.
        if self.name == "podman" and ":" not in str(path):
            return ["pull", "--quiet", f"docker-archive:{path}"]
        return ["load", "--quiet", "--input", str(path)]

    def logs(self, container: str, tail: int | None = None) -> str:
        """What the container has printed, both streams together."""
        last = ["--tail", str(tail)] if tail is not None else []
        return self._run(("logs", *last, container), self.patience, stderr=subprocess.STDOUT).stdout

    def find(self, labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Containers with these labels, running or not: id -> all its labels."""
        filters = [part for key, value in labels.items() for part in ("--filter", f"label={key}={value}")]
        found = {}
        for container in self.call("ps", "--all", "--no-trunc", "--quiet", *filters).split():
            with contextlib.suppress(ContainerError):  # it is gone meanwhile
                found[container] = json.loads(self.inspect(container, "{{json .Config.Labels}}"))
        return found

    def inspect(self, container: str, shown: str) -> str:
        """What the engine knows of a container, by a template of Go; ContainerError where there is none."""
        return self.call("inspect", "--type", "container", "--format", shown, container)

    def is_running(self, container: str) -> bool:
        """Whether the container exists and its process is alive."""
        try:
            return self.inspect(container, "{{.State.Running}}") == "true"
        except ContainerError:
            return False

    def has_died(self, container: str) -> bool:
        """Whether its process has ended, be it that the engine has started it again, or it is gone."""
        try:
            return self.inspect(container, "{{.State.Running}} {{.RestartCount}}") != "true 0"
        except ContainerError:
            return True

    def exit_code(self, container: str) -> int:
        """Exit code of its last end, also while the engine starts it again; 137 after a kill, as for too much memory.

        0 where a container was started again and the engine keeps no events.
        """
        code, created = self.inspect(container, "{{.State.ExitCode}} {{json .Created}}").split()
        return int(code) or self._last_exit(container, created.strip('"'))

    def _last_exit(self, container: str, created: str) -> int:
        """From the events: the state of a container that is started again forgets how it ended."""
        past = ["--stream=false"] if self.name == "podman" else ["--until", "0s"]
        wanted = [*past, "--since", created, "--filter", f"container={container}", "--format", "{{json .}}"]
        code = 0
        with contextlib.suppress(ContainerError):
            for line in self.call("events", *wanted).splitlines():
                event = json.loads(line)
                if event.get("Status", event.get("status")) in ("died", "die"):  # podman's word, docker's
                    ended = event.get("Actor", {}).get("Attributes", {}).get("exitCode", 0)
                    code = int(event.get("ContainerExitCode", ended))
        return code

    def published_port(self, container: str, port: int) -> int:
        """The port of this machine behind which the container's `port` is reached."""
        return int(self.call("port", container, f"{port}/tcp").splitlines()[0].rsplit(":", 1)[-1])

    def own_group(self) -> int:
        """The number that the group of this process has inside a container; not for root."""
        if self.name == "podman" or "rootless" in self.call("info", "--format", "{{.SecurityOptions}}"):
            return 0  # in the user namespace of such engines, whoever has started them is root
        return os.getgid()

    def remove(self, container: str, grace: float) -> None:
        """SIGTERM, after `grace` seconds SIGKILL, then forget the container; one that is gone is no error."""
        self.succeeds("stop", "--time", f"{grace:.0f}", container)
        self.succeeds("rm", "--force", container)


def find_engine(name: str | None = None) -> Engine:
    """The engine called `name`, or podman, or a docker whose daemon answers, or runc.

    Raises ContainerError that says what is missing and how to get it.
    """
    if name not in (None, *ENGINES):
        raise ContainerError(f"expected the engine {', '.join(ENGINES[:-1])} or {ENGINES[-1]}, got {name!r}")
    podman, docker, runc = (shutil.which(engine) for engine in ENGINES)
    if podman and name in (None, "podman"):
        return Engine("podman", (podman, *_podman_options()))
    if docker and name in (None, "docker"):
        engine = Engine("docker", (docker,))
        with contextlib.suppress(ContainerError):
            engine.call("version", "--format", "{{.Server.Version}}", timeout=_DAEMON_SECONDS)
            return engine
        if name is None and runc:
            return _runc()
        raise ContainerError(
            "docker is installed, but its daemon does not answer: sudo systemctl start docker "
            "(or start Docker Desktop); or install podman, which needs no daemon: apt install podman runc"
        )
    if runc and name in (None, "runc"):
        return _runc()
    some = name and (podman or docker or runc)
    raise ContainerError(f"{name} is not installed: apt install {name}" if some else _NO_ENGINE)


def _runc() -> Engine:
    return Engine("runc", (sys.executable, "-P", "-m", "amlrealtimeai.containers.runc"))


def _cause(stderr: str) -> str:
    """What an engine says of a failure, without its log of what else went on, unless that is all there is."""
    lines = stderr.strip().splitlines()
    return "\n".join([line for line in lines if not _LOGGED.match(line)] or lines)


def _podman_options() -> Sequence[str]:
    # runc runs on cgroups v1 and v2, as root and without; crun, podman's own choice, fails on some v1 systems.
    return ["--runtime", "runc"] if platform.system() == "Linux" and shutil.which("runc") else []


def container_name(service: str, suffix: str) -> str:
    """A container name that tells what runs in it: `service` may be an image reference."""
    return f"amlrealtimeai-{re.sub(r'[^a-zA-Z0-9_.-]+', '-', service.rsplit('/', 1)[-1])}-{suffix}"
