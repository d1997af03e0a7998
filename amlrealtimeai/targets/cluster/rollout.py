"""Watches a Deployment come up, and says in words why it does not."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from amlrealtimeai.errors import AmlRealtimeAiError
from amlrealtimeai.targets.cluster.api import Cluster, Unreachable
from amlrealtimeai.targets.cluster.manifests import REVISION, Manifest, selector

_POLL_SECONDS = 0.5
# A pull or a crash is tried again by the cluster: only what lasts is a failure.
_PATIENCE = 8.0
_LOG_LINES = 15
_PROBES = 5
_READY = "ready on "
_WAITING = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "InvalidImageName": "the image's name is no valid reference",
    "ErrImageNeverPull": "the image is not on the node, and may not be pulled",
    "CreateContainerConfigError": "the container cannot be configured",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
    "CrashLoopBackOff": "the server ends again and again",
}


@dataclass(frozen=True)
class Progress:
    """How far a Deployment is: replicas wanted, of the newest kind, ready; `done` when all are."""

    wanted: int
    updated: int
    ready: int
    revision: int
    done: bool

    def __str__(self) -> str:
        return f"{self.ready} of {self.wanted} ready, {self.updated} of the newest revision"


def progress(deployment: Manifest) -> Progress:
    """Read a Deployment's status."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    ready = status.get("availableReplicas", 0)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    done = seen and updated == total == ready == wanted
    revision = int(deployment["metadata"].get("annotations", {}).get(REVISION, "0"))
    return Progress(wanted, updated, ready, revision, done)


def watch(cluster: Cluster, name: str, timeout: float, on_progress: Callable[[Progress], None] = lambda _: None) -> str:
    """Wait until all replicas are the newest and ready; "" then, else the reason why not."""
    end = time.monotonic() + timeout
    since: dict[str, float] = {}
    words: dict[str, str] = {}
    last = None
    while time.monotonic() < end:
        try:
            deployment = cluster.find("apps/v1", "Deployment", name)
            if deployment is None:
                return f"the Deployment {name} was deleted by somebody else"
            now = progress(deployment)
            if now != last:
                on_progress(now)
            last = now
            if now.done:
                return ""
            found = list(problems(cluster, deployment))
        except Unreachable:
            time.sleep(_POLL_SECONDS)
            continue
        # the details of a problem come and go (a pull fails, the next one is put off): what lasts is its kind
        kinds = {problem.split(" (")[0]: problem for problem in found}
        since = {kind: since.get(kind, time.monotonic()) for kind in kinds}
        words = {kind: max(words.get(kind, ""), text, key=len) for kind, text in kinds.items()}
        for kind, first in since.items():
            if time.monotonic() - first >= _PATIENCE:
                return words[kind]
        time.sleep(_POLL_SECONDS)
    return f"not ready within {timeout:.0f} s ({last})"


def problems(cluster: Cluster, deployment: Manifest) -> Iterator[str]:
    """What keeps the newest pods of a Deployment from being ready."""
    name = deployment["metadata"]["name"]
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            yield f"the cluster does not create the pod: {condition['message']}"
    wanted = deployment["spec"]["template"]["metadata"].get("annotations", {})
    for pod in cluster.list("v1", "Pod", selector(name)):
        is_newest = pod["metadata"].get("annotations", {}).items() >= wanted.items()
        if is_newest and "deletionTimestamp" not in pod["metadata"]:
            yield from _problems_of(cluster, pod)


def _problems_of(cluster: Cluster, pod: Manifest) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"no node can take the pod: {condition.get('message', condition.get('reason', ''))}"
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _WAITING:
            # the text counts tries and seconds; what stays the same is the reason
            words = _WAITING[waiting["reason"]]
            yield f"{words} ({container['image']}){_more(cluster, name, container, waiting)}"
        elif container.get("restartCount", 0) >= 2 and not container.get("ready"):
            yield f"{_WAITING['CrashLoopBackOff']} ({container['image']}){_more(cluster, name, container, waiting)}"
    if not _is_ready(status):
        yield from _warnings(cluster, name)


def _warnings(cluster: Cluster, pod: str) -> Iterator[str]:
    for event in cluster.list("v1", "Event", fields=f"involvedObject.name={pod},type=Warning"):
        if event["reason"] in ("FailedMount", "FailedCreatePodSandBox"):
            yield f"the pod cannot be prepared: {event['message'].splitlines()[0]}"
        # until it says that it is ready, a server is loading its model, which takes what it takes
        elif event["reason"] == "Unhealthy" and event.get("count", 1) >= _PROBES and _READY in _log(cluster, pod):
            yield f"the server runs, but its health check fails: {event['message']}"


def _more(cluster: Cluster, pod: str, container: Manifest, waiting: Manifest) -> str:
    ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated")
    if not ended:
        return f": {waiting.get('message', '').splitlines()[0]}" if waiting.get("message") else ""
    killed = ", out of memory" if ended.get("reason") == "OOMKilled" else ""
    log = _log(cluster, pod, previous=True) or _log(cluster, pod)
    return f": exit code {ended['exitCode']}{killed}" + (f". Its log ends with:\n{log}" if log else "")


def _log(cluster: Cluster, pod: str, previous: bool = False) -> str:
    """The end of a pod's log; "" where there is none (yet)."""
    try:
        return cluster.log(pod, _LOG_LINES, previous=previous).strip()
    except AmlRealtimeAiError:
        return ""


def _is_ready(status: Manifest) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
