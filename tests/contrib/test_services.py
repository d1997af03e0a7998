"""The middle edition's images and services: one address each, asked without a client, deployed without a target."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from amlrealtimeai.contrib.brainwave import BrainwaveImage, BrainwaveWebservice
from amlrealtimeai.contrib.brainwave.client import PredictionClient
from amlrealtimeai.core import AksCompute, AksWebservice, ComputeTarget, Image, Model, Webservice, Workspace
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, WebserviceNotFoundError
from amlrealtimeai.exceptions import WebserviceException
from tests.core.conftest import MEANS
from tests.serving.certificates import Authority
from tests.serving.models import image_model


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made = Workspace.create("middle")
    yield made
    made.delete(delete_dependent_resources=True)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "plain.png"
    Picture.new("RGB", (40, 30), (10, 20, 30)).save(path)
    return path


def registered(workspace: Workspace, folder: Path, factor: float = 1.0) -> Model:
    return Model.register(workspace, image_model(folder / "model_def", scaling_factor=factor), "means")


def test_a_service_is_found_or_made_asked_updated_and_deleted(
    workspace: Workspace, picture: Path, tmp_path: Path
) -> None:
    model = registered(workspace, tmp_path)
    try:
        service = Webservice(workspace, "imagenet-infer")
    except WebserviceException:
        configuration = BrainwaveWebservice.deploy_configuration()
        service = Webservice.deploy_from_model(workspace, "imagenet-infer", [model], None, configuration)
        service.wait_for_deployment(True)
    assert isinstance(service, BrainwaveWebservice) and (service.ssl, service.num_replicas) == (False, 1)
    assert service.ipAddress == service.ip_address == "127.0.0.1"
    np.testing.assert_allclose(service.run(str(picture)), MEANS, atol=1e-3)
    with picture.open("rb") as stream:
        np.testing.assert_allclose(service.run(stream), MEANS, atol=1e-3)
    np.testing.assert_allclose(service.run([picture.read_bytes()] * 2), [MEANS] * 2, atol=1e-3)
    address = service.ip_address, service.port
    with PredictionClient(*address) as client:
        np.testing.assert_allclose(client.score_image(picture), MEANS, atol=1e-3)

        other = Webservice.deploy_from_model(
            workspace, "second", [model], None, BrainwaveWebservice.deploy_configuration(tags={"a": "b"})
        )
        other.wait_for_deployment()
        assert other.port != service.port and other.tags == {"a": "b"}
        other.delete()

        found = Webservice(workspace, "imagenet-infer")
        assert isinstance(found, BrainwaveWebservice)
        found.update(models=[registered(workspace, tmp_path, 2.0)], tags={"x": "1"}, description="doubled")
        found.wait_for_deployment()
        np.testing.assert_allclose(client.score_image(picture), 2 * np.array(MEANS), atol=1e-3)
    assert (found.ip_address, found.port, found.tags) == (*address, {"x": "1"})
    found.delete()
    assert Webservice.list(workspace) == [] and list(workspace.compute_targets) == []


def test_a_service_with_tls(workspace: Workspace, picture: Path, tmp_path: Path) -> None:
    model, authority = registered(workspace, tmp_path), Authority()
    tls = authority.issue("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(tls.certificate)
    key.write_bytes(tls.key)
    configuration = BrainwaveWebservice.deploy_configuration(
        ssl_enabled=True, ssl_cert_pem_file=str(cert), ssl_key_pem_file=key
    )
    service = Webservice.deploy_from_model(workspace, "secure", [model], None, configuration)
    service.wait_for_deployment()
    assert isinstance(service, BrainwaveWebservice) and (service.ssl, service.ip_address) == (True, "localhost")
    primary = service.get_keys()[0]
    with PredictionClient("localhost", service.port, True, primary, root_certificates=authority.pem) as client:
        np.testing.assert_allclose(client.score_image(picture), MEANS, atol=1e-3)
        fresh = authority.issue("localhost")
        service.update(
            ssl_enabled=True, ssl_certificate=fresh.certificate.decode(), ssl_key=fresh.key.decode(), tags={"a": "b"}
        )
        np.testing.assert_allclose(client.score_image(picture), MEANS, atol=1e-3)
    with pytest.raises(InvalidInputError, match="was deployed with TLS, which cannot change in place"):
        service.update(ssl_enabled=False)
    with pytest.raises(InvalidInputError, match="belong together"):
        service.update(ssl_certificate=fresh.certificate.decode())
    service.delete()


def test_an_overwritten_service_keeps_no_other_tls_than_asked_for(
    workspace: Workspace, picture: Path, tmp_path: Path
) -> None:
    model = registered(workspace, tmp_path)
    configure = BrainwaveWebservice.deploy_configuration
    authorities = [Authority() for _ in range(2)]
    issued = [authority.issue("localhost") for authority in authorities]
    files: list[dict[str, Any]] = []
    for number, tls in enumerate(issued):
        paths = [tmp_path / f"{number}.pem", tmp_path / f"{number}.key"]
        for path, text in zip(paths, (tls.certificate, tls.key), strict=True):
            path.write_bytes(text)
        files.append({"ssl_enabled": True, "ssl_cert_pem_file": paths[0], "ssl_key_pem_file": paths[1]})
    plain = Webservice.deploy_from_model(workspace, "plain-svc", model, None, configure())
    with pytest.raises(InvalidInputError, match="'plain-svc' was deployed without TLS, which cannot change in place"):
        Webservice.deploy_from_model(workspace, "plain-svc", model, None, configure(**files[0]), None, True)
    Webservice.deploy_from_model(workspace, "tls-svc", model, None, configure(**files[0]))
    for other, said in ((configure(), "was deployed with TLS"), (configure(**files[1]), "has another certificate")):
        with pytest.raises(InvalidInputError, match=said):
            Webservice.deploy_from_model(workspace, "tls-svc", model, None, other, None, True)
    again = Webservice.deploy_from_model(
        workspace, "tls-svc", model, None, configure(num_replicas=2, **files[0]), None, True
    )
    again.wait_for_deployment()
    assert (again.ssl_enabled, again.auth_enabled, again.num_replicas) == (True, True, 2)
    again.update(ssl_certificate=issued[1].certificate, ssl_key=issued[1].key)
    with PredictionClient(
        again.ip_address, again.port, True, again.get_keys()[0], root_certificates=authorities[1].pem
    ) as client:
        np.testing.assert_allclose(client.score_file(picture), MEANS, atol=1e-3)
    plain.update(num_replicas=3)
    plain.wait_for_deployment()
    assert plain.num_replicas == 3
    for service in (plain, again):
        service.delete()
        with pytest.raises(WebserviceNotFoundError, match="does not exist any more"):
            service.delete()


def test_what_asks_for_tls_is_never_served_without_and_leaves_nothing_behind(
    workspace: Workspace, tmp_path: Path
) -> None:
    model, made = registered(workspace, tmp_path), development_certificate(["localhost"])
    folder = tmp_path / "tls"
    certificate, key, _ = made.save(folder)
    config = BrainwaveWebservice.deploy_configuration(
        ssl_enabled=True, ssl_cert_pem_file=certificate, ssl_key_pem_file=key
    )
    plain = ComputeTarget.create(workspace, "plain", AksCompute.provisioning_configuration(agent_count=2))
    with pytest.raises(InvalidInputError, match="ssl_enabled=True, but 'plain' has no TLS: leave deployment_target"):
        Webservice.deploy_from_model(workspace, "svc", model, None, config, plain)
    with pytest.raises(InvalidInputError, match="deployment_target: expected an attached cluster"):
        AksWebservice.dry_run(workspace, "svc", "no image", config)  # type: ignore[arg-type]
    assert [target.name for target in ComputeTarget.list(workspace)] == ["plain"]
    service = Webservice.deploy_from_model(workspace, "svc", model, None, config)
    fresh = development_certificate(["localhost"])
    for wrong in ({"num_replicas": 0}, {"image": 5}, {"tags": 5}, {"models": ["missing"]}):
        with pytest.raises(AmlRealtimeAiError):
            service.update(ssl_certificate=fresh.certificate, ssl_key=fresh.key, **wrong)  # type: ignore[arg-type]
        assert ComputeTarget(workspace, "svc").certificate == made.certificate, "refused updates change nothing"
    service.update(ssl_certificate=fresh.certificate.encode(), ssl_key=fresh.key, num_replicas=2)
    assert ComputeTarget(workspace, "svc").certificate == fresh.certificate
    Webservice.deploy_from_model(workspace, "svc", model, None, None, plain, overwrite=True)
    assert [target.name for target in ComputeTarget.list(workspace)] == ["plain"]


def test_certificates_come_as_files_of_any_editor_or_as_text(tmp_path: Path) -> None:
    made = development_certificate(["localhost"])
    marked, binary = tmp_path / "marked.pem", tmp_path / "binary.der"
    marked.write_bytes(b"\xef\xbb\xbf" + made.certificate.encode())
    binary.write_bytes(ssl.PEM_cert_to_DER_cert(made.certificate[: made.certificate.index("-----END") + 25]))
    for certificate in (marked, made.certificate, made.certificate.encode()):
        found = BrainwaveWebservice.deploy_configuration(
            ssl_enabled=True,
            ssl_cert_pem_file=certificate,
            ssl_key_pem_file=made.key,  # type: ignore[arg-type]
        )
        assert found.certificate == made.certificate
    with pytest.raises(InvalidInputError, match="is no PEM text"):
        BrainwaveWebservice.deploy_configuration(ssl_enabled=True, ssl_cert_pem_file=binary, ssl_key_pem_file=made.key)


def test_a_configuration_is_checked(tmp_path: Path) -> None:
    for wrong in (
        {"ssl_enabled": True},
        {"ssl_cert_pem_file": "c.pem", "ssl_key_pem_file": "k.pem"},
        {"ssl_enabled": True, "ssl_cert_pem_file": "c.pem"},
    ):
        with pytest.raises(InvalidInputError, match="belong together"):
            BrainwaveWebservice.deploy_configuration(**wrong)
    files = {"ssl_cert_pem_file": tmp_path / "c.pem", "ssl_key_pem_file": tmp_path / "k.pem"}
    with pytest.raises(FileNotFoundError, match=r"c\.pem"):
        BrainwaveWebservice.deploy_configuration(ssl_enabled=True, **files)
    with pytest.raises(InvalidInputError, match="num_replicas"):
        BrainwaveWebservice.deploy_configuration(0)


def test_a_failed_deployment_leaves_no_cluster(workspace: Workspace, tmp_path: Path) -> None:
    model = registered(workspace, tmp_path)
    with pytest.raises(InvalidInputError, match="service name"):
        Webservice.deploy_from_model(workspace, "No Name", [model], None, BrainwaveWebservice.deploy_configuration())
    assert list(workspace.compute_targets) == []


def test_an_image_by_its_old_name() -> None:
    configuration = BrainwaveImage.image_configuration(tags={"a": "b"}, description="old")
    assert (configuration.flavor, configuration.tags, configuration.description) == ("brainwave", {"a": "b"}, "old")
    assert Image._flavors["brainwave"] is BrainwaveImage and issubclass(BrainwaveImage, Image)
