"""AksCompute: a cluster of emulated FPGAs on this machine, with the original's rules for FPGA machines."""

import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from amlrealtimeai.core.arguments import check_count, check_kind, known_keywords, shown, warn_without_meaning
from amlrealtimeai.core.cloud import needs_azure
from amlrealtimeai.core.compute.listing import list_target, read_tls, replace_certificate
from amlrealtimeai.core.compute.target import ComputeTarget
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import (
    ComputeTargetInputError,
    InvalidInputError,
    UnsupportedError,
)
from amlrealtimeai.store.rows import select
from amlrealtimeai.targets.embedded import EmbeddedTarget
from amlrealtimeai.targets.hosts import NOTEBOOK, PROCESS, Settings

if TYPE_CHECKING:
    from amlrealtimeai.core.compute.kubernetes import KubernetesAttachConfiguration

FPGA_VM_SIZE = "Standard_PB6s"
"""The only machine size with an FPGA: one FPGA and six virtual CPUs."""
FPGA_VCPUS = 6
FPGA_REGIONS = ("eastus", "southeastasia", "westeurope", "westus2")
"""Regions that had FPGAs; the first one is the default."""
FPGA_QUOTA = 24
"""Virtual CPUs of the PBS family that a workspace may use in one region: four FPGAs, as the original gave."""
QUOTA_VARIABLE = "AMLREALTIMEAI_FPGA_QUOTA"
"""The environment variable that sets another one."""


@dataclass
class AksProvisioningConfiguration:
    """A checked description of a cluster. It holds the certificate and key, not their paths."""

    agent_count: int = 1
    vm_size: str = FPGA_VM_SIZE
    location: str = FPGA_REGIONS[0]
    run_in: str = NOTEBOOK
    keep_running: bool = False
    ssl_cname: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)

    @known_keywords
    def enable_ssl(
        self,
        ssl_cname: str | None = None,
        ssl_cert_pem_file: str | Path | None = None,
        ssl_key_pem_file: str | Path | None = None,
        leaf_domain_label: str | None = None,
        overwrite_existing_domain: bool | None = None,
    ) -> None:
        """Serve with TLS: the three belong together, and are needed. Raises InvalidInputError, FileNotFoundError."""
        warn_without_meaning(
            "enable_ssl", leaf_domain_label=leaf_domain_label, overwrite_existing_domain=overwrite_existing_domain
        )
        tls = read_tls(ssl_cname, ssl_cert_pem_file, ssl_key_pem_file)
        if tls[0] is None:  # Azure had certificates of its own
            raise ComputeTargetInputError(
                "enable_ssl: expected ssl_cname, ssl_cert_pem_file and ssl_key_pem_file, got none of them. Make a "
                "certificate for this machine: core.certificates.development_certificate()"
            )
        self.ssl_cname, self.certificate, self.key = tls

    def create(self, workspace: Workspace, name: str) -> None:
        """List the cluster; one with the same name and settings stays as it is."""

        def check_quota(connection: sqlite3.Connection) -> None:
            clusters = [row["settings"] for row in select(connection, "compute_targets", type="Aks")]
            used = sum(c["agent_count"] for c in clusters if c["location"] == self.location) * FPGA_VCPUS
            _check_quota(used, self.agent_count * FPGA_VCPUS, self.location)

        list_target(workspace, name, "Aks", vars(self), check_quota)


@dataclass
class SslConfiguration:
    """Another certificate for a cluster: PEM text or paths of PEM files."""

    status: str | None = None
    cert: str | None = None
    key: str | None = field(default=None, repr=False)
    cname: str | None = None
    leaf_domain_label: str | None = None
    overwrite_existing_domain: bool | None = None
    renew: bool | None = None


@dataclass
class AksUpdateConfiguration:
    """What `AksCompute.update` changes."""

    ssl_configuration: SslConfiguration | None = None


