"""What people pass, and ask of objects that were deleted meanwhile: words, no raw errors, and nothing is lost."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amlrealtimeai.accel import AccelContainerImage, AccelInferenceConfig, PredictionClient
from amlrealtimeai.core import (
    AksCompute,
    AksWebservice,
    ComputeTarget,
    EdgeCompute,
    Image,
    Model,
    Webservice,
    Workspace,
)
from amlrealtimeai.core.webservice import AksServiceDeploymentConfiguration
from amlrealtimeai.deployment_client import DeploymentClient
from amlrealtimeai.errors import (
    ComputeTargetNotFoundError,
    ImageNotFoundError,
    InvalidInputError,
    ModelNotFoundError,
    NotFoundError,
    WebserviceNotFoundError,
)

CONFIGURATION = AccelContainerImage.image_configuration()


def test_an_object_of_another_class_is_refused_in_words(
    workspace: Workspace, model: Model, cluster: Any, image: Image
) -> None:
    found = AksWebservice.deploy_configuration()
    tried: dict[str, tuple[Any, ...]] = {
        "image_config: expected .*image_configuration": (Image.create, "x", [model], None),
        "image_config: expected": (Image.create, "x", [model], {"tags": {}}),
        "model: expected one of the workspace .Model.": (Image.create, "x", [image], CONFIGURATION),
        "provisioning_configuration: expected": (ComputeTarget.create, "x", None),
        "attach_configuration: expected": (ComputeTarget.attach, "xx", {"registry": "r"}),
        "image: expected one of the workspace .Image.": (Webservice.deploy_from_image, "svc", model, found, cluster),
        "ImageNotFound: no image 'x'": (Webservice.deploy_from_image, "svc", "x", found, cluster),
        "image: expected": (Webservice.deploy_from_image, "svc", None, found, cluster),
        "deployment_config: expected": (Webservice.deploy_from_model, "svc", model, None, {"num_replicas": 1}, cluster),
        "expected one of .*got AccelContainerImage": (Webservice.deploy_from_model, "svc", image, None, found, cluster),
        "ModelNotFound: no model 'y'": (Webservice.deploy_from_model, "svc", ["y"], None, found, cluster),
        "inference_config: expected": (Model.deploy, "svc", [model], {}, found, cluster),
    }
    for words, (call, *arguments) in tried.items():
        with pytest.raises((InvalidInputError, NotFoundError), match=words):
            call(workspace, *arguments)
    with pytest.raises(InvalidInputError, match=r"update_configuration: expected AksUpdateConfiguration"):
        cluster.update({"ssl_configuration": None})
    assert (Webservice.list(workspace), Image.list(workspace)) == ([], [])


@pytest.mark.parametrize("number", [np.int64(2), np.uint8(2), 2])
def test_numbers_of_numpy_are_numbers(number: Any, workspace: Workspace, converted_file: Path) -> None:
    for _ in range(2):
        Model.register(workspace, converted_file, "means")
    assert Model(workspace, "means", version=number).version == 2
    assert AksCompute.provisioning_configuration(agent_count=number).agent_count == 2
    assert AksWebservice.deploy_configuration(num_replicas=number).num_replicas == 2
    assert EdgeCompute.provisioning_configuration(port=number).port == 2


@pytest.mark.parametrize("number", [0, -1, True, 1.0, "1.0", "", np.float64(1)])
def test_what_is_no_version_is_refused(number: Any, workspace: Workspace, model: Model) -> None:
    with pytest.raises(InvalidInputError, match="model version: expected a number of at least 1, got"):
        Model(workspace, "means", version=number)
    assert Model(workspace, "means", version="1").id == "means:1"  # type: ignore[arg-type]


def test_a_model_may_be_named(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    for given in ("means", "means:1", ["means"], ("means:1",), model, iter([model])):
        service = Webservice.deploy_from_model(workspace, "svc", given, None, None, cluster)  # type: ignore[arg-type]
        assert [served.id for served in service.models] == ["means:1"]
        service.delete()
    served = Model.deploy(workspace, "svc", "means", AccelInferenceConfig(), None, cluster)  # type: ignore[arg-type]
    assert served.models[0].id == "means:1"


def test_what_serialize_wrote_finds_the_object_again(workspace: Workspace, model: Model, image: Image) -> None:
    cluster = ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration())
    service = Webservice.deploy_from_model(workspace, "svc", model, None, None, cluster)
    assert Model.deserialize(workspace, model.serialize()).id == "means:1"
    assert Image.deserialize(image.workspace, image.serialize()).digest == image.digest
    assert ComputeTarget.deserialize(workspace, cluster.serialize()).name == "aks"
    assert Webservice.deserialize(workspace, service.serialize()).name == "svc"
    for found in (Model, Image, ComputeTarget, Webservice):
        with pytest.raises(InvalidInputError, match=r"expected what serialize\(\) returns"):
            found.deserialize(workspace, {"x": 1})


def test_what_was_deleted_is_named_with_the_words_of_its_kind(
    workspace: Workspace, model: Model, cluster: ComputeTarget, converted_file: Path
) -> None:
    service = Webservice.deploy_from_model(workspace, "svc", model, None, None, cluster)
    other = Model.register(workspace, converted_file, "other")
    service.delete()
    cluster.delete()
    with pytest.raises(WebserviceNotFoundError, match="WebserviceNotFound: the webservice 'svc' does not exist"):
        service.add_tags({"a": "b"})
    with pytest.raises(ComputeTargetNotFoundError, match="ComputeTargetNotFound: the compute target 'aks' does not"):
        Webservice.deploy_from_model(workspace, "svc", model, None, None, cluster)
    cluster = ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration())
    other.delete()
    for call in (other.delete, lambda: other.add_tags({"a": "b"})):
        with pytest.raises(ModelNotFoundError, match=r"ModelNotFound: .*'other:1' .*Look at workspace.models"):
            call()
    with pytest.raises(ModelNotFoundError, match="'other:1'"):
        Webservice.deploy_from_model(workspace, "svc", other, None, None, cluster)
    with pytest.raises(ImageNotFoundError, match="'absent:1'"):
        workspace.store.delete("images", {"name": "absent", "version": 1})
    assert Webservice.list(workspace) == []


def test_a_workspace_that_was_deleted_says_so(workspace: Workspace, converted_file: Path) -> None:
    doomed = Workspace.create("doomed")
    same = Workspace.get("doomed")
    doomed.delete()
    for call in (lambda: Model.register(same, converted_file, "means"), lambda: same.store.logs):
        with pytest.raises(NotFoundError, match=r"does not exist (\(any more\)|any more)"):
            call()
    assert not same.path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the folder that a program is in")
def test_a_deleted_current_folder_is_named(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for call in (Workspace.from_config, lambda: Model.register(workspace, "model.pb", "m"), workspace.write_config):
        with pytest.raises(FileNotFoundError, match=r"was deleted. Change to another, with os.chdir"):
            call()


def test_none_is_the_originals_default(home: Path) -> None:
    made = Workspace.create("defaults", None, None, None, None)
    assert (made.subscription_id, made.location, made.sku, made.friendly_name) == (
        "local",
        "local",
        "basic",
        "defaults",
    )
    made.delete()


def test_names_are_those_of_the_original(workspace: Workspace, cluster: ComputeTarget) -> None:
    assert cluster.type == "AKS"
    edge = ComputeTarget.create(workspace, "device", EdgeCompute.provisioning_configuration())
    with pytest.raises(ComputeTargetNotFoundError, match=r"is of the type 'Edge', not 'AKS'.*ComputeTarget\(workspace"):
        AksCompute(workspace, "device")
    edge.delete()


@pytest.mark.parametrize(
    "path",
    [
        *("core.experiment", "core.run", "core.runconfig", "core.environment", "core.conda_dependencies"),
        *("core.dataset", "core.compute.amlcompute", "core.webservice.aci", "train.estimator", "train.dnn", "widgets"),
        *("pipeline.core", "contrib.iot", "contrib.services", "data.data_reference"),
    ],
)
def test_a_module_that_needs_azure_says_so(path: str) -> None:
    with pytest.raises(ImportError, match=r"azureml\.\S+ needs Azure, and is not on this machine\. [A-Z]"):
        exec(f"from amlrealtimeai.{path} import Something")
    with pytest.raises(ModuleNotFoundError, match="No module named 'amlrealtimeai"):
        exec("import amlrealtimeai.core.absent")


def test_diagnostics_are_not_collected(capsys: pytest.CaptureFixture[str]) -> None:
    from amlrealtimeai.core.compute.compute import ComputeTargetException
    from amlrealtimeai.exceptions import ComputeTargetException as same
    from amlrealtimeai.telemetry import set_diagnostics_collection

    assert ComputeTargetException is same
    set_diagnostics_collection(send_diagnostics=True)
    assert "nothing is collected or sent" in capsys.readouterr().out


def test_two_answers_to_one_question_are_refused(
    workspace: Workspace, model: Model, cluster: ComputeTarget, image: Image
) -> None:
    service = Webservice.deploy_from_model(workspace, "svc", model, None, None, cluster)
    with pytest.raises(InvalidInputError, match="expected an image or models, got both"):
        service.update(image=image, models=[model])


def test_a_text_is_no_flag(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    with pytest.raises(InvalidInputError, match="auth_enabled: expected True or False, got 'False'"):
        AksWebservice.deploy_configuration(auth_enabled="False")  # type: ignore[arg-type]
    service = Webservice.deploy_from_model(workspace, "svc", model, None, None, cluster)
    for wrong in ("False", "no", b"0", [], np.array([False]), 2, 0.0):
        with pytest.raises(InvalidInputError, match="overwrite: expected True or False, got"):
            Webservice.deploy_from_model(workspace, "svc", model, None, None, cluster, wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="auth_enabled: expected True or False, got"):
            asked = AksServiceDeploymentConfiguration(auth_enabled=wrong)  # type: ignore[arg-type]
            Webservice.deploy_from_model(workspace, "other", model, None, asked, cluster)
    with pytest.raises(InvalidInputError, match="keep_running: expected True or False, got 'False'"):
        AksCompute.provisioning_configuration(run_in="process", keep_running="False")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="keep_running: expected True or False, got 'no'"):
        DeploymentClient("s", "g", "account", run_in="process", keep_running="no")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="autoscale_enabled: expected True or False"):
        service.update(autoscale_enabled="False")  # type: ignore[call-arg]
    for flag in (0, None, np.bool_(False)):
        service.wait_for_deployment(flag)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="auth_enabled: expected"):
        service.update(auth_enabled="false")  # type: ignore[arg-type]
    assert not service.auth_enabled
    with pytest.raises(InvalidInputError, match="use_ssl: expected True or False, got the text 'False'"):
        PredictionClient("localhost", 1, "False")  # type: ignore[arg-type]
