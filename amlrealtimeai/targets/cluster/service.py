"""What is to run on a cluster."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amlrealtimeai.errors import InvalidInputError

_DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")


@dataclass(frozen=True)
class Scaling:
    """Between `least` and `most` replicas, so that they use `utilization` percent of the CPU that they asked for."""

    least: int
    most: int
    utilization: int = 70

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most or not 1 <= self.utilization <= 100:
            raise InvalidInputError(
                f"expected 1 <= least <= most replicas and a utilization from 1 to 100 percent, got "
                f"{self.least}, {self.most} and {self.utilization}"
            )


@dataclass(frozen=True)
class Resources:
    """What one replica asks for, and may not exceed; Kubernetes' own units.

    fpga: the extended resource that stands for one FPGA, such as "intel.com/fpga"; None: the emulator on the CPU.
    """

    cpu: str = "1"
    memory: str = "1Gi"
    cpu_limit: str | None = None
    memory_limit: str = "2Gi"
    fpga: str | None = None

    def requests(self) -> dict[str, str]:
        """The `requests` of a container."""
        return {"cpu": self.cpu, "memory": self.memory, **({self.fpga: "1"} if self.fpga else {})}

    def limits(self) -> dict[str, str]:
        """The `limits` of a container."""
        cpu = {"cpu": self.cpu_limit} if self.cpu_limit else {}
        return {**cpu, "memory": self.memory_limit, **({self.fpga: "1"} if self.fpga else {})}


@dataclass(frozen=True)
class ClusterService:
    """A service on a cluster.

    image: reference that the cluster's nodes can pull. revision: counts the images that the service has had.
    keys: any of these opens the service. certificate, key: PEM text; the service is TLS only then.
    pull_secret: name of the Secret that opens the registry. scaling: replaces `replicas`.
    arguments: more of `python -m amlrealtimeai.serving`. Raises InvalidInputError for what Kubernetes would refuse.
    """

    name: str
    image: str
    revision: int = 1
    replicas: int = 1
    scaling: Scaling | None = None
    keys: Sequence[str] = field(default=(), repr=False)
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    resources: Resources = Resources()
    pull_secret: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    grace: int = 30

    def __post_init__(self) -> None:
        if not _DNS_LABEL.fullmatch(self.name):
            raise InvalidInputError(
                f"expected a service name of at most 53 lower-case letters, digits and '-', with a letter first and no "
                f"'-' at the end, got {self.name!r}"
            )
        if self.replicas < 0:
            raise InvalidInputError(f"replicas: expected 0 or more, got {self.replicas}")
        if (self.certificate is None) != (self.key is None):
            raise InvalidInputError("a certificate and its key belong together; one of them is missing")
        if self.keys and self.certificate is None:
            raise InvalidInputError("keys would cross the network as plain text: give a certificate and its key, too")

    @property
    def has_tls(self) -> bool:
        """Whether it is reached by TLS only."""
        return self.certificate is not None