@needs_azure("cluster_fqdn cluster_resource_id system_services scaling", "Its services have the address: scoring_uri.")
class AksCompute(ComputeTarget):
    """A cluster of `agent_count` emulated FPGAs. Its services share one gRPC server, reached at one address."""

    type: ClassVar[str] = "AKS"

    class ClusterPurpose:
        """Values of cluster_purpose, which has no meaning here."""

        FAST_PROD = "FastProd"
        DEV_TEST = "DevTest"

    @staticmethod
    @known_keywords
    def provisioning_configuration(
        agent_count: int | None = None,
        vm_size: str | None = None,
        ssl_cname: str | None = None,
        ssl_cert_pem_file: str | Path | None = None,
        ssl_key_pem_file: str | Path | None = None,
        location: str | None = None,
        vnet_resourcegroup_name: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
        service_cidr: str | None = None,
        dns_service_ip: str | None = None,
        docker_bridge_cidr: str | None = None,
        cluster_purpose: str | None = None,
        load_balancer_type: str | None = None,
        load_balancer_subnet: str | None = None,
        run_in: str = NOTEBOOK,
        keep_running: bool = False,
    ) -> AksProvisioningConfiguration:
        """Describe a cluster.

        agent_count: number of FPGAs (default 1); their six vCPUs each count against FPGA_QUOTA.
        ssl_cname, ssl_cert_pem_file, ssl_key_pem_file: serve with TLS under this host name; all three or none. The name
        has to lead to this machine; "localhost" always does.
        run_in (ours): "notebook" serves from this process, "process" from a child process.
        keep_running (ours): the child goes on when this process ends, until its last service is deleted.
        """
        warn_without_meaning(
            "AksCompute.provisioning_configuration",
            vnet_resourcegroup_name=vnet_resourcegroup_name,
            vnet_name=vnet_name,
            subnet_name=subnet_name,
            service_cidr=service_cidr,
            dns_service_ip=dns_service_ip,
            docker_bridge_cidr=docker_bridge_cidr,
            cluster_purpose=cluster_purpose,
            load_balancer_type=load_balancer_type,
            load_balancer_subnet=load_balancer_subnet,
        )
        cname, certificate, key = read_tls(ssl_cname, ssl_cert_pem_file, ssl_key_pem_file)
        return AksProvisioningConfiguration(
            agent_count=_checked_count(1 if agent_count is None else agent_count),
            vm_size=_one_of("vm_size", vm_size or FPGA_VM_SIZE, (FPGA_VM_SIZE,)),
            location=_one_of("location", location or FPGA_REGIONS[0], FPGA_REGIONS),
            run_in=_one_of("run_in", run_in, (NOTEBOOK, PROCESS)),
            keep_running=_checked_keep(keep_running, run_in),
            ssl_cname=cname,
            certificate=certificate,
            key=key,
        )

    @staticmethod
    @known_keywords
    def attach_configuration(
        resource_group: str | None = None,
        cluster_name: str | None = None,
        resource_id: str | None = None,
        cluster_purpose: str | None = None,
        registry: str | None = None,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        namespace: str | None = None,
        pull_secret: str | None = None,
        fpga: str | None = None,
        ssl_cname: str | None = None,
        ssl_cert_pem_file: str | Path | None = None,
        ssl_key_pem_file: str | Path | None = None,
    ) -> "KubernetesAttachConfiguration":
        """Describe a Kubernetes cluster of your own (all but the first four are ours).

        registry: "host:port/prefix" that images are pushed to and the cluster pulls from; needed. kubeconfig, context,
        namespace: default $KUBECONFIG or ~/.kube/config, its current context, that one's namespace. pull_secret: name
        of the cluster's Secret that opens the registry. fpga: extended resource of one FPGA, such as "intel.com/fpga".
        ssl_...: serve with TLS under this host name; all three or none.
        """
        from amlrealtimeai.core.compute.kubernetes import KubernetesAttachConfiguration

        azure = {"resource_group": resource_group, "cluster_name": cluster_name, "resource_id": resource_id}
        warn_without_meaning("AksCompute.attach_configuration", **azure, cluster_purpose=cluster_purpose)
        if not registry:
            raise UnsupportedError(
                "a cluster is attached by its kubeconfig here, and needs a registry that its nodes pull from: "
                "AksCompute.attach_configuration(registry='host:5000/models', context='...'). A cluster on this "
                "machine: ComputeTarget.create(workspace, name, AksCompute.provisioning_configuration())."
            )
        path = str(kubeconfig) if kubeconfig else None
        tls = read_tls(ssl_cname, ssl_cert_pem_file, ssl_key_pem_file)
        return KubernetesAttachConfiguration(registry, path, context, namespace, pull_secret, fpga, *tls)

    def get_credentials(self) -> Any:
        """Credentials of a Kubernetes cluster, which this target is not."""
        raise UnsupportedError(f"{self.name!r} runs on this machine, without Kubernetes: it has no credentials.")

    @property
    def agent_count(self) -> int:
        """Number of emulated FPGAs."""
        return self._row["settings"]["agent_count"]

    @property
    def vm_size(self) -> str:
        """Machine size of an agent."""
        return self._row["settings"]["vm_size"]

    @property
    def agent_vm_size(self) -> str:
        """The same as vm_size."""
        return self.vm_size

    @property
    def location(self) -> str:
        """Region; it only counts for the quota."""
        return self._row["settings"]["location"]

    @property
    def is_local(self) -> bool:
        """Always: its server listens on the loopback address."""
        return True

    def runner(self) -> EmbeddedTarget:
        """Where services of this cluster run."""
        settings = self._row["settings"]
        common = Settings(
            cluster=self.name,
            agents=settings["agent_count"],
            secure=self.ssl_enabled,
            keep_running=settings["keep_running"],
        )
        return EmbeddedTarget(self.workspace.store, common, settings["run_in"])

    @known_keywords
    def update(self, update_configuration: AksUpdateConfiguration) -> None:
        """Replace the certificate and key. New connections get the new ones at once; none is lost."""
        expected = "AksUpdateConfiguration(SslConfiguration(cert=..., key=..., cname=...))"
        check_kind("update_configuration", update_configuration, AksUpdateConfiguration, expected)
        ssl = update_configuration.ssl_configuration
        if ssl is not None and str(ssl.status).lower() == "disabled":
            raise UnsupportedError(
                "TLS is not switched off in place, because all clients have to change with it. Provision another "
                "cluster without ssl_cname, and deploy there."
            )
        if ssl is not None:
            warn_without_meaning(
                "AksCompute.update",
                leaf_domain_label=ssl.leaf_domain_label,
                overwrite_existing_domain=ssl.overwrite_existing_domain,
                renew=ssl.renew,
            )
        if ssl is None or ssl.cert is None or ssl.key is None:
            raise InvalidInputError(f"expected {expected}, got {shown(update_configuration)}")
        self.refresh_state()
        self._row = replace_certificate(self.workspace, self._row, ssl.cname, ssl.cert, ssl.key)
        self.runner().refresh_certificate()

    def delete(self) -> None:
        """Delete the cluster; InUseError when it has webservices."""
        self.runner().close(self._unlist)

    def _fields(self) -> dict[str, Any]:
        fields = {"agents": self.agent_count, "vm_size": self.vm_size, "location": self.location}
        tls = {"ssl_cname": self.ssl_cname} if self.ssl_enabled else {}
        return {**super()._fields(), **fields, **tls, "run_in": self._row["settings"]["run_in"]}


