"""The protocol of all targets, and what passes through it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

TRANSITIONING, HEALTHY, UNHEALTHY, FAILED, STOPPED = "Transitioning", "Healthy", "Unhealthy", "Failed", "Stopped"


@dataclass(frozen=True)
class Service:
    """What is to run: a converted model under a name.

    revision: counts the models that the service has had; clients see it as the servable's version.
    keys: any of these opens the service; none: everyone who can connect may call it.
    """

    name: str
    model: Path
    revision: int
    replicas: int = 1
    keys: Sequence[str] = field(default=(), repr=False)


@dataclass(frozen=True)
class Status:
    """How a service is.

    state: "Transitioning", "Healthy", "Unhealthy" (it runs, but does not answer), "Failed" or "Stopped".
    address: "host:port", None when nothing listens. reason: why it is not healthy, with the next step, else "".
    """

    state: str
    address: str | None = None
    reason: str = ""


class Target(Protocol):
    """A place that runs services. Every method may be called from any process that shares the store."""

    def deploy(self, service: Service) -> None:
        """Start the service; returns when that is under way. Raises DeploymentError when it cannot be."""

    def update(self, service: Service) -> None:
        """Replace model, keys or replicas of a service, without losing a request; one that has stopped is started."""

    def scale(self, name: str, replicas: int) -> None:
        """Change the number of replicas."""

    def status(self, name: str) -> Status:
        """How the service is now."""

    def logs(self, name: str, lines: int) -> str:
        """The last lines that the service has logged."""

    def delete(self, name: str) -> None:
        """Stop the service and let go of all it holds; returns when requests to it are refused."""
