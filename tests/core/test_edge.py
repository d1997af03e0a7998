"""A device that runs one image, by each engine: swapped under clients, keys and TLS, crashes, clean removal."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai.accel import AccelContainerImage, client_from_service
from amlrealtimeai.containers import find_engine
from amlrealtimeai.core import AksWebservice, ComputeTarget, EdgeCompute, Image, Model, Webservice, Workspace
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.errors import (
    AmlRealtimeAiError,
    ContainerError,
    DeploymentError,
    InvalidInputError,
    UnsupportedError,
)
from tests.core.conftest import MEANS
from tests.targets.test_processes import eventually, is_open, port_of

ENGINE = "podman"
"""The one that the running test is about."""

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def doubled(image: Image, doubled_file: Path, session_home: Path) -> Iterator[Image]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMLREALTIMEAI_HOME", str(session_home))
        model = Model.register(image.workspace, doubled_file, "doubled")
        made = Image.create("doubled", [model], AccelContainerImage.image_configuration(), image.workspace)
        made.wait_for_creation()
        yield made
        made.delete()
        model.delete()


@pytest.fixture(params=["podman", "docker", "runc"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine that answers here; the tests' own commands go to it, too."""
    try:
        find_engine(request.param)
    except ContainerError as problem:
        pytest.skip(str(problem))
    yield request.param


@pytest.fixture
def shared(image: Image, engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(sys.modules[__name__], "ENGINE", engine)
    yield image.workspace
    for service in image.workspace.webservices.values():
        service.delete()
    for target in image.workspace.compute_targets.values():
        target.delete()
    assert containers(image.workspace) == [] and not list(image.workspace.store.run.glob("container-*"))


def containers(workspace: Workspace) -> list[str]:
    store = hashlib.sha256(str(workspace.path).encode()).hexdigest()[:16]
    shown = [
        *find_engine(ENGINE).command,
        "ps",
        "--all",
        "--format",
        "{{.Names}}",
        "--filter",
        f"label=amlrealtimeai.store={store}",
    ]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()


def device(workspace: Workspace, **settings: object) -> ComputeTarget:
    configuration = EdgeCompute.provisioning_configuration(engine=ENGINE, **settings)  # type: ignore[arg-type]
    return ComputeTarget.create(workspace, "edge", configuration)


def deploy(image: Image, target: ComputeTarget, name: str = "svc", **more: object) -> Webservice:
    overwrite = bool(more.pop("overwrite", False))
    config = AksWebservice.deploy_configuration(**more)  # type: ignore[arg-type]
    service = Webservice.deploy_from_image(image.workspace, name, image, config, target, overwrite=overwrite)
    service.wait_for_deployment()
    return service


def score(service: Webservice, picture: Path) -> np.ndarray:
    return np.ravel(client_from_service(service).score_file(picture))


def test_a_model_is_swapped_under_clients_without_a_lost_request(
    image: Image, doubled: Image, shared: Workspace, picture: Path
) -> None:
    service = deploy(image, device(shared))
    uri, stop = service.scoring_uri, threading.Event()
    answers: list[float] = []
    failures: list[BaseException] = []

    def ask() -> None:
        with client_from_service(service) as client:
            while not stop.is_set():
                try:
                    answers.append(float(np.ravel(client.score_file(picture))[0]))
                except BaseException as error:
                    failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    service.update(image=doubled)
    service.wait_for_deployment()
    np.testing.assert_allclose(score(service, picture), np.multiply(MEANS, 2), atol=1e-3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == [] and {round(answer, 2) for answer in answers} == {-113.68, -227.36}
    assert service.scoring_uri == uri and len(containers(shared)) == 1

    status = ComputeTarget(shared, "edge").runner().status("svc")
    assert (status.state, status.wanted, status.ready, status.revision) == ("Healthy", 1, 1, 2)
    other = deploy(image, ComputeTarget(shared, "edge"), "another")
    assert other.scoring_uri == uri and len(containers(shared)) == 1, "one model at a time"
    assert service.state == "Stopped"
    np.testing.assert_allclose(score(other, picture), MEANS, atol=1e-3)
    assert "model='another'" in other.get_logs()
    service.delete()
    other.delete()
    assert containers(shared) == [] and not is_open(port_of(uri))


def test_keys_tls_and_a_crash(image: Image, shared: Workspace, picture: Path, tls_files: dict[str, str]) -> None:
    service = deploy(image, device(shared, **tls_files))
    first = service.get_keys()[0]
    assert service.ssl_enabled and service.auth_enabled
    (name,) = containers(shared)
    shown = subprocess.run(
        [*find_engine(ENGINE).command, "inspect", name], capture_output=True, text=True, check=True
    ).stdout
    assert first not in shown and first not in service.get_logs()
    pid = pid_of(name)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: service.state != "Healthy" or pid_of(name) not in (0, pid), 30.0)
    assert eventually(lambda: service.state == "Healthy", 60.0), "the engine starts it again"
    fresh = development_certificate(["localhost"])
    before = containers(shared)
    service._target.update(fresh.certificate, fresh.key)

    def takes_it() -> bool:
        with contextlib.suppress(AmlRealtimeAiError):
            np.testing.assert_allclose(score(service, picture), MEANS, atol=1e-3)
            return True
        return False

    assert eventually(takes_it, 30.0), "the client trusts the new certificate, and the service has it"
    assert containers(shared) == before
    service.regen_key("Primary")
    assert service.get_keys()[0] != first and service.state == "Healthy"


def pid_of(name: str) -> int:
    shown = [*find_engine(ENGINE).command, "inspect", "--format", "{{.State.Pid}}", name]
    return int(subprocess.run(shown, capture_output=True, text=True).stdout or 0)


def test_what_a_device_cannot_do_is_said_and_changes_nothing(image: Image, shared: Workspace) -> None:
    target = device(shared)
    with pytest.raises(UnsupportedError, match=r"'edge' runs container images: build one with Image\.create"):
        Webservice.deploy_from_model(shared, "svc", image.models[0], deployment_target=target)
    with pytest.raises(UnsupportedError, match=r"'edge' runs one container, got num_replicas=2"):
        deploy(image, target, num_replicas=2)
    small = ComputeTarget.create(shared, "tiny", EdgeCompute.provisioning_configuration(engine=ENGINE, memory_gb=0.001))
    with pytest.raises(DeploymentError, match=r"'svc' does not start on 'tiny': .*memory limit"):
        deploy(image, small)
    assert shared.webservices == {} and containers(shared) == []
    for wrong in ({"port": 0}, {"port": "80"}, {"engine": "lxc"}, {"memory_gb": 0}, {"cpu_cores": -1}):
        with pytest.raises(InvalidInputError, match="expected"):
            EdgeCompute.provisioning_configuration(**wrong)
