"""What the lesson on deployment is made of: its models, its load, its plots and tables."""

import os
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai import lab
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.containers import ImageInfo, LayerInfo
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.deploy import Here, Load
from amlrealtimeai.targets.cluster import manifests
from amlrealtimeai.targets.cluster.service import ClusterService


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def network(folder: Path) -> Path:
    return lab.deploy.small_network(folder, 1)


def test_a_seed_is_a_file_and_another_seed_another_answer(network: Path, folder: Path, tmp_path: Path) -> None:
    assert lab.deploy.small_network(tmp_path, 1).read_bytes() == network.read_bytes()
    fox = {"images": np.array([lab.sample("red_fox").read_bytes()], object)}
    files = network, lab.deploy.small_network(folder, 2)
    first, second = (ConvertedModel.load(file).predict(fox).outputs["output_alias"][0] for file in files)
    assert first.shape == second.shape == (10,) and first.argmax() != second.argmax()
    np.testing.assert_allclose([first.sum(), second.sum()], 1, atol=1e-5)
    assert max(first.max(), second.max()) < 0.9, "an answer of 0 and 1 shows nothing"


def test_the_broken_one_is_packed_and_cannot_be_loaded(tmp_path: Path) -> None:
    from amlrealtimeai.containers.configuration import check_model

    broken = lab.deploy.broken_network(tmp_path)
    assert check_model(broken).name == "small"
    with pytest.raises(InvalidInputError, match=r"classifier\.onnx"):
        ConvertedModel.load(broken)


def test_a_full_server_refuses_and_the_others_are_answered(network: Path, image: ImageInfo) -> None:
    with lab.deploy.limited(image, network, None, max_in_flight=2) as address:
        one, many = lab.deploy.loads(address, (1, 8), rounds=1, seconds=0.5)
    assert one.clients == 1 and one.refused == 0 and len(one.milliseconds) > 0
    assert many.refused > 0 and len(many.milliseconds) > 0
    assert str(many).startswith(" 8 clients: ") and str(many).endswith(f"answers/s, {many.refused} refused")


@pytest.fixture(scope="module")
def image() -> ImageInfo:
    return made("m")


def made(model: str) -> ImageInfo:
    sizes = {"base": 14e6, "packages": 45e6, "app": 8e5, "model": 5e5}
    layers = [
        LayerInfo(kind, f"sha256:{(model if kind == 'model' else kind):0<64}", int(size), int(size), True)
        for kind, size in sizes.items()
    ]
    return ImageInfo(Path("x"), f"sha256:{model:0<64}", 60300000, 0.1, tuple(layers), "x", "1", "sha256:1")


def test_layers_are_compared(image: ImageInfo) -> None:
    said = lab.deploy.compare({"first": image, "again": image, "other": made("n")}).splitlines()
    assert said[0].split() == ["bytes", "first", "again", "other"]
    assert [line.split() for line in said[1:]] == [
        ["base", "14,000,000", "base0000", "same", "same"],
        ["packages", "45,000,000", "packages", "same", "same"],
        ["app", "800,000", "app00000", "same", "same"],
        ["model", "500,000", "m0000000", "same", "NEW"],
        ["image", "60,300,000", "m0000000", "same", "NEW"],
    ]


def test_pictures_say_what_they_show(image: ImageInfo) -> None:
    said = repr(lab.plots.layers(image))
    assert said == "The image's layers from the bottom up, in megabytes: base 14.0, packages 45.0, app 0.8, model 0.5."
    measured = [Load(1, np.array([10.0, 10, 12]), 0, 1.0), Load(8, np.array([30.0]), 9, 1.0)]
    assert repr(lab.plots.load(measured)).endswith("1: 10 ms, 0 refused; 8: 30 ms, 9 refused.")
    assert "three replicas are ready" in repr(lab.diagrams.rolling())


def test_what_is_here_is_said() -> None:
    assert str(Here("podman", "", None)).splitlines() == [
        "containers   podman starts them: real",
        "Kubernetes   none: its objects are shown, and not applied",
    ]
    said = str(Here(None, "no container engine is installed", "kind"))
    assert "none (no container engine is installed); a process instead" in said
    assert "'kind'; this lesson leaves it alone" in said


def test_without_an_engine_it_is_said_why(image: ImageInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setenv("KUBECONFIG", os.devnull)
    assert lab.deploy.here(image) == Here(None, "no container engine is installed", None)


def test_no_secret_is_shown() -> None:
    plan = ClusterService("svc", "x@sha256:1", keys=["hunter2hunter2"], certificate="CERT", key="PRIVATE")
    objects = manifests.objects(plan)
    kinds = [line.split()[0] for line in lab.deploy.overview(objects).splitlines()]
    assert kinds == [each["kind"] for each in objects]
    before, after = str(objects), str(lab.deploy.without_secrets(objects))
    data = [value for each in objects if each["kind"] == "Secret" for value in each["data"].values()]
    assert len(data) == 3 and all(value in before and value not in after for value in data)
    assert "'tls.key': '(12 characters)'" in after
