"""Services with several replicas: scaled by load and by hand, killed, updated, and no request lost meanwhile."""

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.accel import client_from_service
from amlrealtimeai.core import AksCompute, AksWebservice, ComputeTarget, Model, Webservice, Workspace
from amlrealtimeai.errors import DeploymentError, InvalidInputError
from tests.serving.models import image_model
from tests.serving.processes import Hanging, eventually
from tests.targets.helpers import Session, process_exists

pytestmark = pytest.mark.skipif(os.name == "nt", reason="looks at processes in /proc")

LOAD = {"autoscale_enabled": True, "autoscale_max_replicas": 3, "autoscale_target_utilization": 100}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    made = Workspace.create("lab")
    Model.register(made, image_model(tmp_path / "means.accelonnx"), "means")
    Model.register(made, image_model(tmp_path / "doubled.accelonnx", scaling_factor=2.0), "doubled")
    yield made
    made.delete(delete_dependent_resources=True)


def deployed(workspace: Workspace, run_in: str = "notebook", agents: int = 3, **settings: object) -> Webservice:
    target = ComputeTarget.create(
        workspace, "aks", AksCompute.provisioning_configuration(agent_count=agents, run_in=run_in)
    )
    config = AksWebservice.deploy_configuration(auth_enabled=False, **settings)  # type: ignore[arg-type]
    service = Webservice.deploy_from_model(workspace, "svc", Model(workspace, "means"), None, config, target)
    service.wait_for_deployment()
    return service


def counts(service: Webservice) -> tuple[int, int]:
    status = service.deployment_status
    return status["wantedReplicas"], status["readyReplicas"]


def picture() -> bytes:
    """Some ten milliseconds to decode, so that replicas are busy."""
    stream = io.BytesIO()
    Image.new("RGB", (1200, 1200), (10, 20, 30)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@contextmanager
def clients(service: Webservice, count: int = 4) -> Iterator[list[float]]:
    """So many clients that ask all the time, without retries of their own; the answers. None may fail."""
    over, answers, failures, images = threading.Event(), [], [], np.array([picture()], object)

    def ask() -> None:
        with client_from_service(service) as client:
            while not over.is_set():
                try:
                    answers.append(float(client.score_numpy_arrays({"images": images})[0, 0]))
                except Exception as error:
                    failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(answers) > count)
        yield answers
        so_far = len(answers)
        eventually(lambda: len(answers) > so_far)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []


def replicas(pid: int | None = None) -> list[int]:
    """Process ids of the replicas of all servers below a process."""
    found = []
    for task in Path(f"/proc/{pid or os.getpid()}/task").glob("*"):
        with suppress(OSError):  # it has ended meanwhile
            for child in map(int, (task / "children").read_text().split()):
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                found += [child] if b"replicas.worker" in command else replicas(child)
    return [one for one in found if process_exists(one)]


def test_replicas_follow_the_load_are_replaced_and_no_request_fails(workspace: Workspace) -> None:
    service = deployed(workspace, "process", **LOAD, autoscale_refresh_seconds=0.02)
    assert counts(service) == (1, 1)
    with clients(service) as answers:
        eventually(lambda: counts(service) == (3, 3))
        before = set(replicas())
        assert len(before) == 3
        os.kill(min(before), signal.SIGKILL)
        eventually(lambda: len(set(replicas()) - {min(before)}) == 3)
    eventually(lambda: counts(service) == (1, 1) and len(replicas()) == 1)
    assert {round(answer, 2) for answer in answers} == {-113.68}
    assert service.state == "Healthy"


def test_scaled_and_updated_by_hand_under_load(workspace: Workspace) -> None:
    service, target = deployed(workspace, agents=4), ComputeTarget(workspace, "aks")
    other = Webservice.deploy_from_model(workspace, "other", Model(workspace, "doubled"), deployment_target=target)
    with clients(service) as answers:
        service.update(num_replicas=3)
        service.wait_for_deployment()
        assert counts(service) == (3, 3) and len(replicas()) == 3
        service.update(num_replicas=2)
        eventually(lambda: counts(service) == (2, 2))
        before = set(replicas())
        service.update(models=[Model(workspace, "doubled")])
        service.wait_for_deployment()
        eventually(lambda: answers[-1] == pytest.approx(-227.36, abs=0.001))
        service.update(num_replicas=1)
        service.wait_for_deployment()
        assert counts(service) == (1, 1)
        eventually(lambda: replicas() == [])
        service.update(num_replicas=2)
        service.wait_for_deployment()
    assert {round(answer, 2) for answer in answers} == {-113.68, -227.36}
    assert len(replicas()) == 2 and not before & set(replicas())
    service.delete()
    eventually(lambda: replicas() == [])
    with client_from_service(other) as client:
        answer = client.score_numpy_arrays({"images": np.array([picture()], object)})
    assert answer[0, 0] == pytest.approx(-227.36, abs=0.001) and counts(other) == (1, 1)


