import threading
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai.accel import AccelInferenceConfig, client_from_service
from amlrealtimeai.accel.client import PredictionClient
from amlrealtimeai.core import AksCompute, AksWebservice, ComputeTarget, Image, Model, Webservice, Workspace
from amlrealtimeai.core.compute import AksUpdateConfiguration, SslConfiguration
from amlrealtimeai.errors import (
    AmlRealtimeAiError,
    ConfigError,
    DeploymentError,
    InUseError,
    InvalidInputError,
    NotFoundError,
)
from tests.core.conftest import MEANS
from tests.serving.certificates import Authority
from tests.serving.processes import eventually


def deploy(
    workspace: Workspace, model: Model, cluster: ComputeTarget, name: str = "means-svc", **settings: object
) -> Webservice:
    config = AksWebservice.deploy_configuration(**settings)  # type: ignore[arg-type]
    service = Webservice.deploy_from_model(workspace, name, model, None, config, cluster)
    service.wait_for_deployment()
    return service


def score(service: Webservice, picture: Path) -> np.ndarray:
    return np.asarray(client_from_service(service).score_file(picture))


def test_the_whole_path(image: Image, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = image.workspace
    cluster = ComputeTarget.create(shared, "aks", AksCompute.provisioning_configuration(agent_count=1))
    config = AksWebservice.deploy_configuration(num_replicas=1, autoscale_enabled=False, tags={"lesson": "3"})
    service = Webservice.deploy_from_image(shared, "means-svc", image, config, cluster)
    assert capsys.readouterr().out == (
        "The service 'means-svc' has no keys: auth_enabled is on by default only with TLS, and 'aks' was provisioned "
        "without.\n"
    )
    service.wait_for_deployment(show_output=True)
    assert 'Service means-svc operation finished, operation "Succeeded"' in capsys.readouterr().out
    assert isinstance(service, AksWebservice)
    assert (service.state, service.error, service.auth_enabled, service.ssl_enabled) == ("Healthy", None, False, False)
    assert (service.image_id, service.compute_name, service.compute_type, service.tags) == (
        "means:1",
        "aks",
        "AKS",
        {"lesson": "3"},
    )
    assert service.scoring_uri.startswith("http://127.0.0.1:")
    np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)
    eventually(lambda: "model='means-svc' code=OK" in service.get_logs())
    assert service.get_logs(num_lines=1).count("\n") == 0
    assert Webservice(shared, "means-svc").serialize() == service.serialize()
    assert [one.name for one in Webservice.list(shared, image_name="means", tags=[["lesson", "3"]])] == ["means-svc"]
    assert Webservice.list(shared, model_id="means:9") == []
    assert service.serialize()["scoringUri"] == service.scoring_uri and "Healthy" in service._repr_html_()
    for owner, user in ((image, "image 'means:1'"), (cluster, "compute target 'aks'")):
        with pytest.raises(
            InUseError, match=f"{user} is used by the webservice 'means-svc'. Delete that first: Webserv"
        ):
            owner.delete()
    uri = service.scoring_uri
    service.delete()
    cluster.delete()
    with pytest.raises(AmlRealtimeAiError, match=r"nothing answered at 127\.0\.0\.1"):
        PredictionClient(uri.removeprefix("http://").split(":")[0], int(uri.rpartition(":")[2])).score_file(
            picture, timeout=1.0
        )
    with pytest.raises(
        NotFoundError, match=r"no webservice 'means-svc' .*there are: none. Deploy it: Webservice.deploy_"
    ):
        Webservice(shared, "means-svc")


def test_update_loses_no_request(
    workspace: Workspace, model: Model, cluster: ComputeTarget, picture: Path, doubled_file: Path
) -> None:
    service = deploy(workspace, model, cluster)
    client, stop, answers = client_from_service(service), threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            answers.append(float(client.score_file(picture)[0]))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        uri = service.scoring_uri
        service.update(models=Model.register(workspace, doubled_file, "means"), tags={"v": "2"})
        service.wait_for_deployment()
        np.testing.assert_allclose(score(service, picture), np.multiply(MEANS, 2), atol=1e-3)
    finally:
        stop.set()
        thread.join()
    assert service.scoring_uri == uri and service.tags == {"v": "2"} and service.models[0].id == "means:2"
    assert {round(answer, 2) for answer in answers} <= {-113.68, -227.36} and len(answers) > 5
    assert service.image is None


