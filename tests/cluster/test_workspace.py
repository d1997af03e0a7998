"""A workspace deploys to an attached cluster: the image goes to a registry, and the cluster pulls it from there."""

import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from amlrealtimeai.accel import AccelContainerImage, PredictionClient
from amlrealtimeai.containers.push import push
from amlrealtimeai.core import AksCompute, AksWebservice, ComputeTarget, Image, Model, Webservice, Workspace
from amlrealtimeai.errors import ContainerError, DeploymentError, InUseError, UnsupportedError
from amlrealtimeai.targets.cluster.target import ClusterTarget
from tests.cluster.conftest import X
from tests.cluster.kubernetes import Kubernetes, free_ports
from tests.cluster.test_cluster import belongings, wait_until
from tests.serving.models import many_output_model

THEIRS = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}]}}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, (port,) = tmp_path_factory.mktemp("registry"), free_ports(1)
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    server = subprocess.Popen(
        ["docker-registry", "serve", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).status == 200)
        except OSError:
            return False

    wait_until(answers)
    yield f"127.0.0.1:{port}/models"
    server.terminate()
    server.wait(20)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    workspace = Workspace.create("cluster-test")
    model = Model.register(workspace, many_output_model(tmp_path / "heads.accelonnx", count=2), "heads")
    made = Image.create("heads", [model], AccelContainerImage.image_configuration(), workspace)
    made.wait_for_creation()
    return made


def test_from_a_model_to_a_cluster_and_back(
    image: Image, registry: str, kubernetes: Kubernetes, target: ClusterTarget, front: Any
) -> None:
    configuration = AksCompute.attach_configuration(registry=registry, kubeconfig=kubernetes.kubeconfig)
    attached = ComputeTarget.attach(image.workspace, "cluster", configuration)
    config = AksWebservice.deploy_configuration(num_replicas=2, cpu_cores=0.1, memory_gb=0.5)
    service = Webservice.deploy_from_image(image.workspace, "heads", image, config, attached)
    service.wait_for_deployment()
    assert (service.state, service.scoring_uri) == ("Healthy", "http://heads.default.svc:50051")
    with PredictionClient("127.0.0.1", front("heads").port) as client:
        assert [array.tolist() for array in client.score_numpy_arrays({"x": X})] == [[[1, 2]], [[2, 3]]]
    with pytest.raises(InUseError):
        attached.detach()
    service.update(num_replicas=1)
    assert target.status("heads").wanted == 1
    assert "ready on" in service.get_logs()
    service.delete()
    assert belongings(target) == []
    attached.detach()


def test_a_dry_run_writes_what_would_be_applied(
    image: Image, registry: str, kubernetes: Kubernetes, target: ClusterTarget, tmp_path: Path
) -> None:
    configuration = AksCompute.attach_configuration(registry=registry, kubeconfig=kubernetes.kubeconfig)
    attached = ComputeTarget.attach(image.workspace, "cluster", configuration)
    config = AksWebservice.deploy_configuration(autoscale_enabled=True, autoscale_max_replicas=3)
    written = AksWebservice.dry_run(image.workspace, "heads", image, config, attached, tmp_path / "out")
    assert [path.name for path in written] == ["heads-chart", "heads.yaml", "heads-kserve.yaml"]
    applied = list(yaml.safe_load_all(written[1].read_text()))
    assert [one["kind"] for one in applied][-2:] == ["Deployment", "HorizontalPodAutoscaler"]
    assert applied[-2]["spec"]["template"]["spec"]["containers"][0]["image"] == f"{registry}/heads:1"
    assert stat.S_IMODE(written[1].stat().st_mode) == 0o600
    assert yaml.safe_load(written[2].read_text())["kind"] == "InferenceService"
    assert belongings(target) == [] and image.workspace.webservices == {}
    target.cluster._call("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "heads"}, **THEIRS})
    with pytest.raises(DeploymentError, match="exists and is not ours"):
        AksWebservice.dry_run(image.workspace, "heads", image, config, attached, tmp_path / "refused")
    target.cluster.delete("v1", "Service", "heads")
    assert not (tmp_path / "refused").exists()
    here = ComputeTarget.create(image.workspace, "here", AksCompute.provisioning_configuration())
    with pytest.raises(UnsupportedError, match="'here' has no manifests; only an attached cluster"):
        AksWebservice.dry_run(image.workspace, "heads", image, config, here)


def test_what_a_cluster_cannot_do_is_said(image: Image, registry: str, kubernetes: Kubernetes) -> None:
    with pytest.raises(UnsupportedError, match="needs a registry"):
        AksCompute.attach_configuration(resource_group="group", cluster_name="name")
    with pytest.raises(DeploymentError, match="no namespace 'nowhere'"):
        ComputeTarget.attach(
            image.workspace,
            "cluster",
            AksCompute.attach_configuration(registry=registry, kubeconfig=kubernetes.kubeconfig, namespace="nowhere"),
        )
    with pytest.raises(ContainerError, match="could not be pushed"):
        push(image.image_location, "127.0.0.1:1/models/heads:1")
    with pytest.raises(ContainerError, match="expected the reference"):
        push(image.image_location, "heads:1")
