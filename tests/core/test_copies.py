"""Public objects copied, pickled and compared; what is neither a workspace nor a number of seconds is told in words."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amlrealtimeai.accel import AccelContainerImage, AccelOnnxConverter
from amlrealtimeai.core import AksCompute, ComputeTarget, Image, Model, Webservice, Workspace
from amlrealtimeai.errors import InvalidInputError

COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in (0, 2, 5)),
]


def test_copies_and_pickles_are_equal_and_work_like_the_object(
    workspace: Workspace, model: Model, image: Image, cluster: ComputeTarget
) -> None:
    service = Webservice.deploy_from_model(workspace, "svc", model, deployment_target=cluster)
    service.wait_for_deployment()
    for item in (workspace, model, image, cluster, service):
        for copied in (copied_by(item) for copied_by in COPIES):
            assert type(copied) is type(item) and copied == item and hash(copied) == hash(item)
            assert repr(copied) == repr(item)
    assert len({workspace, model, image, cluster, service}) == 5 and model != "means:1"
    (kept,) = pickle.loads(pickle.dumps(workspace.webservices)).values()
    kept.add_tags({"a": "b"})
    assert Webservice(workspace, "svc").tags == {"a": "b"}
    service.delete()
    assert "Deleted" in repr(copy.deepcopy(kept))


def test_objects_are_equal_as_long_as_they_are_the_same_thing(workspace: Workspace) -> None:
    old = Model.register(workspace, __file__, "m")
    assert old == Model(workspace, "m") and old in Model.list(workspace)
    assert old != Model.register(workspace, __file__, "m") and old != Model.register(workspace, __file__, "n")
    cluster = ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration())
    assert cluster == ComputeTarget(workspace, "aks")
    ComputeTarget(workspace, "aks").delete()
    assert cluster != ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration())


@pytest.mark.parametrize("given", [None, "local", 0, {"name": "local"}, Workspace])
def test_what_is_no_workspace_is_refused_in_words(given: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: Model(given, "m"),
        lambda: Model(workspace=given, name="m"),
        lambda: Model.register(given, __file__, "m"),
        lambda: Model.list(given),
        lambda: Image(given, "i"),
        lambda: Image.create(given, "i", [], AccelContainerImage.image_configuration()),
        lambda: Image.list(given),
        lambda: ComputeTarget(given, "aks"),
        lambda: ComputeTarget.create(given, "aks", AksCompute.provisioning_configuration()),
        lambda: ComputeTarget.list(given),
        lambda: Webservice(given, "svc"),
        lambda: Webservice.deploy_from_model(given, "svc", []),
        lambda: Webservice.list(workspace=given),
        lambda: AccelOnnxConverter.convert_tf_model(given, "m", "in", "out"),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match=r"workspace: expected a Workspace, such as .*from_config\(\), got"):
            call()


def test_seconds_names_and_places_are_checked_before_anything_is_done(
    workspace: Workspace, model: Model, image: Image, cluster: ComputeTarget, tmp_path: Path
) -> None:
    service = Webservice.deploy_from_model(workspace, "svc", model, deployment_target=cluster)
    for seconds in ("5", [], float("nan"), -1, b"1"):
        with pytest.raises(InvalidInputError, match="timeout_sec: expected seconds, a number of at least 0, got"):
            service.wait_for_deployment(timeout_sec=seconds)  # type: ignore[arg-type]
    service.wait_for_deployment(timeout_sec=np.float32(60))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="compute_type: expected a name, got 5"):
        Webservice.list(workspace, compute_type=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="image id: expected 'name:version', got ''"):
        Webservice.list(workspace, image_id="")
    with pytest.raises(InvalidInputError, match=r"tags: expected a name or a list of names, got array\('a'"):
        model.remove_tags(np.array("a"))  # type: ignore[arg-type]
    for name in (5, b"x", "a\0b", ""):
        with pytest.raises(InvalidInputError, match="file_name: expected a path, got"):
            workspace.write_config(tmp_path, name)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"is a folder; expected the path of a file. Choose another one."):
        image.export(tmp_path)
    folder = Model.register(workspace, tmp_path, "folder")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / folder.filename).write_text("mine")
    with pytest.raises(InvalidInputError, match=r"is a file; expected the path of a folder. Choose another one."):
        folder.download(tmp_path / "there", exist_ok=True)
    assert (tmp_path / "there" / folder.filename).read_text() == "mine"
