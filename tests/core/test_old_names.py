from pathlib import Path

import pytest

import amlrealtimeai
import amlrealtimeai.resources
from amlrealtimeai import exceptions
from amlrealtimeai.core import AksCompute, ComputeTarget, Image, Model, Webservice, Workspace
from amlrealtimeai.errors import NotFoundError, StoreError


def test_the_original_notebooks_way_to_find_or_create_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path))
    from amlrealtimeai.core import Workspace
    from amlrealtimeai.core.compute import AksCompute, ComputeTarget
    from amlrealtimeai.core.compute_target import ComputeTargetException

    ws = Workspace.from_config()
    try:
        cluster = ComputeTarget(workspace=ws, name="my-aks")
    except ComputeTargetException:
        configuration = AksCompute.provisioning_configuration(vm_size="Standard_PB6s", agent_count=1)
        cluster = ComputeTarget.create(ws, "my-aks", configuration)
        cluster.wait_for_completion(show_output=False)
    assert ComputeTarget(workspace=ws, name="my-aks").provisioning_state == "Succeeded"
    cluster.delete()


def test_errors_are_caught_under_their_old_names(tmp_path, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path))
    from amlrealtimeai.exceptions import (
        ComputeTargetException,
        ModelNotFoundException,
        WebserviceException,
        WorkspaceException,
    )

    ws = Workspace.from_config()
    with pytest.raises(ModelNotFoundException, match="nothere") as model:
        Model(ws, "nothere")
    with pytest.raises(WebserviceException, match="nothere") as service:
        Webservice(ws, "nothere")
    with pytest.raises(ComputeTargetException, match="nothere") as target:
        ComputeTarget(ws, "nothere")
    with pytest.raises(WebserviceException, match="nothere") as image:
        Image(ws, "nothere")
    # Old code looks for these words in e.message.
    assert [found.value.message.split(":")[0] for found in (model, service, target, image)] == [
        "ModelNotFound",
        "WebserviceNotFound",
        "ComputeTargetNotFound",
        "ImageNotFound",
    ]
    with pytest.raises(WorkspaceException):
        Workspace.get("nothere")
    for bad in ({"vm_size": "Standard_D3"}, {"agent_count": 0}):
        with pytest.raises(ComputeTargetException):
            AksCompute.provisioning_configuration(**bad)


@pytest.mark.parametrize("name", ["ComputeTargetException", "WebserviceException", "ImageException"])
def test_old_names_do_not_swallow_other_troubles(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path))
    caught = getattr(exceptions, name)
    workspace = Workspace.from_config()
    others = {"ComputeTargetException", "WebserviceException", "ModelNotFoundException"} - {name}
    if name == "ComputeTargetException":
        assert not any(issubclass(getattr(exceptions, other), caught) for other in others)
    workspace.store.database.path.write_bytes(b"something else" * 400)
    for look in (ComputeTarget, Webservice, Image):
        try:
            look(workspace, "my-aks")
        except caught as problem:
            pytest.fail(f"{name} has caught {problem!r}")
        except StoreError:
            pass


@pytest.mark.parametrize("name", [None, "", 5, ["x"]])
@pytest.mark.parametrize("kind", ["ComputeTarget", "Webservice", "Model", "Image"])
def test_no_name_is_nobodys_name(
    kind: str, name: object, workspace: Workspace, model: Model, cluster: ComputeTarget
) -> None:
    Webservice.deploy_from_model(workspace, "means-svc", model, deployment_target=cluster)
    found = {"ComputeTarget": ComputeTarget, "Webservice": Webservice, "Model": Model, "Image": Image}[kind]
    with pytest.raises(ValueError, match="expected") as caught:
        found(workspace, name)
    assert not isinstance(caught.value, exceptions.ComputeTargetException | exceptions.WebserviceException)
    with pytest.raises(ValueError, match="expected"):
        workspace.store.find("webservices", name=name)


def test_a_missing_file_is_a_file_not_found_error(workspace: Workspace, tmp_path: Path) -> None:
    from amlrealtimeai.accel import PredictionClient
    from amlrealtimeai.artifact.converted import ConvertedModel
    from amlrealtimeai.containers import build_image

    tried = (
        lambda: Model.register(workspace, tmp_path / "absent.pb", "m"),
        lambda: PredictionClient("localhost", 1).score_file(tmp_path / "absent.jpg"),
        lambda: amlrealtimeai.PredictionClient("localhost", 1).score_image(tmp_path / "absent.jpg"),
        lambda: ConvertedModel.load(tmp_path / "absent.accelonnx"),
        lambda: build_image(tmp_path / "absent.accelonnx", tmp_path / "x.tar", name="x", tag="1"),
        lambda: amlrealtimeai.resources.path("absent"),
    )
    for attempt in tried:
        with pytest.raises(FileNotFoundError, match="absent") as caught:
            attempt()
        assert isinstance(caught.value, NotFoundError)
