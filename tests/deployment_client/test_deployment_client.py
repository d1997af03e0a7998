"""The first edition's DeploymentClient, with its own PredictionClient as the judge."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import amlrealtimeai
from amlrealtimeai import DeploymentClient, PredictionClient
from amlrealtimeai.core import Workspace
from amlrealtimeai.core.certificates import DevelopmentCertificate, development_certificate
from amlrealtimeai.deployment_client import Service
from amlrealtimeai.errors import ConfigError, DeploymentError, InUseError, InvalidInputError, NotFoundError
from tests.serving.models import encode, image_model, picture

_numbers = itertools.count()


@pytest.fixture(scope="module")
def certificate() -> DevelopmentCertificate:
    return development_certificate(["localhost"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "picture.jpg").write_bytes(encode(picture(), "JPEG"))
    return {
        "picture": folder / "picture.jpg",
        "means": image_model(folder / "means.zip"),
        "doubled": image_model(folder / "doubled.zip", scaling_factor=2.0),
    }


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeploymentClient]:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    made = DeploymentClient("subscription", "group", f"account-{next(_numbers)}", "eastus2")
    yield made
    for service in made.list_services():
        made.delete_service(service.id)


def consumer(service: Service, key: str | None = None) -> PredictionClient:
    return PredictionClient(
        service.ipAddress,
        service.port,
        use_ssl=service.sslEnabled,
        access_token=key or service.primaryKey or "",
        root_certificates=service.rootCertificates.encode() if service.rootCertificates else None,
    )


class Stream:
    """Requests one after the other, as long as the block lasts; the block fails if one of them did."""

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask, self._stop = ask, threading.Event()
        self.answers: list[float] = []
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.answers.append(self._ask())
        except BaseException as error:
            self.failure = error

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert self.failure is None and len(self.answers) > 3


def test_a_life_without_tls(client: DeploymentClient, files: dict[str, Path]) -> None:
    model = client.register_model("means", files["means"])
    assert model == "means:1" and [found.id for found in client.list_models()] == ["means:1"]
    service = client.create_service("my-service", model)
    assert (service.id, service.name, service.modelId, service.state) == (
        "my-service",
        "my-service",
        "means:1",
        "Succeeded",
    )
    assert (service.ipAddress, service.sslEnabled, service.primaryKey) == ("127.0.0.1", False, None)
    with consumer(service) as ask:
        before = ask.score_image(files["picture"])
        assert before.shape == (3,)
    assert client.get_service_by_name("my-service") == client.get_service_by_id("my-service") == service
    assert client.get_service_by_name("other") is None and client.get_services_by_name("other") == []
    assert client.list_services() == [service]
    with pytest.raises(InUseError, match="my-service"):
        client.delete_model(model)
    with pytest.raises(ConfigError, match="no keys"):
        client.get_auth_keys(service.id)
    with pytest.raises(InvalidInputError, match="there is a service 'my-service' already"):
        client.create_service("my-service", model)
    client.delete_service(service.id)
    with pytest.raises(NotFoundError, match="no service 'my-service'; there are: none"):
        client.get_service_by_id("my-service")
    client.delete_model(model)
    assert client.list_models() == []
    with pytest.raises(DeploymentError, match="nothing answered"), consumer(service) as ask:
        ask.score_image(files["picture"], timeout=0.5)


def test_a_model_is_updated_in_place_without_losing_a_request(client: DeploymentClient, files: dict[str, Path]) -> None:
    first = client.register_model("means", files["means"])
    second = client.register_model("means", files["doubled"])
    service = client.create_service("svc", first)
    with consumer(service) as ask:
        with Stream(lambda: float(ask.score_image(files["picture"])[0])) as stream:
            updated = client.update_service(service.id, second)
        assert (updated.port, updated.modelId, updated.state) == (service.port, "means:2", "Succeeded")
        assert float(ask.score_image(files["picture"])[0]) == pytest.approx(2 * stream.answers[0], rel=1e-5)


def test_keys_and_their_rotation_without_losing_a_request(
    client: DeploymentClient, files: dict[str, Path], certificate: DevelopmentCertificate
) -> None:
    model = client.register_model("means", files["means"])
    service = client.create_service("svc", model, True, certificate.certificate, certificate.key)
    keys = client.get_auth_keys("svc")
    assert keys == {"primaryKey": service.primaryKey, "secondaryKey": service.secondaryKey}
    assert len(set(keys.values())) == 2 and all(len(key) >= 43 for key in keys.values())
    assert not any(key in repr(service) + repr(client) for key in keys.values())
    picture_path = files["picture"]
    with consumer(service, keys["secondaryKey"]) as ask:
        with Stream(lambda: float(ask.score_image(picture_path)[0])):
            fresh = client.regenerate_auth_keys("svc", "Primary")
        assert fresh["secondaryKey"] == keys["secondaryKey"] and fresh["primaryKey"] != keys["primaryKey"]
    with consumer(service, fresh["primaryKey"]) as ask:
        ask.score_image(picture_path)
    with consumer(service, keys["primaryKey"]) as ask, pytest.raises(DeploymentError, match="UNAUTHENTICATED"):
        ask.score_image(picture_path)
    both = client.regenerate_auth_keys("svc")
    assert not set(both.values()) & {*keys.values(), *fresh.values()}
    with pytest.raises(InvalidInputError, match="key_type: expected 'Primary'"):
        client.regenerate_auth_keys("svc", "Tertiary")
    updated = client.update_service("svc", model, primary_key="my-own-primary-key")
    assert (updated.primaryKey, updated.secondaryKey) == ("my-own-primary-key", both["secondaryKey"])
    with consumer(updated) as ask:
        assert ask.score_image(picture_path).shape == (3,)


def test_a_certificate_is_replaced_without_losing_a_request(
    client: DeploymentClient, files: dict[str, Path], certificate: DevelopmentCertificate
) -> None:
    model = client.register_model("means", files["means"])
    service = client.create_service("svc", model, True, certificate.certificate, certificate.key, "key-number-1")
    renewed = development_certificate(["localhost"])
    with consumer(service) as ask, Stream(lambda: float(ask.score_image(files["picture"])[0])):
        updated = client.update_service("svc", model, ssl_certificate=renewed.certificate, ssl_key=renewed.key)
        with consumer(updated) as fresh:
            assert fresh.score_image(files["picture"]).shape == (3,), "served when update_service returns"
    assert updated.port == service.port and updated.primaryKey == "key-number-1"
    assert updated.rootCertificates == renewed.certificate


def test_what_does_not_fit_together(
    client: DeploymentClient, files: dict[str, Path], certificate: DevelopmentCertificate, tmp_path: Path
) -> None:
    model = client.register_model("means", files["means"])
    for bad, said in (
        ({"ssl_enabled": True}, "needs ssl_certificate and ssl_key"),
        ({"ssl_enabled": True, "ssl_certificate": certificate.certificate}, "needs ssl_certificate and ssl_key"),
        ({"ssl_certificate": certificate.certificate, "ssl_key": certificate.key}, "ssl_enabled is not True"),
        ({"primary_key": "some-key-1"}, "keys need TLS"),
    ):
        with pytest.raises(ValueError, match=said):
            client.create_service("svc", model, **bad)
    with pytest.raises(ConfigError, match="cannot be used"):
        client.create_service("svc", model, True, certificate.certificate, development_certificate().key)
    with pytest.raises(InvalidInputError, match="at least 8 printable"):
        client.create_service("svc", model, True, certificate.certificate, certificate.key, "short")
    with pytest.raises(InvalidInputError, match="not a usable converted model"):
        (tmp_path / "bad.zip").write_bytes(b"no zip")
        client.register_model("bad", tmp_path / "bad.zip")
    with pytest.raises(NotFoundError):
        client.create_service("svc", "means:9")
    with pytest.raises(InvalidInputError, match="service name"):
        client.create_service("My Service", model)
    assert client.list_services() == [] and client._workspace.compute_targets == {}
    client.create_service("svc", model)
    with pytest.raises(InvalidInputError, match="created without TLS"):
        client.update_service("svc", model, True, certificate.certificate, certificate.key)


def test_what_a_killed_process_left_is_no_obstacle(
    client: DeploymentClient, files: dict[str, Path], certificate: DevelopmentCertificate
) -> None:
    client._cluster("svc", (certificate.certificate, certificate.key))  # and killed before the service was listed
    assert client.list_services() == []
    service = client.create_service("svc", client.register_model("means", files["means"]))
    assert (service.sslEnabled, service.state) == (False, "Succeeded")


def test_more_services_than_a_quota_has_fpgas(client: DeploymentClient, files: dict[str, Path]) -> None:
    model = client.register_model("means", files["means"])
    services = [client.create_service(f"svc-{i}", model) for i in range(5)]
    assert len({service.port for service in services}) == 5
    assert [service.id for service in client.list_services()] == [f"svc-{i}" for i in range(5)]


def test_the_workspace_is_shared_with_the_later_api(client: DeploymentClient, files: dict[str, Path]) -> None:
    client.register_model("means", files["means"])
    again = DeploymentClient("subscription", "group", client._workspace.name)
    assert [model.id for model in again.list_models()] == ["means:1"]
    found = Workspace.get(client._workspace.name, subscription_id="subscription", resource_group="group")
    assert list(found.models) == ["means"]


def test_the_child_process_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    client = DeploymentClient("s", "g", "child", run_in="process")
    service = client.create_service("svc", client.register_model("means", files["means"]))
    with consumer(service) as ask:
        assert np.isfinite(ask.score_image(files["picture"])).all()
    client.delete_service("svc")


def test_arguments_are_checked_and_the_name_is_exported() -> None:
    for bad in (("", "g", "a"), ("s", None, "a"), ("s", "g", 5)):
        with pytest.raises(InvalidInputError, match="expected a text"):
            DeploymentClient(*bad)
    with pytest.raises(InvalidInputError, match="run_in"):
        DeploymentClient("s", "g", "a", run_in="cloud")
    assert "DeploymentClient" in amlrealtimeai.__all__
