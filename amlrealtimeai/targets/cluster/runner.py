"""A cluster as a target of workspaces: the image goes to the cluster's registry, then the service to the cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amlrealtimeai.containers.push import push
from amlrealtimeai.errors import UnsupportedError
from amlrealtimeai.store import Store
from amlrealtimeai.targets.base import Record, Service, Status
from amlrealtimeai.targets.cluster import chart
from amlrealtimeai.targets.cluster.api import Cluster
from amlrealtimeai.targets.cluster.rollout import Progress
from amlrealtimeai.targets.cluster.service import ClusterService, Resources, Scaling
from amlrealtimeai.targets.cluster.target import ClusterTarget

_MEANT = {
    "cpu_cores",
    "memory_gb",
    "scoring_timeout_ms",
    "max_request_wait_time",
    "replica_max_concurrent_requests",
    "autoscale_enabled",
    "autoscale_min_replicas",
    "autoscale_max_replicas",
    "autoscale_target_utilization",
}


@dataclass(frozen=True)
class KubernetesSettings:
    """An attached cluster: its name here, where its API server is known from, the registry that its nodes pull from.

    fpga: the extended resource of one FPGA; None: the emulator on CPUs.
    """

    name: str
    registry: str
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    pull_secret: str | None = None
    fpga: str | None = None


class KubernetesTarget:
    """Runs services on a cluster; what it tells about progress goes to `say`."""

    def __init__(self, store: Store, settings: KubernetesSettings, say: Callable[[str], None] = lambda _: None) -> None:
        self._store, self._settings, self._say = store, settings, say

    def check(self, service: Service) -> Sequence[str]:
        """Names of what has no meaning here; UnsupportedError for a model without an image."""
        service.image_for(self._settings.name)
        return [name for name in service.asked() if name not in _MEANT]

    def deploy(self, service: Service, record: Record) -> None:
        """Push the image, bring the service up and wait until its replicas are ready; then list it."""
        archive = service.image_for(self._settings.name).archive
        wanted = self._on_cluster(service, push(archive, self._place(service)))
        self._target().deploy(wanted, on_progress=self._show)
        with self._store.database.write() as connection:
            record(connection, None)

    update = deploy

    def dry_run(self, service: Service, folder: Path) -> list[Path]:
        """Write the objects of `service`, which the API server checks first, and what Helm and KServe take."""
        self.check(service)
        wanted, target = self._on_cluster(service, self._place(service)), self._target()
        objects = target.objects(wanted)
        for manifest in objects:
            target.cluster.apply(manifest, dry_run=True)
        return chart.write_all(wanted, objects, folder)

    def status(self, name: str) -> Status:
        """How the service is now, by the cluster's word."""
        return self._target().status(name)

    def logs(self, name: str, lines: int) -> str:
        """The last lines of every replica."""
        return self._target().logs(name, lines)

    def delete(self, name: str, record: Record) -> None:
        """Take the service away from the cluster, then from the list."""
        self._target().delete(name)
        with self._store.database.write() as connection:
            record(connection, None)

    def refresh_certificate(self) -> None:
        """Refused: services get their certificate when they are deployed; updating one brings it the new one."""
        raise UnsupportedError(
            f"the certificate of {self._settings.name!r} is changed service by service: "
            "Webservice.update() brings the new one."
        )

    def close(self, record: Record) -> None:
        """An attached cluster goes on without us."""
        with self._store.database.write() as connection:
            record(connection, None)

    def _target(self) -> ClusterTarget:
        settings = self._settings
        return ClusterTarget(Cluster(settings.kubeconfig, settings.context, settings.namespace))

    def _place(self, service: Service) -> str:
        return f"{self._settings.registry.rstrip('/')}/{service.image_for(self._settings.name).reference}"

    def _show(self, progress: Progress) -> None:
        self._say(str(progress))

    def _on_cluster(self, service: Service, image: str) -> ClusterService:
        scaling = service.scaling
        autoscaling = None
        if scaling.autoscale_enabled:
            least = scaling.autoscale_min_replicas or 1
            most = scaling.autoscale_max_replicas or 10
            autoscaling = Scaling(least, most, round(scaling.autoscale_target_utilization or 70))
        cores, memory = service.resources.cpu_cores, service.resources.memory_gb
        limit = f"{round((memory or 2) * 1024)}Mi"
        return ClusterService(
            name=service.name,
            image=image,
            revision=service.revision,
            replicas=service.replicas,
            scaling=autoscaling,
            keys=list(service.keys.values()),
            certificate=service.tls.certificate if service.tls else None,
            key=service.tls.key if service.tls else None,
            resources=Resources(
                cpu=f"{round((cores or 0.5) * 1000)}m",
                memory="256Mi" if memory is None else limit,
                memory_limit=limit,
                fpga=self._settings.fpga,
            ),
            pull_secret=self._settings.pull_secret,
            arguments=_limits(service),
        )


def _limits(service: Service) -> list[str]:
    """The server's own limits for what the deployment asks."""
    limits = service.limits
    given = {
        "max_seconds": limits.scoring_timeout_ms and limits.scoring_timeout_ms / 1000,
        "max_wait_seconds": limits.max_request_wait_time and limits.max_request_wait_time / 1000,
        "workers": limits.replica_max_concurrent_requests,
    }
    return [word for name, value in given.items() if value for word in ("--limit", f"{name}={value:g}")]