def test_replicas_are_fpgas(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    with pytest.raises(DeploymentError) as caught:
        deploy(workspace, model, cluster, num_replicas=3)
    assert str(caught.value).startswith(
        "Couldn't schedule because the cluster 'aks' doesn't have the resources: 0/2 nodes are available: "
        "2 Insufficient fpga. 'means-svc' asks for 3 replica(s)"
    )
    assert workspace.webservices == {}
    first = deploy(workspace, model, cluster)
    deploy(workspace, model, cluster, name="second")
    with pytest.raises(DeploymentError, match=r"The service 'second' uses 1\. Ask for fewer .*agent_count=3"):
        first.update(num_replicas=2)
    assert Webservice(workspace, "means-svc").num_replicas == 1
    with pytest.raises(DeploymentError, match="'third' asks for 1 replica"):
        deploy(workspace, model, cluster, name="third")
    Webservice(workspace, "second").delete()
    first.update(num_replicas=2)
    first.wait_for_deployment()
    assert Webservice(workspace, "means-svc").num_replicas == 2
    with pytest.raises(InvalidInputError, match="num_replicas: expected a number of at least 1, got 0"):
        AksWebservice.deploy_configuration(num_replicas=0)


def test_failed_update_leaves_what_was_there(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    service = deploy(workspace, model, cluster, tags={"v": "1"}, properties={"p": "1"}, description="first")
    before = service.serialize()
    fresh = {"tags": {"v": "2"}, "properties": {"q": "2"}, "description": "second"}
    for refused in (
        {**fresh, "num_replicas": 9},
        {**fresh, "num_replicas": 0},
        {**fresh, "models": []},
        {**fresh, "num_replicas": 2, "properties": {"p": "2"}},
        {**fresh, "num_replicas": 2, "tags": ["v"]},
    ):
        with pytest.raises(AmlRealtimeAiError):
            service.update(**refused)
        assert service.serialize() == Webservice(workspace, "means-svc").serialize() == before
    service.update(num_replicas=2, **fresh)  # type: ignore[arg-type]
    service.wait_for_deployment()
    assert (service.tags, service.properties) == ({"v": "2"}, {"p": "1", "q": "2"})
    assert (service.description, service.num_replicas) == ("second", 2)
    assert Webservice(workspace, "means-svc").serialize() == service.serialize()


def test_waiting_for_no_time_at_all(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    service = deploy(workspace, model, cluster)
    service.wait_for_deployment(timeout_sec=0)
    for file in workspace.store.run.glob("*.status"):
        file.unlink()  # as if the server had not said yet that it applied anything
    with pytest.raises(DeploymentError, match=r"'means-svc' is Transitioning after 0 s"):
        service.wait_for_deployment(timeout_sec=0)


def test_two_services_at_one_address(
    workspace: Workspace, model: Model, cluster: ComputeTarget, picture: Path, doubled_file: Path
) -> None:
    one = deploy(workspace, model, cluster, name="one")
    two = deploy(workspace, Model.register(workspace, doubled_file, "doubled"), cluster, name="two")
    assert one.scoring_uri == two.scoring_uri
    np.testing.assert_allclose(score(one, picture), MEANS, atol=1e-3)
    np.testing.assert_allclose(score(two, picture), np.multiply(MEANS, 2), atol=1e-3)
    two.delete()
    np.testing.assert_allclose(score(one, picture), MEANS, atol=1e-3)


def test_an_existing_service_is_only_replaced_on_request(
    workspace: Workspace, model: Model, cluster: ComputeTarget, picture: Path, doubled_file: Path
) -> None:
    deploy(workspace, model, cluster)
    other = Model.register(workspace, doubled_file, "doubled")
    with pytest.raises(
        InvalidInputError, match=r"'means-svc' exists already \(Healthy\). Replace it with overwrite=True"
    ):
        deploy(workspace, other, cluster)
    config = AksWebservice.deploy_configuration()
    service = Webservice.deploy_from_model(workspace, "means-svc", [other], None, config, cluster, overwrite=True)
    service.wait_for_deployment()
    np.testing.assert_allclose(score(service, picture), np.multiply(MEANS, 2), atol=1e-3)
    bigger = ComputeTarget.create(workspace, "other", AksCompute.provisioning_configuration())
    moved = Webservice.deploy_from_model(workspace, "means-svc", model, None, config, bigger, overwrite=True)
    moved.wait_for_deployment()
    np.testing.assert_allclose(score(moved, picture), MEANS, atol=1e-3)
    cluster.delete()


def test_wrong_arguments(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    plain = Model.register(workspace, __file__, "plain")
    with pytest.raises(
        InvalidInputError, match=r"'plain:1' is not a converted one. Convert it first: AccelOnnxConverter"
    ):
        deploy(workspace, plain, cluster)
    with pytest.raises(InvalidInputError, match="deployment_target: expected a compute target, got None"):
        Webservice.deploy_from_model(workspace, "means-svc", model)
    with pytest.raises(InvalidInputError, match="service name: expected 3 to 32 lower-case letters"):
        deploy(workspace, model, cluster, name="Means_Svc")
    with pytest.raises(TypeError, match=r"deploy_configuration\(\) has no keyword 'gpu'; it knows: autoscale_enabled"):
        AksWebservice.deploy_configuration(gpu=1)  # type: ignore[call-arg]
    assert workspace.webservices == {}


def test_what_a_target_ignores_is_said_when_it_is_known(
    workspace: Workspace, model: Model, cluster: ComputeTarget, recwarn: pytest.WarningsRecorder
) -> None:
    config = AksWebservice.deploy_configuration(
        autoscale_enabled=False, autoscale_max_replicas=3, scoring_timeout_ms=100, collect_model_data=False
    )
    assert len(recwarn) == 0, "a real cluster would honour them"
    Webservice.deploy_from_model(workspace, "means-svc", model, None, config, cluster)
    (warning,) = recwarn
    assert str(warning.message) == (
        "scoring_timeout_ms has no meaning on 'aks' (a target of the type AKS) and is ignored."
    )
    assert warning.filename == __file__


@pytest.fixture
def broken(workspace: Workspace, model: Model, tmp_path: Path) -> Model:
    content = bytearray(Path(model.download(tmp_path)).read_bytes())
    content[content.index(b"ReduceMean")] ^= 1
    (tmp_path / "broken.accelonnx").write_bytes(content)
    return Model.register(workspace, tmp_path / "broken.accelonnx", "broken")


def test_a_model_that_cannot_be_loaded_fails_with_its_reason(
    workspace: Workspace, model: Model, broken: Model, cluster: ComputeTarget, picture: Path
) -> None:
    with pytest.raises(
        DeploymentError, match=r"'means-svc' is Failed: the model is not a usable .*Bad CRC-32 for file"
    ):
        deploy(workspace, broken, cluster)
    service = Webservice(workspace, "means-svc")
    assert service.state == "Failed" and "Bad CRC-32" in str(service.error)
    service.update(models=[model])
    service.wait_for_deployment()
    np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)
    service.update(models=[broken])
    with pytest.raises(DeploymentError, match="Bad CRC-32"):
        service.wait_for_deployment()
    np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)  # the old model goes on
    assert [one.id for one in service.models] == [model.id]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_service_names_the_model_that_it_serves_after_updates_that_failed(
    workspace: Workspace,
    model: Model,
    doubled_file: Path,
    broken: Model,
    cluster: ComputeTarget,
    picture: Path,
    replicas: int,
) -> None:
    deploy(workspace, model, cluster, num_replicas=replicas)
    for how in ("one", "two at once", "overwritten"):
        service = Webservice(workspace, "means-svc")
        if how == "overwritten":
            config = AksWebservice.deploy_configuration(num_replicas=replicas)
            service = Webservice.deploy_from_model(workspace, "means-svc", broken, None, config, cluster, True)
        else:
            service.update(models=[broken], tags={"asked": how})
        if how == "two at once":
            service.update(models=[broken])
        eventually(lambda: Webservice(workspace, "means-svc").state == "Failed")
        fresh = Webservice(workspace, "means-svc")  # also who has not waited sees it
        assert [one.id for one in fresh.models] == ["means:1"] and "Bad CRC-32" in str(fresh.error)
        assert fresh.serialize()["modelIds"] == ["means:1"] and fresh.image_id is None
        with pytest.raises(DeploymentError, match="Bad CRC-32"):
            service.wait_for_deployment()
        assert [one.id for one in service.models] == ["means:1"] and service.num_replicas == replicas
        np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)
        with pytest.raises(InUseError, match=r"model 'means:1' is used by the webservice"):
            model.delete()
    broken.delete()
    service.update(models=[Model.register(workspace, doubled_file, "doubled")])
    service.wait_for_deployment()
    assert (service.state, service.error, service.models[0].name) == ("Healthy", None, "doubled")
    np.testing.assert_allclose(score(service, picture), np.multiply(MEANS, 2), atol=1e-3)


def test_a_service_that_never_served_another_model_names_the_one_that_failed(
    workspace: Workspace, model: Model, broken: Model, cluster: ComputeTarget
) -> None:
    service = Webservice.deploy_from_model(workspace, "means-svc", broken, None, None, cluster)
    eventually(lambda: service.state == "Failed")
    service.update(models=[broken])
    eventually(lambda: service.state == "Failed")
    assert [one.name for one in Webservice(workspace, "means-svc").models] == ["broken"]
    service.update(models=[model])
    service.wait_for_deployment()
    assert [one.name for one in Webservice(workspace, "means-svc").models] == ["means"]


def test_a_service_names_no_model_that_was_deleted_before_its_update_failed(
    workspace: Workspace, model: Model, broken: Model, cluster: ComputeTarget, picture: Path
) -> None:
    service = deploy(workspace, model, cluster)
    service.update(models=[broken])
    model.delete()
    eventually(lambda: Webservice(workspace, "means-svc").state == "Failed")
    assert [one.id for one in Webservice(workspace, "means-svc").models] == ["broken:1"]
    np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)


