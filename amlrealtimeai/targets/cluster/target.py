"""Services on a cluster: deploy, update, scale, status, logs, delete; a failed deployment leaves nothing behind."""

import time
from collections.abc import Callable
from typing import Any

from amlrealtimeai.errors import DeploymentError, NotFoundError
from amlrealtimeai.targets.base import FAILED, HEALTHY, STOPPED, TRANSITIONING, UNHEALTHY, UNREACHABLE, Status
from amlrealtimeai.targets.cluster import manifests, rollout
from amlrealtimeai.targets.cluster.api import KINDS, Cluster, Unreachable
from amlrealtimeai.targets.cluster.service import ClusterService

_DELETE_SECONDS = 120
_NODE_SECONDS = 5  # kubelets before 1.21 take up to a minute to say that a pod without a running container has ended


class ClusterTarget:
    """Runs services in one namespace of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def objects(self, service: ClusterService) -> list[manifests.Manifest]:
        """The objects of a service, in the versions that this cluster has."""
        return manifests.objects(service, self.cluster.policy_version, self.cluster.scaling_version)

    def deploy(
        self,
        service: ClusterService,
        timeout: float = 300.0,
        on_progress: Callable[[rollout.Progress], None] = lambda _: None,
    ) -> None:
        """Bring a service up, or change a running one, and wait until all its replicas are ready.

        A first deployment that fails is taken away again; a change that fails is taken back, while the old replicas go
        on serving. Raises DeploymentError with the reason.
        """
        before = self._running(service.name)
        try:
            for manifest in self.objects(service):
                self.cluster.apply(manifest)
            self._remove_unused(service)
            reason = rollout.watch(self.cluster, service.name, timeout, on_progress)
        except BaseException:
            self._take_back(service.name, before)
            raise
        if reason:
            self._take_back(service.name, before)
            after = "it was taken away again" if before is None else "the service goes on as it was before"
            raise DeploymentError(f"the service {service.name!r} did not come up: {reason}\n({after})")

    update = deploy

    def scale(self, name: str, replicas: int, timeout: float = 300.0) -> None:
        """Change the number of replicas and wait for them; who leaves finishes the requests that it has."""
        if self._deployment(name) is None:
            raise NotFoundError(f"the cluster has no service {name!r} in the namespace {self.cluster.namespace!r}")
        self.cluster.patch("apps/v1", "Deployment", name, {"spec": {"replicas": replicas}})
        reason = rollout.watch(self.cluster, name, timeout)
        if reason:
            raise DeploymentError(f"the service {name!r} was not brought to {replicas} replicas: {reason}")

    def status(self, name: str) -> Status:
        """How the service is now."""
        try:
            deployment = self._deployment(name)
            if deployment is None:
                return Status(STOPPED, reason=f"the cluster has no service {name!r}; deploy it again")
            now = rollout.progress(deployment)
            found = [] if now.done else list(rollout.problems(self.cluster, deployment))
        except Unreachable as error:
            return Status(UNREACHABLE, reason=str(error))
        state = HEALTHY if now.done else TRANSITIONING
        if found:
            state = UNHEALTHY if now.ready else FAILED
        address = f"{name}.{self.cluster.namespace}.svc:{manifests.GRPC_PORT}" if now.ready else None
        return Status(state, address, "; ".join(found), now.wanted, now.ready, now.revision)

    def logs(self, name: str, lines: int = 5000) -> str:
        """The last lines of every replica, each under its pod's name."""
        pods = self.cluster.list("v1", "Pod", manifests.selector(name))
        return "\n".join(f"{p['metadata']['name']}:\n{self.cluster.log(p['metadata']['name'], lines)}" for p in pods)

    def delete(self, name: str, grace: int | None = None) -> None:
        """Take everything of the service away; returns when the cluster lists nothing of it any more.

        Requests in flight may end within the service's own grace, or `grace` seconds; with a `grace`, the cluster does
        not wait much longer for a node's word that a pod has ended.
        """
        for version, kind, item in list(self.cluster.belongings(name)):
            self.cluster.delete(version, kind, item)
        start = time.monotonic()
        while left := self._left(name):
            seconds = time.monotonic() - start
            if seconds > _DELETE_SECONDS:
                raise DeploymentError(f"still ending after {_DELETE_SECONDS} s: {', '.join(left)}; the rest is gone")
            if grace is not None:
                for pod in self.cluster.list("v1", "Pod", manifests.selector(name)):
                    self.cluster.delete("v1", "Pod", pod["metadata"]["name"], grace if seconds < _NODE_SECONDS else 0)
            time.sleep(0.2)

    def _left(self, name: str) -> list[str]:
        """What the cluster still has of a service that was deleted, with what it has made of it itself."""
        kinds = (("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("v1", "Pod"), ("v1", "Endpoints"))
        labels = manifests.selector(name)
        return [f"{kind} {o['metadata']['name']}" for v, kind in kinds for o in self.cluster.list(v, kind, labels)]

    def _deployment(self, name: str) -> Any:
        return self.cluster.find("apps/v1", "Deployment", name)

    def _running(self, name: str) -> list[manifests.Manifest] | None:
        """The objects of a service as they are applied, to go back to; None when there is none."""
        if self._deployment(name) is None:
            return None
        found = [self.cluster.find(*place) for place in self.cluster.belongings(name)]
        return [_applied(manifest) for manifest in found if manifest]

    def _take_back(self, name: str, before: list[manifests.Manifest] | None) -> None:
        if before is None:
            self.delete(name, grace=1)  # nobody has used it yet
            return
        kept = {(m["kind"], m["metadata"]["name"]) for m in before}
        order = [kind for _, kind in KINDS][::-1]
        for manifest in sorted(before, key=lambda m: order.index(m["kind"])):
            self.cluster.apply(manifest)
        for version, kind, item in list(self.cluster.belongings(name)):
            if (kind, item) not in kept:
                self.cluster.delete(version, kind, item)

    def _remove_unused(self, service: ClusterService) -> None:
        """What an earlier shape of the service had and this one has not: its keys, its certificate, its autoscaler."""
        wanted = {(m["kind"], m["metadata"]["name"]) for m in self.objects(service)}
        for version, kind, item in list(self.cluster.belongings(service.name)):
            if (kind, item) not in wanted and kind != "Secret":  # pods of the old shape may still mount those
                self.cluster.delete(version, kind, item)


def _applied(manifest: manifests.Manifest) -> manifests.Manifest:
    """A listed object without what the server adds."""
    metadata = manifest["metadata"]
    kept = {key: metadata[key] for key in ("name", "labels", "annotations") if key in metadata}
    kept["annotations"] = {
        key: value
        for key, value in kept.get("annotations", {}).items()
        if not key.startswith("deployment.kubernetes.io")
    }
    parts = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    if manifest["kind"] == "Service":
        parts["spec"] = {k: v for k, v in parts["spec"].items() if k in ("selector", "ports") or v == "None"}
    return {**parts, "metadata": kept}