def _checked_count(count: Any) -> int:
    found = check_count(count)
    if found is None:
        raise ComputeTargetInputError(f"agent_count: expected a number of FPGAs of at least 1, got {count!r}")
    return found


def _one_of(what: str, value: Any, known: tuple[str, ...]) -> str:
    folded = str(value).lower().replace(" ", "")  # "East US" and "standard_pb6s" are Azure's own other spellings
    found = next((one for one in known if one.lower() == folded), None)
    if found is None:
        expected = " or ".join(map(repr, known)) if len(known) < 3 else f"one of {', '.join(map(repr, known))}"
        reason = " (the size that has an FPGA)" if what == "vm_size" else ""
        raise ComputeTargetInputError(f"{what}: expected {expected}{reason}, got {value!r}")
    return found


def _checked_keep(keep_running: bool, run_in: str) -> bool:
    if keep_running and run_in != PROCESS:
        raise ComputeTargetInputError(
            "keep_running=True needs run_in='process': what runs in the notebook ends with it."
        )
    return bool(keep_running)


def fpga_quota() -> int:
    """Virtual CPUs that a workspace may use in one region: $AMLREALTIMEAI_FPGA_QUOTA, else FPGA_QUOTA."""
    text = os.environ.get(QUOTA_VARIABLE)
    if not text:
        return FPGA_QUOTA
    if not (text.isascii() and text.isdigit()):
        raise ComputeTargetInputError(f"{QUOTA_VARIABLE}: expected a number of virtual CPUs, got {text!r}")
    return int(text)


def _check_quota(used: int, wanted: int, location: str) -> None:
    quota = fpga_quota()
    if used + wanted > quota:
        raise ComputeTargetInputError(
            f"Operation results in exceeding quota limits of Core. Maximum allowed: {quota}, "
            f"Current in use: {used}, Additional requested: {wanted} (PBS vCPUs in {location}, {FPGA_VCPUS} an agent). "
            f"Ask for fewer agents, delete a cluster, use another location, or set {QUOTA_VARIABLE}."
        )