def test_keys_without_tls_are_for_this_machine_alone(
    workspace: Workspace, model: Model, cluster: ComputeTarget, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy(workspace, model, cluster, auth_enabled=False)
    with pytest.raises(ConfigError, match="has no keys: it was deployed with auth_enabled=False"):
        service.get_keys()
    with pytest.raises(ConfigError, match="has no keys"):
        service.regen_key("Primary")
    with pytest.warns(
        UserWarning, match=r"'means-svc' has keys, but 'aks' has no TLS.*Nobody else is served"
    ) as caught:
        service.update(auth_enabled=True)
    assert [warning.filename for warning in caught] == [__file__]
    service.wait_for_deployment()
    np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)
    host, port = service.scoring_uri.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    for key in ("", "wrong-key"):
        with pytest.raises(AmlRealtimeAiError, match="UNAUTHENTICATED"):
            PredictionClient(host, int(port), access_token=key, service_name="means-svc").score_file(picture)
    with pytest.warns(UserWarning, match="has no TLS"):
        other = deploy(workspace, model, cluster, name="from-the-start", auth_enabled=True)
    np.testing.assert_allclose(score(other, picture), MEANS, atol=1e-3)
    monkeypatch.setattr(AksCompute, "is_local", False)
    with pytest.raises(ConfigError, match=r"auth_enabled=True, but 'aks' has no TLS: everyone on the way could read"):
        deploy(workspace, model, cluster, name="open", auth_enabled=True)
    assert set(workspace.webservices) == {"means-svc", "from-the-start"}


