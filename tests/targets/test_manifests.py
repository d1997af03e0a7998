"""A service as Kubernetes objects, as a Helm chart and for KServe."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.targets.cluster import chart
from amlrealtimeai.targets.cluster.manifests import Manifest, objects
from amlrealtimeai.targets.cluster.service import ClusterService, Resources, Scaling

IMAGE = "registry.example:5000/resnet:3"
PLAIN = ClusterService("resnet", IMAGE, revision=3, replicas=2)
FULL = ClusterService(
    "resnet",
    IMAGE,
    keys=["primary-key", "secondary-key"],
    certificate="CERTIFICATE",
    key="KEY",
    scaling=Scaling(2, 8, 60),
    resources=Resources(cpu="2", memory="2Gi", memory_limit="3Gi", fpga="intel.com/fpga"),
    pull_secret="registry",
    labels={"team": "vision"},
)


def by_kind(service: ClusterService, **versions: str) -> dict[str, Manifest]:
    return {f"{m['kind']} {m['metadata']['name']}": m for m in objects(service, **versions)}


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
@pytest.mark.parametrize("service", [PLAIN, FULL], ids=["plain", "full"])
def test_every_object_follows_kubernetes_schema(service: ClusterService, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    for manifest in objects(service):
        validate(manifest, version, strict=True)


def test_what_a_service_consists_of() -> None:
    assert list(by_kind(PLAIN)) == [
        "NetworkPolicy resnet",
        "Service resnet-pods",
        "Service resnet",
        "PodDisruptionBudget resnet",
        "Deployment resnet",
    ]
    added = set(by_kind(FULL)) - set(by_kind(PLAIN))
    assert added == {"Secret resnet-keys", "Secret resnet-tls", "HorizontalPodAutoscaler resnet"}
    assert by_kind(PLAIN)["Service resnet-pods"]["spec"]["clusterIP"] == "None"
    assert by_kind(FULL)["Secret resnet-keys"]["data"] == {"keys": "cHJpbWFyeS1rZXkKc2Vjb25kYXJ5LWtleQo="}


def container_of(service: ClusterService) -> Any:
    return by_kind(service)["Deployment resnet"]["spec"]["template"]["spec"]["containers"][0]


def test_the_container_may_do_little() -> None:
    pod = by_kind(FULL)["Deployment resnet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
    assert container_of(FULL)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container_of(FULL)["resources"] == {
        "requests": {"cpu": "2", "memory": "2Gi", "intel.com/fpga": "1"},
        "limits": {"memory": "3Gi", "intel.com/fpga": "1"},
    }
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_keys_and_certificates_are_files_of_secrets() -> None:
    arguments = container_of(FULL)["args"]
    assert arguments[arguments.index("--key-file") + 1] == "/run/secrets/keys/keys"
    assert arguments[arguments.index("--ssl-cert") + 1] == "/run/secrets/tls/tls.crt"
    assert "primary-key" not in str(by_kind(FULL)["Deployment resnet"])
    assert "--key-file" not in container_of(PLAIN)["args"]


def test_replicas_belong_to_the_autoscaler_where_there_is_one() -> None:
    assert by_kind(PLAIN)["Deployment resnet"]["spec"]["replicas"] == 2
    assert "replicas" not in by_kind(FULL)["Deployment resnet"]["spec"]
    new = by_kind(FULL)["HorizontalPodAutoscaler resnet"]
    assert (new["apiVersion"], new["spec"]["minReplicas"], new["spec"]["maxReplicas"]) == ("autoscaling/v2", 2, 8)
    old = by_kind(FULL, scaling_version="v1", policy_version="v1beta1")
    assert old["HorizontalPodAutoscaler resnet"]["spec"]["targetCPUUtilizationPercentage"] == 60
    assert old["PodDisruptionBudget resnet"]["apiVersion"] == "policy/v1beta1"


def test_other_keys_replace_the_pods() -> None:
    def digest(keys: list[str]) -> str:
        service = ClusterService("resnet", IMAGE, keys=keys, certificate="C", key="K")
        template = by_kind(service)["Deployment resnet"]["spec"]["template"]
        return template["metadata"]["annotations"]["amlrealtimeai/secrets-digest"]

    assert digest(["one-key!", "two-key!"]) == digest(["one-key!", "two-key!"]) != digest(["new-key!", "two-key!"])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"name": "Big"}, "lower-case letters"),
        ({"name": "a" * 54}, "at most 53"),
        ({"name": "ends-"}, "no '-' at the end"),
        ({"replicas": -1}, "expected 0 or more, got -1"),
        ({"certificate": "C"}, "belong together"),
        ({"keys": ["abcdefgh"]}, "plain text"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_before(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        ClusterService(**{"name": "resnet", "image": IMAGE, **wrong})


@pytest.mark.parametrize("wrong", [(0, 1, 50), (2, 1, 50), (1, 2, 0), (1, 2, 101)])
def test_scaling_has_an_order(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInputError, match="1 <= least <= most"):
        Scaling(*wrong)


def test_yaml_is_the_same_objects() -> None:
    assert list(yaml.safe_load_all(chart.as_yaml(objects(FULL)))) == objects(FULL)


def test_a_kserve_inference_service() -> None:
    made = chart.inference_service(PLAIN)
    container = made["spec"]["predictor"]["containers"][0]
    assert (made["kind"], container["name"], container["image"]) == ("InferenceService", "kserve-container", IMAGE)
    assert container["ports"] == [{"name": "h2c", "containerPort": 50051, "protocol": "TCP"}]
    assert (made["spec"]["predictor"]["minReplicas"], made["spec"]["predictor"]["maxReplicas"]) == (2, 2)
    with pytest.raises(InvalidInputError, match="KServe ends TLS"):
        chart.inference_service(FULL)


@pytest.mark.parametrize("service", [PLAIN, FULL], ids=["plain", "full"])
def test_a_helm_chart_holds_no_secret(service: ClusterService, tmp_path: Path) -> None:
    folder = chart.write_chart(service, tmp_path / "chart")
    values = yaml.safe_load((folder / "values.yaml").read_text())
    assert values["image"] == IMAGE
    everything = "".join(path.read_text() for path in folder.rglob("*.yaml"))
    assert "CERTIFICATE" not in everything and "primary-key" not in everything
    deployment = (folder / "templates/deployment.yaml").read_text()
    assert "image: '{{ .Values.image }}'" in deployment
    assert "resources: {{- .Values.resources | toYaml | nindent 14 }}" in deployment
    if service is PLAIN:
        assert "replicas: {{ .Values.replicas }}" in deployment
    with pytest.raises(InvalidInputError, match="exists already"):
        chart.write_chart(service, folder)
