"""The protocol of all targets, and what passes through it.

A service is a row of the store. Every change is written there first (`Record`), in one transaction with the target's
own checks; what runs is then made from the row, by whoever sees that it differs.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from amlrealtimeai.errors import UnsupportedError

TRANSITIONING, HEALTHY, UNHEALTHY, FAILED, STOPPED = "Transitioning", "Healthy", "Unhealthy", "Failed", "Stopped"
UNREACHABLE = "Unreachable"

Record = Callable[[sqlite3.Connection, str | None], None]
"""Writes a service's row, with the id of the server that is to run it, in the transaction that it is given."""


@dataclass(frozen=True)
class ImageReference:
    """A container image: "name:tag", the digest of its manifest ("sha256:..."), and the file that holds it here."""

    reference: str
    digest: str
    archive: Path


@dataclass(frozen=True)
class Tls:
    """PEM texts of a certificate chain and its private key, and the host name that clients use."""

    certificate: str
    key: str = field(repr=False)
    name: str


@dataclass(frozen=True)
class Resources:
    """What one replica may use; None: what the target gives."""

    cpu_cores: float | None = None
    memory_gb: float | None = None
    gpu_cores: int | None = None


@dataclass(frozen=True)
class Limits:
    """How long a request may take and wait, and how many a replica takes at once; None: the server's own limits."""

    scoring_timeout_ms: int | None = None
    max_request_wait_time: int | None = None
    replica_max_concurrent_requests: int | None = None


@dataclass(frozen=True)
class Scaling:
    """Replicas by load: between min and max, so that about `autoscale_target_utilization` percent are busy."""

    autoscale_enabled: bool | None = None
    autoscale_min_replicas: int | None = None
    autoscale_max_replicas: int | None = None
    autoscale_refresh_seconds: float | None = None
    autoscale_target_utilization: float | None = None

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "Scaling":
        """Those of these keywords that are about scaling."""
        return cls(**{item.name: asked.get(item.name) for item in fields(cls)})

    def bounds(self, replicas: int, agents: int) -> tuple[int, int]:
        """The fewest and the most replicas on so many FPGAs: both `replicas` without autoscaling, never more for load
        than there are FPGAs.
        """
        if not self.autoscale_enabled:
            return replicas, replicas
        least = self.autoscale_min_replicas or 1
        return least, max(least, min(self.autoscale_max_replicas or agents, agents))


@dataclass(frozen=True)
class Service:
    """What is to run: a converted model under a name, in an image where the target runs images.

    revision: counts the models that the service has had; clients see it as the servable's version.
    keys: by name ("primary", "secondary"); any of these opens the service; none: everyone who can connect may call it.
    other: further keywords of the deployment configuration that were given.
    """

    name: str
    model: Path
    revision: int
    image: ImageReference | None = None
    replicas: int = 1
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Tls | None = None
    resources: Resources = Resources()
    limits: Limits = Limits()
    scaling: Scaling = Scaling()
    other: Mapping[str, Any] = field(default_factory=dict)

    def image_for(self, target: str) -> ImageReference:
        """The image that the target of this name is to run; UnsupportedError for a service without one."""
        if self.image is None:
            raise UnsupportedError(
                f"{target!r} runs container images: build one with Image.create() and deploy it with "
                "Webservice.deploy_from_image()."
            )
        return self.image

    def asked(self) -> list[str]:
        """Names of the settings beyond the number of replicas that somebody has given; False asks for nothing."""
        groups = (self.resources, self.limits, self.scaling)
        values = {item.name: getattr(group, item.name) for group in groups for item in fields(group)}
        return [name for name, value in {**values, **self.other}.items() if value is not None and value is not False]


@dataclass(frozen=True)
class Status:
    """How a service is.

    state: "Transitioning", "Healthy", "Unhealthy" (it runs, but does not answer), "Failed", "Stopped", or "Unreachable"
    (the target itself does not answer, so that nobody knows). address: "host:port", None when nothing listens.
    reason: why it is not healthy, with the next step, else "". wanted, ready: replicas. revision: the one that is
    served, None when none is.
    """

    state: str
    address: str | None = None
    reason: str = ""
    wanted: int = 0
    ready: int = 0
    revision: int | None = None


class Target(Protocol):
    """A place that runs services. Every method may be called from any process that shares the store."""

    def check(self, service: Service) -> Sequence[str]:
        """Names of what the service asks for that means nothing here; changes nothing.

        Raises UnsupportedError or DeploymentError for what cannot be at all.
        """

    def deploy(self, service: Service, record: Record) -> None:
        """Start the service, in place of one that it has here; returns when that is under way.

        Raises DeploymentError when it cannot be; then nothing has changed.
        """

    def update(self, service: Service, record: Record) -> None:
        """Replace model, keys or replicas of a service, without losing a request; one that has stopped is started."""

    def status(self, name: str) -> Status:
        """How the service is now."""

    def logs(self, name: str, lines: int) -> str:
        """The last lines that the service has logged."""

    def delete(self, name: str, record: Record) -> None:
        """Stop the service here and let go of all it holds; returns when requests to it are refused."""

    def refresh_certificate(self) -> None:
        """Give what runs the certificate and key that the target has now; no restart, no lost request."""

    def close(self, record: Record) -> None:
        """End all that the target runs, once `record` has deleted the target itself, which it refuses while in use."""