@pytest.fixture
def secure(workspace: Workspace, tls_files: dict[str, str]) -> ComputeTarget:
    return ComputeTarget.create(workspace, "secure", AksCompute.provisioning_configuration(**tls_files))


def secure_score(service: Webservice, picture: Path, key: str, roots: bytes) -> np.ndarray:
    port = int(service.scoring_uri.rpartition(":")[2])
    client = PredictionClient("localhost", port, True, key, service.name, root_certificates=roots)
    return np.asarray(client.score_file(picture, timeout=5.0))


def test_keys_and_their_rotation(
    workspace: Workspace, model: Model, secure: ComputeTarget, picture: Path, authority: Authority
) -> None:
    service = deploy(workspace, model, secure)
    assert service.auth_enabled and service.ssl_enabled and service.scoring_uri.startswith("https://localhost:")
    first, second = service.get_keys()
    assert first != second and min(len(first), len(second)) == 43  # 32 bytes in base64url
    for key in (first, second):
        np.testing.assert_allclose(secure_score(service, picture, key, authority.pem), MEANS, atol=1e-3)
    for key in ("", "wrong-key"):
        with pytest.raises(AmlRealtimeAiError, match="UNAUTHENTICATED"):
            secure_score(service, picture, key, authority.pem)
    service.regen_key("Primary")
    third, same = service.get_keys()
    assert same == second and third != first
    with pytest.raises(AmlRealtimeAiError, match="UNAUTHENTICATED"):
        secure_score(service, picture, first, authority.pem)
    for key in (second, third):
        np.testing.assert_allclose(secure_score(service, picture, key, authority.pem), MEANS, atol=1e-3)
    service.regen_key("Secondary", set_key="a-key-of-my-own")
    assert service.get_keys() == (third, "a-key-of-my-own")
    with pytest.raises(InvalidInputError, match="expected 'Primary' or 'Secondary'"):
        service.regen_key("Third")
    shown = repr(service) + service._repr_html_() + str(service.serialize()) + service.get_logs()
    assert not any(key in shown for key in (first, second, third))
    service.update(auth_enabled=False)
    service.wait_for_deployment()
    np.testing.assert_allclose(secure_score(service, picture, "", authority.pem), MEANS, atol=1e-3)


