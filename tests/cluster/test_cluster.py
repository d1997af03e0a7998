"""Deploy, update, scale, rotate, fail and delete on a real cluster, with clients that ask all the while."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from amlrealtimeai.accel import PredictionClient
from amlrealtimeai.errors import ConfigError, DeploymentError, NotFoundError
from amlrealtimeai.targets.cluster.api import Cluster
from amlrealtimeai.targets.cluster.manifests import MANAGER, MANAGER_LABEL
from amlrealtimeai.targets.cluster.service import ClusterService, Resources, Scaling
from amlrealtimeai.targets.cluster.target import ClusterTarget
from tests.cluster.conftest import IMAGES, Load, X
from tests.cluster.kubernetes import Kubernetes
from tests.serving.certificates import Authority

SMALL = Resources(cpu="50m", memory="64Mi", memory_limit="512Mi")
HEADS = ClusterService("heads", IMAGES[0], resources=SMALL, grace=10)


def belongings(target: ClusterTarget) -> list[str]:
    """Everything of ours on the cluster, service or not."""
    kinds = {
        "v1": ("Secret", "Service", "Endpoints", "Pod"),
        "apps/v1": ("Deployment", "ReplicaSet"),
        "networking.k8s.io/v1": ("NetworkPolicy",),
        "policy/v1beta1": ("PodDisruptionBudget",),
        "autoscaling/v1": ("HorizontalPodAutoscaler",),
    }
    found = [
        f"{kind} {item['metadata']['name']}"
        for version, names in kinds.items()
        for kind in names
        for item in target.cluster.list(version, kind, {MANAGER_LABEL: MANAGER})
    ]
    return sorted(found)


def test_a_service_comes_up_and_leaves_nothing(target: ClusterTarget, front: Any) -> None:
    seen: list[str] = []
    target.deploy(dataclasses.replace(HEADS, replicas=3), on_progress=lambda progress: seen.append(str(progress)))
    assert seen[-1] == "3 of 3 ready, 3 of the newest revision"
    status = target.status("heads")
    assert (status.state, status.wanted, status.ready, status.revision) == ("Healthy", 3, 3, 1)
    assert status.address == "heads.default.svc:50051"
    entry = front("heads")
    assert len(entry.ready()) == 3
    with PredictionClient("127.0.0.1", entry.port) as client:
        assert client.score_numpy_arrays({"x": X}).tolist() == [[1, 2]]
    assert target.logs("heads", 50).count("ready on") == 3
    target.delete("heads")
    assert belongings(target) == []
    assert target.status("heads").state == "Stopped"


def test_an_update_and_scaling_lose_nothing(target: ClusterTarget, front: Any) -> None:
    target.deploy(dataclasses.replace(HEADS, replicas=2))
    entry = front("heads")
    clients = [PredictionClient("127.0.0.1", entry.port) for _ in range(3)]
    with Load(clients) as load:
        load.wait_for(100)
        target.update(dataclasses.replace(HEADS, image=IMAGES[1], revision=2, replicas=2))
        wait_until(lambda: 2 in load.shapes)
        assert load.failures == []
        target.scale("heads", 3)
        load.wait_for(100)
        target.scale("heads", 1)
        load.wait_for(100)
    assert load.failures == []
    assert target.status("heads").revision == 2


def test_a_pod_that_is_killed_costs_at_most_what_was_in_flight(target: ClusterTarget, front: Any) -> None:
    target.deploy(dataclasses.replace(HEADS, replicas=2))
    entry = front("heads")
    clients = [PredictionClient("127.0.0.1", entry.port) for _ in range(3)]
    with Load(clients) as load:
        load.wait_for(50)
        pod = target.cluster.list("v1", "Pod", {"app.kubernetes.io/name": "heads"})[0]["metadata"]["name"]
        target.cluster.delete("v1", "Pod", pod, grace=0)
        load.wait_for(200)
    assert load.failures == []
    wait_until(lambda: target.status("heads").ready == 2)


def test_keys_and_certificates_change_without_a_failure(target: ClusterTarget, front: Any) -> None:
    authority = Authority()
    tls = authority.issue("localhost")
    secure = dataclasses.replace(
        HEADS,
        replicas=2,
        keys=["primary-key", "second-key"],
        certificate=tls.certificate.decode(),
        key=tls.key.decode(),
    )
    target.deploy(secure)
    entry = front("heads")

    def client(key: str) -> PredictionClient:
        return PredictionClient("localhost", entry.port, True, key, root_certificates=authority.pem)

    with Load([client("second-key"), client("second-key")]) as load:
        load.wait_for(50)
        target.update(dataclasses.replace(secure, keys=["renewed-key", "second-key"]))
        load.wait_for(50)
        other = authority.issue("localhost")
        renewed = dataclasses.replace(
            secure, keys=["renewed-key", "second-key"], certificate=other.certificate.decode(), key=other.key.decode()
        )
        target.update(renewed)
        load.wait_for(50)
    assert load.failures == []
    assert client("renewed-key").predict({"x": X})
    with pytest.raises(Exception, match="key"):
        client("primary-key").predict({"x": X})


SECONDS = 30  # from the call to its error, with everything taken away again
FAILURES = {
    "a missing image": (
        {"image": "localhost:1/nothing:1"},
        r"the image cannot be pulled \(localhost:1/nothing:1\)",
    ),
    "a missing pull secret and image": (
        {"image": "localhost:1/private:1", "pull_secret": "absent"},
        "the image cannot be pulled",
    ),
    "no such machine": ({"resources": dataclasses.replace(SMALL, cpu="900")}, "no node can take the pod.*cpu"),
    "no such device": ({"resources": dataclasses.replace(SMALL, fpga="example.com/fpga")}, "no node can take.*fpga"),
    "a server that ends": (
        {"arguments": ["--no-such-option"]},
        r"(?s)ends again and again.*exit code 2.*no-such-option",
    ),
    "a probe that nobody answers": (
        {"arguments": ["--admin-port", "9999"]},
        "the server runs, but its health check fails: .*connection refused",
    ),
    "a broken certificate": ({"certificate": "no PEM", "key": "none"}, "refused .*secrets|ends again and again"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_says_why_and_leaves_nothing(target: ClusterTarget, case: str) -> None:
    wrong, text = FAILURES[case]
    started = time.monotonic()
    with pytest.raises(DeploymentError, match=text) as caught:
        target.deploy(dataclasses.replace(HEADS, **wrong))  # type: ignore[arg-type]
    assert belongings(target) == []
    assert time.monotonic() - started < SECONDS
    assert "refused" in str(caught.value) or "taken away again" in str(caught.value)


def test_a_secret_that_is_missing_is_named(target: ClusterTarget) -> None:
    tls = Authority().issue("localhost")
    secure = dataclasses.replace(
        HEADS, keys=["a-key-of-it"], certificate=tls.certificate.decode(), key=tls.key.decode()
    )
    started = time.monotonic()
    with pytest.raises(DeploymentError, match=r'the pod cannot be prepared: .*secret "heads-keys" not found'):
        target.deploy(secure, on_progress=lambda _: target.cluster.delete("v1", "Secret", "heads-keys"))
    assert belongings(target) == []
    assert time.monotonic() - started < SECONDS


def test_a_quota_is_named(target: ClusterTarget) -> None:
    path = "/api/v1/namespaces/default/resourcequotas"
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    target.cluster._call("POST", path, quota)
    started = time.monotonic()
    try:
        with pytest.raises(DeploymentError, match=r"does not create the pod: .*exceeded quota"):
            target.deploy(HEADS)
    finally:
        target.cluster._call("DELETE", f"{path}/none")
    assert belongings(target) == []
    assert time.monotonic() - started < SECONDS


def test_an_update_that_fails_is_taken_back(target: ClusterTarget, front: Any) -> None:
    target.deploy(dataclasses.replace(HEADS, replicas=1))
    entry = front("heads")
    with Load([PredictionClient("127.0.0.1", entry.port)]) as load:
        load.wait_for(20)
        with pytest.raises(DeploymentError, match="goes on as it was before"):
            target.update(dataclasses.replace(HEADS, image="localhost:1/nothing:2", revision=2))
        load.wait_for(20)
    assert load.failures == []
    wait_until(lambda: target.status("heads").state == "Healthy")
    assert target.status("heads").revision == 1


def test_autoscaler_comes_and_goes(target: ClusterTarget) -> None:
    target.deploy(dataclasses.replace(HEADS, scaling=Scaling(1, 3)))
    assert "HorizontalPodAutoscaler heads" in belongings(target)
    target.update(HEADS)
    assert "HorizontalPodAutoscaler heads" not in belongings(target)


def test_other_peoples_fields_stay_and_their_objects_are_left_alone(target: ClusterTarget) -> None:
    target.deploy(HEADS)
    target.cluster.patch("apps/v1", "Deployment", "heads", {"metadata": {"annotations": {"owner": "team"}}})
    target.update(dataclasses.replace(HEADS, revision=2))
    deployment = target.cluster.find("apps/v1", "Deployment", "heads")
    assert deployment is not None and deployment["metadata"]["annotations"]["owner"] == "team"
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs"}, "spec": {"ports": [{"port": 1}]}}
    target.cluster._call("POST", "/api/v1/namespaces/default/services", foreign)
    with pytest.raises(DeploymentError, match="exists and is not ours"):
        target.deploy(dataclasses.replace(HEADS, name="theirs"))
    assert target.cluster.find("v1", "Service", "theirs") is not None
    target.cluster.delete("v1", "Service", "theirs")


def test_a_cluster_that_is_away(kubernetes: Kubernetes, tmp_path: Path) -> None:
    away = tmp_path / "kubeconfig"
    away.write_text(kubernetes.kubeconfig.read_text().replace(str(kubernetes.ports["api"]), "1"))
    target = ClusterTarget(Cluster(away))
    assert target.status("heads").state == "Unreachable"
    with pytest.raises(DeploymentError, match="does not answer"):
        target.deploy(HEADS)
    with pytest.raises(ConfigError, match="cannot be used"):
        Cluster(tmp_path / "none")
    with pytest.raises(NotFoundError, match="no service 'nobody'"):
        ClusterTarget(Cluster(kubernetes.kubeconfig)).scale("nobody", 2)


def wait_until(state: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not state():
        assert time.monotonic() < end
        time.sleep(0.2)
