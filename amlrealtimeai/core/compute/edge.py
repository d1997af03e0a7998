"""EdgeCompute: a device that runs one container image, as the Data Box Edge of 2019 did; here it is this machine."""

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from amlrealtimeai.containers.engine import ENGINES
from amlrealtimeai.core.arguments import check_count, known_keywords
from amlrealtimeai.core.compute.listing import list_target, read_tls, replace_certificate
from amlrealtimeai.core.compute.target import ComputeTarget
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import ComputeTargetInputError
from amlrealtimeai.targets.edge import EdgeSettings, EdgeTarget


@dataclass
class EdgeProvisioningConfiguration:
    """A checked description of a device. It holds the certificate and key, not their paths."""

    port: int | None = None
    engine: str | None = None
    cpu_cores: float | None = None
    memory_gb: float = 2.0
    ssl_cname: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)

    def create(self, workspace: Workspace, name: str) -> None:
        """List the device; one with the same name and settings stays as it is. Without a port it gets a free one."""
        port = self.port
        if port is None:
            known = workspace.store.find("compute_targets", name=name)
            port = known["settings"].get("port") if known else _free_port()
        list_target(workspace, name, "Edge", {**vars(self), "port": port})


class EdgeCompute(ComputeTarget):
    """A device that runs one container; a new deployment takes the place of the one before, at the same address."""

    type: ClassVar[str] = "Edge"

    @staticmethod
    @known_keywords
    def provisioning_configuration(
        port: int | None = None,
        engine: str | None = None,
        cpu_cores: float | None = None,
        memory_gb: float = 2.0,
        ssl_cname: str | None = None,
        ssl_cert_pem_file: str | Path | None = None,
        ssl_key_pem_file: str | Path | None = None,
    ) -> EdgeProvisioningConfiguration:
        """Describe a device.

        port: of its address on 127.0.0.1, default a free one that it keeps. engine: "podman", "docker" or "runc",
        default whichever answers. cpu_cores (default all), memory_gb: what the container may use. ssl_cname,
        ssl_cert_pem_file, ssl_key_pem_file: serve with TLS under this host name; all three or none.
        """
        number = check_count(port)
        if port is not None and not 1 <= (number or 0) <= 65535:
            raise ComputeTargetInputError(f"port: expected a number from 1 to 65535, got {port!r}")
        if engine not in (None, *ENGINES):
            raise ComputeTargetInputError(f"engine: expected 'podman', 'docker' or 'runc', got {engine!r}")
        for what, amount in (("cpu_cores", cpu_cores), ("memory_gb", memory_gb)):
            if amount is not None and (not isinstance(amount, int | float) or isinstance(amount, bool) or amount <= 0):
                raise ComputeTargetInputError(f"{what}: expected a number above 0, got {amount!r}")
        cname, certificate, key = read_tls(ssl_cname, ssl_cert_pem_file, ssl_key_pem_file)
        return EdgeProvisioningConfiguration(number, engine, cpu_cores, memory_gb, cname, certificate, key)

    @property
    def is_local(self) -> bool:
        """Always: its container listens on the loopback address."""
        return True

    def runner(self) -> EdgeTarget:
        """Where its service runs."""
        given = self._row["settings"]
        memory = f"{round(given['memory_gb'] * 1024)}m"
        settings = EdgeSettings(
            self.name, given["port"], given["engine"], given["cpu_cores"], memory, secure=self.ssl_enabled
        )
        return EdgeTarget(self.workspace.store, settings)

    @known_keywords
    def update(self, ssl_cert_pem_file: str | Path, ssl_key_pem_file: str | Path, ssl_cname: str | None = None) -> None:
        """Replace the certificate and key. New connections get the new ones; none is lost, and nothing restarts."""
        self.refresh_state()
        self._row = replace_certificate(self.workspace, self._row, ssl_cname, ssl_cert_pem_file, ssl_key_pem_file)
        self.runner().refresh_certificate()

    def delete(self) -> None:
        """Forget the device; InUseError when it has a webservice."""
        self.runner().close(self._unlist)

    def _fields(self) -> dict[str, Any]:
        settings = self._row["settings"]
        tls = {"ssl_cname": self.ssl_cname} if self.ssl_enabled else {}
        return {**super()._fields(), "port": settings["port"], "engine": settings["engine"] or "any", **tls}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
