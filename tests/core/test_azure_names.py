"""Old programs' names, keywords and habits that are not in the notebooks: what works, and what says that it cannot."""

import importlib
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest

from amlrealtimeai.accel import AccelContainerImage
from amlrealtimeai.accel.converter import ConversionRequest
from amlrealtimeai.core import AksCompute, AksWebservice, ComputeTarget, Image, Model, Webservice, Workspace
from amlrealtimeai.core.compute import AksUpdateConfiguration, SslConfiguration
from amlrealtimeai.core.operation import Operation
from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, UnsupportedError, WebserviceInputError


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("core", "Experiment"),
        ("core", "Environment"),
        ("core", "Dataset"),
        ("core.compute", "AmlCompute"),
        ("core.webservice", "AciWebservice"),
        ("core.webservice", "LocalWebservice"),
        ("core.model", "InferenceConfig"),
        ("contrib.core.compute", "IotHubCompute"),
        ("contrib.core.webservice", "IotWebservice"),
        ("contrib.core.webservice", "IotBaseModuleSettings"),
    ],
)
def test_an_import_that_needs_azure_says_so(module: str, name: str) -> None:
    found = f"amlrealtimeai.{module}"
    with pytest.raises(ImportError, match=f"{name} needs Azure, and is not on this machine") as caught:
        exec(f"from {found} import {name}")
    assert isinstance(caught.value, UnsupportedError)
    with pytest.raises(AttributeError, match="no attribute 'Absent'"):
        importlib.import_module(found).Absent  # noqa: B018


def test_an_attribute_that_needs_azure_says_so(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    service = Webservice.deploy_from_model(workspace, "means-svc", model, deployment_target=cluster)
    found = [
        *[(workspace, name) for name in ("experiments", "get_default_datastore", "datasets", "setup")],
        *[(of, name) for of in (model, Model) for name in ("package", "profile")],
        *[(of, name) for of in (service, Webservice) for name in ("deploy", "swagger_uri")],
        *[(cluster, name) for name in ("cluster_fqdn", "system_services", "tags")],
    ]
    for of, name in found:
        assert not hasattr(of, name)
        with pytest.raises(UnsupportedError, match=rf"{name} needs Azure, and is not on this machine"):
            getattr(of, name)
    assert (model.run_id, model.experiment_name, model.created_by, service.created_by) == (None, None, None, None)


def test_old_names_of_what_there_is(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    from amlrealtimeai.core.image.container import ContainerImage
    from amlrealtimeai.exceptions import AuthenticationException, AzureMLException, ProjectSystemException

    assert ContainerImage.__name__ == "ContainerImage" and issubclass(AuthenticationException, AzureMLException)
    with pytest.raises(ProjectSystemException):
        Workspace.get("nothere")
    service = Webservice.deploy_from_model(workspace, "means-svc", model, deployment_target=cluster)
    while service.state != "Healthy":
        service.update_deployment_state()
    cluster.wait_for_provisioning(show_output=True)
    assert isinstance(cluster, AksCompute) and cluster.agent_vm_size == "Standard_PB6s"
    assert (datetime.now(UTC) - cluster.created_on).total_seconds() < 600
    assert list(workspace.webservices()) == list(workspace.webservices) == ["means-svc"]
    assert Webservice.list(workspace, image_digest="sha256:0") == []
    model.update_tags_properties(add_tags={"a": "1", "b": "2"}, remove_tags=["a"])
    assert Model(workspace, "means").tags == {"b": "2"}
    with pytest.raises(InvalidInputError, match="expected a picture or a batch of arrays, got JSON"):
        service.run('{"data": [1]}')
    service.delete()


def test_a_list_of_paths_is_refused_in_words(workspace: Workspace, converted_file: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected the path of one file or folder, got"):
        Model.register(workspace, [converted_file], "means")  # type: ignore[arg-type]


def test_a_configuration_is_found_where_it_was_written(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write_config(path="./here", file_name="my.json")
    for found in (
        Workspace.from_config(path="./here", _file_name="my.json"),
        Workspace.from_config(path="./here/my.json"),
        Workspace.from_config("here/.amlrealtimeai/my.json"),
    ):
        assert found == workspace
    with pytest.raises(AmlRealtimeAiError, match=r"no other.json at"):
        Workspace.from_config(path="here", _file_name="other.json")


def test_azures_other_spellings_and_later_keywords(workspace: Workspace, cluster: ComputeTarget) -> None:
    made = AksCompute.provisioning_configuration(vm_size="standard_pb6s", location="West Europe")
    assert (made.vm_size, made.location) == ("Standard_PB6s", "westeurope")
    with pytest.warns(UserWarning, match="cluster_purpose, load_balancer_type has no meaning on this machine"):
        AksCompute.provisioning_configuration(
            cluster_purpose=AksCompute.ClusterPurpose.DEV_TEST, load_balancer_type="InternalLoadBalancer"
        )
    with pytest.warns(UserWarning, match="hbi_workspace has no meaning"):
        Workspace.create("with-hbi", hbi_workspace=True).delete()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Workspace.create("with-hbi", hbi_workspace=False).delete()
    assert AksWebservice.deploy_configuration(cpu_cores_limit=2, memory_gb_limit=4).asked == {
        "cpu_cores_limit": 2,
        "memory_gb_limit": 4,
    }
    with pytest.raises(UnsupportedError, match="TLS is not switched off in place"):
        cluster.update(AksUpdateConfiguration(SslConfiguration(status="Disabled")))  # type: ignore[attr-defined]
    with (
        pytest.warns(UserWarning, match="leaf_domain_label has no meaning"),
        pytest.raises(InvalidInputError, match=r"SslConfiguration\(cert="),
    ):
        cluster.update(AksUpdateConfiguration(SslConfiguration(leaf_domain_label="mine")))  # type: ignore[attr-defined]


def test_what_cannot_be_deployed_leaves_no_image(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    configuration = AccelContainerImage.image_configuration()
    Webservice.deploy_from_model(workspace, "means-svc", model, deployment_target=cluster)
    with pytest.raises(WebserviceInputError, match="exists already"):
        Webservice.deploy_from_model(workspace, "means-svc", model, configuration, None, cluster)
    assert Image.list(workspace) == []
    assert not list(workspace.store.logs.glob("image-*"))  # none was begun
    many = AksWebservice.deploy_configuration(num_replicas=9)
    with pytest.raises(AmlRealtimeAiError, match="Insufficient fpga"):
        Webservice.deploy_from_model(workspace, "other-svc", model, configuration, many, cluster)
    assert Image.list(workspace) == []


def test_a_conversion_is_waited_for_no_longer_than_asked(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    go_on = threading.Event()

    def convert(progress: object) -> Model:
        go_on.wait(60)
        return model

    request = ConversionRequest(Operation("convert", convert), model)
    for shown in (False, True):
        assert not request.wait_for_completion(show_output=shown, timeout=0.2)
    assert request.get_status() == "Running" and "is still being converted after 0.2 s" in capsys.readouterr().out
    go_on.set()
    assert request.wait_for_completion(show_output=True, timeout=60) and request.result is model