def test_a_service_claims_the_most_that_it_may_have(workspace: Workspace) -> None:
    service = deployed(workspace, agents=3, autoscale_enabled=True, autoscale_max_replicas=np.int64(2))
    target, model = ComputeTarget(workspace, "aks"), Model(workspace, "doubled")
    config = AksWebservice.deploy_configuration(autoscale_enabled=True, autoscale_max_replicas=2)
    with pytest.raises(
        DeploymentError,
        match=r"'other' asks for up to 2 replica\(s\) \(autoscale_max_replicas\), one FPGA each; .*'svc' uses 2\. .*"
        r"agent_count=4",
    ):
        Webservice.deploy_from_model(workspace, "other", model, None, config, target)
    with pytest.raises(DeploymentError, match="agent_count=3"):
        service.update(autoscale_min_replicas=4, autoscale_max_replicas=4)
    assert service.autoscaler.max_replicas == 2 and counts(service) == (1, 1)
    Webservice.deploy_from_model(workspace, "other", model, None, None, target).wait_for_deployment()
    with pytest.raises(DeploymentError, match=r"'other' uses 1\."):
        service.update(autoscale_max_replicas=10)
    Webservice(workspace, "other").delete()
    service.update(autoscale_max_replicas=10)  # an upper bound: there are three
    with pytest.raises(DeploymentError, match=r"'svc' uses 3\."):
        Webservice.deploy_from_model(workspace, "other", model, None, None, target)


def test_autoscaling_is_switched_on_and_off(workspace: Workspace) -> None:
    service = deployed(workspace)
    assert service.autoscaler.autoscale_enabled is False and service.autoscaler.max_replicas is None
    service.update(autoscale_enabled=True, autoscale_min_replicas=2, autoscale_target_utilization=50)
    service.wait_for_deployment()
    found = Webservice(workspace, "svc").autoscaler
    assert (found.autoscale_enabled, found.min_replicas, found.max_replicas) == (True, 2, None)
    assert (found.refresh_period_seconds, found.target_utilization) == (1.0, 50)
    assert counts(service) == (2, 2)
    with pytest.raises(InvalidInputError, match="num_replicas=3 and autoscale_enabled=True"):
        service.update(num_replicas=3)
    service.update(autoscale_enabled=False, num_replicas=3)
    service.wait_for_deployment()
    assert counts(service) == (3, 3) and not service.autoscaler.autoscale_enabled
    assert service.num_replicas == 3


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"autoscale_min_replicas": 3, "autoscale_max_replicas": 2}, "autoscale_min_replicas=3 is greater than"),
        ({"autoscale_min_replicas": 0}, "autoscale_min_replicas: expected a number of at least 1, got 0"),
        ({"autoscale_max_replicas": 1.5}, "autoscale_max_replicas: expected a number of at least 1, got 1.5"),
        ({"autoscale_target_utilization": 101}, "autoscale_target_utilization: expected a number above 0, at most 100"),
        ({"autoscale_refresh_seconds": 0}, "autoscale_refresh_seconds: expected a number above 0"),
        ({"autoscale_enabled": True, "num_replicas": 2}, "num_replicas=2 and autoscale_enabled=True"),
    ],
)
def test_wishes_that_contradict_each_other(settings: dict, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        AksWebservice.deploy_configuration(**settings)


def test_replicas_end_with_a_killed_notebook(workspace: Workspace) -> None:
    ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration(agent_count=2, run_in="process"))
    other = Session(
        "config = AksWebservice.deploy_configuration(num_replicas=2)\n"
        "service = deploy(deployment_config=config)\nprint('done', flush=True); sys.stdin.read()"
    )
    assert other.line() == "done"
    found = replicas(other.process.pid)
    assert len(found) == 2
    other.kill()
    eventually(lambda: not any(map(process_exists, found)))


def test_a_killed_server_comes_back_with_replicas_of_its_own(workspace: Workspace) -> None:
    service = deployed(workspace, "process", agents=2, num_replicas=2)
    before = replicas()
    assert len(before) == 2
    front = int(Path(f"/proc/{before[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(front, signal.SIGKILL)
    eventually(lambda: not any(map(process_exists, before)))
    eventually(lambda: counts(service) == (2, 2) and len(replicas()) == 2)
    with client_from_service(service) as client:
        answer = client.score_numpy_arrays({"images": np.array([picture()], object)})
    assert answer[0, 0] == pytest.approx(-113.68, abs=0.001)


@pytest.mark.parametrize("way_out", ["update", "delete"])
def test_replicas_that_hang_at_their_start_hold_nobody_up(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way_out: str
) -> None:
    service, target = deployed(workspace, agents=4), ComputeTarget(workspace, "aks")
    with Hanging(tmp_path, monkeypatch) as hanging:
        service.update(num_replicas=2, models=[Model(workspace, "doubled")])
        eventually(lambda: len(hanging.pids) == 2)
        assert service.state == "Transitioning" and counts(service) == (2, 1)
        other = Webservice.deploy_from_model(workspace, "other", Model(workspace, "doubled"), deployment_target=target)
        other.wait_for_deployment(timeout_sec=20)
        with client_from_service(other) as client:
            answer = client.score_numpy_arrays({"images": np.array([picture()], object)})
        assert answer[0, 0] == pytest.approx(-227.36, abs=0.001)
        other.delete()
        if way_out == "delete":
            service.delete()
        else:
            service.update(num_replicas=1)
            service.wait_for_deployment(timeout_sec=20)
            assert counts(service) == (1, 1)
        eventually(lambda: not hanging.pids)
