"""KubernetesCompute: a cluster of one's own, attached by its kubeconfig."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from amlrealtimeai.core.compute.listing import list_target
from amlrealtimeai.core.compute.target import ComputeTarget
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.targets.cluster.api import Cluster
from amlrealtimeai.targets.cluster.runner import KubernetesSettings, KubernetesTarget


@dataclass
class KubernetesAttachConfiguration:
    """A checked description of a cluster; it holds the certificate and key, not their paths."""

    registry: str
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    pull_secret: str | None = None
    fpga: str | None = None
    ssl_cname: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)

    def create(self, workspace: Workspace, name: str) -> None:
        """List the cluster, if its API server answers; one with the same name and settings stays as it is."""
        cluster = Cluster(self.kubeconfig, self.context, self.namespace)
        cluster.check()
        # the context of today: another one may be the current one tomorrow
        values = {**vars(self), "context": cluster.context, "namespace": cluster.namespace}
        if self.kubeconfig:
            values["kubeconfig"] = str(Path(self.kubeconfig).expanduser().resolve())
        list_target(workspace, name, "Kubernetes", values)


class KubernetesCompute(ComputeTarget):
    """An attached cluster. Its services run as Deployments; it goes on without us when it is detached."""

    type: ClassVar[str] = "Kubernetes"

    @property
    def is_local(self) -> bool:
        """Never: others reach what runs there."""
        return False

    def runner(self) -> KubernetesTarget:
        """Where its services run."""
        names = ("registry", "kubeconfig", "context", "namespace", "pull_secret", "fpga")
        given = {name: self._row["settings"][name] for name in names}
        return KubernetesTarget(self.workspace.store, KubernetesSettings(self.name, **given), print)

    def detach(self) -> None:
        """Forget the cluster; InUseError when services of this workspace run there."""
        self.runner().close(self._unlist)

    def _fields(self) -> dict[str, Any]:
        settings = self._row["settings"]
        shown = {name: settings[name] for name in ("context", "namespace", "registry")}
        return {**super()._fields(), **shown}
