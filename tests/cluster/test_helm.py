"""The chart in the hands of Helm itself: its SDK lints, renders, installs, upgrades and removes it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from amlrealtimeai.accel import PredictionClient
from amlrealtimeai.targets.cluster import chart
from amlrealtimeai.targets.cluster.manifests import SECRETS_DIGEST, objects
from amlrealtimeai.targets.cluster.service import ClusterService
from amlrealtimeai.targets.cluster.target import ClusterTarget
from tests.cluster.conftest import IMAGES, X
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.test_cluster import HEADS, belongings, wait_until
from tests.serving.certificates import Authority
from tests.targets.test_manifests import FULL, PLAIN

helm = pytest.importorskip("helm_python", reason="make test-cluster installs Helm's SDK")
SECRETS = {"keys": "primary-key\nsecondary-key\n", "tls": {"certificate": "CERTIFICATE", "key": "KEY"}}


@pytest.mark.parametrize(("service", "values"), [(PLAIN, {}), (FULL, SECRETS)], ids=["plain", "full"])
def test_what_helm_renders_is_what_we_apply(service: ClusterService, values: dict[str, Any], tmp_path: Path) -> None:
    folder = chart.write_chart(service, tmp_path / "chart")
    report = helm.lint(folder, values, strict=True)
    assert report["errors"] == [] and {m["error"] for m in report["messages"]} <= {"icon is recommended"}
    rendered = helm.Chart.load(folder).render(values, name="release", namespace="default")
    made = [one for text in rendered.values() for one in yaml.safe_load_all(text) if one]
    expected = objects(service)
    for one in (*made, *expected):
        if one["kind"] == "Deployment":  # a digest of values is not the digest of a service
            assert one["spec"]["template"]["metadata"]["annotations"].pop(SECRETS_DIGEST)
    assert sorted(made, key=str) == sorted(expected, key=str)


def test_helm_installs_upgrades_and_removes_it(
    kubernetes: Kubernetes, target: ClusterTarget, front: Any, tmp_path: Path
) -> None:
    authority = Authority()
    tls = authority.issue("localhost")
    values = {"keys": "primary-key\n", "tls": {"certificate": tls.certificate.decode(), "key": tls.key.decode()}}
    secure = dataclasses.replace(HEADS, keys=["a key"], certificate="a certificate", key="its key")
    folder = chart.write_chart(secure, tmp_path / "chart")
    release = helm.Config(kubeconfig_path=kubernetes.kubeconfig, namespace="default")
    release.install(folder, "release", values, wait="legacy", timeout=120)
    port = front("heads").port
    with PredictionClient("localhost", port, True, "primary-key", root_certificates=authority.pem) as client:
        assert client.score_numpy_arrays({"x": X}).tolist() == [[1, 2]]
    renewed = {**values, "keys": "renewed-key\n", "image": IMAGES[1], "revision": 2}
    release.upgrade(folder, "release", renewed, wait="legacy", timeout=120)
    wait_until(lambda: target.status("heads").ready == 1)
    with PredictionClient("localhost", port, True, "renewed-key", root_certificates=authority.pem) as client:
        assert [array.tolist() for array in client.score_numpy_arrays({"x": X})] == [[[1, 2]], [[2, 3]]]
    assert target.status("heads").revision == 2
    release.uninstall("release")
    wait_until(lambda: belongings(target) == [], 150)  # this kubelet says after a minute that a pod has ended