def test_keys_of_ones_own_never_get_into_an_error(workspace: Workspace, model: Model, secure: ComputeTarget) -> None:
    service = deploy(workspace, model, secure, primary_key="my-primary-key")
    assert service.get_keys()[0] == "my-primary-key" and len(service.get_keys()[1]) == 43
    with pytest.raises(InvalidInputError, match="a key: expected at least 8 printable ASCII") as caught:
        AksWebservice.deploy_configuration(primary_key="geheim!")
    assert "geheim" not in str(caught.value)
    assert "my-primary-key" not in repr(AksWebservice.deploy_configuration(primary_key="my-primary-key"))


def test_a_certificate_is_replaced_without_a_restart(
    workspace: Workspace, model: Model, secure: AksCompute, picture: Path, tmp_path: Path
) -> None:
    service = deploy(workspace, model, secure)
    uri, other = service.scoring_uri, Authority()
    fresh = other.issue("localhost")
    secure.update(AksUpdateConfiguration(SslConfiguration("Enabled", fresh.certificate.decode(), fresh.key.decode())))
    key = service.get_keys()[0]
    for attempt in range(100):
        try:
            np.testing.assert_allclose(secure_score(service, picture, key, other.pem), MEANS, atol=1e-3)
            break
        except AmlRealtimeAiError:
            assert attempt < 99
    assert service.scoring_uri == uri
    assert service.root_certificates is None  # issued by an authority that clients have to know


def test_model_deploy(workspace: Workspace, model: Model, cluster: ComputeTarget, picture: Path) -> None:
    config = AksWebservice.deploy_configuration()
    service = Model.deploy(workspace, "means-svc", [model], AccelInferenceConfig(), config, cluster)
    service.wait_for_deployment()
    np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)
    plain = Model.register(workspace, __file__, "plain")
    with pytest.raises(
        InvalidInputError, match=r"'plain:1' has to be converted first\. Name its tensors: AccelInferenceConf"
    ):
        Model.deploy(workspace, "other", [plain], AccelInferenceConfig(), config, cluster)
