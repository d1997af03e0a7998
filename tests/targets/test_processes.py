"""Services and the processes that run them: who ends with whom, and what the others see."""

import contextlib
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.accel import PredictionClient, client_from_service
from amlrealtimeai.core import AksCompute, ComputeTarget, Model, Webservice, Workspace
from amlrealtimeai.errors import AmlRealtimeAiError, DeploymentError, InvalidInputError
from tests.serving.certificates import Authority
from tests.serving.models import image_model
from tests.targets.helpers import Session, process_exists

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

WAIT = "print(service.scoring_uri, flush=True); sys.stdin.read()"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    made = Workspace.create("lab")
    Model.register(made, image_model(tmp_path / "means.accelonnx"), "means")
    yield made
    made.delete(delete_dependent_resources=True)


def cluster(workspace: Workspace, name: str = "aks", agents: int = 4, **settings: object) -> ComputeTarget:
    configuration = AksCompute.provisioning_configuration(agent_count=agents, **settings)  # type: ignore[arg-type]
    return ComputeTarget.create(workspace, name, configuration)


def plain_picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(stream, "PNG")
    return stream.getvalue()


def score(service: Webservice) -> float:
    return float(client_from_service(service).score_numpy_arrays({"images": np.array([plain_picture()], object)})[0, 0])


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def server_pid(workspace: Workspace) -> int:
    (row,) = workspace.store.select("servers")
    return int(row["pid"])


def serving_pid(workspace: Workspace) -> int:
    """The process that answers, which is the child of the one in the store."""
    (child,) = server_children(workspace)
    return child


def server_children(workspace: Workspace) -> list[int]:
    pid = server_pid(workspace)
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def port_of(uri: str) -> int:
    return int(uri.rpartition(":")[2])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("run_in", ["notebook", "process"])
@pytest.mark.parametrize("end", ["by itself", "killed"])
def test_services_end_with_their_process_and_start_again_on_demand(
    workspace: Workspace, run_in: str, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster(workspace, run_in=run_in)
    other = Session(f"service = deploy(); {WAIT}")
    uri = other.line()
    service = Webservice(workspace, "means-svc")
    assert (service.state, service.scoring_uri) == ("Healthy", uri)
    assert score(service) == pytest.approx(-113.68, abs=0.001)
    pid = server_pid(workspace)
    assert (pid == other.process.pid) == (run_in == "notebook")
    serving = pid if run_in == "notebook" else serving_pid(workspace)
    if end == "killed":
        other.kill()
    else:
        assert other.finish() == 0
    assert eventually(lambda: not process_exists(pid), 5.0)
    assert not process_exists(serving) and not is_open(port_of(uri))
    assert eventually(lambda: service.state == "Stopped")
    with pytest.raises(
        DeploymentError, match=r"'means-svc' has no address: it is Stopped; .*call update\(\) to deploy it"
    ):
        client_from_service(service)
    with pytest.raises(DeploymentError, match="is Stopped"):
        service.wait_for_deployment()
    capsys.readouterr()
    service.update()
    service.wait_for_deployment()
    assert capsys.readouterr().out == "The service 'means-svc' was stopped; it is deployed again.\n"
    assert score(service) == pytest.approx(-113.68, abs=0.001)


def test_a_stopped_service_does_not_need_overwrite(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    cluster(workspace, agents=1)
    other = Session(f"service = deploy(); {WAIT}")
    other.line()
    model, target = Model(workspace, "means"), ComputeTarget(workspace, "aks")
    with pytest.raises(InvalidInputError, match="exists already"):
        Webservice.deploy_from_model(workspace, "means-svc", model, deployment_target=target)
    with pytest.raises(DeploymentError, match="The service 'means-svc' uses 1"):
        Webservice.deploy_from_model(workspace, "another", model, deployment_target=target)
    other.kill()
    capsys.readouterr()
    service = Webservice.deploy_from_model(workspace, "means-svc", model, deployment_target=target)
    service.wait_for_deployment()
    assert "was stopped, because the process that ran it has ended; it is deployed again" in capsys.readouterr().out
    assert score(service) == pytest.approx(-113.68, abs=0.001)


def test_a_server_that_is_kept_running_outlives_its_starter(workspace: Workspace) -> None:
    cluster(workspace, run_in="process", keep_running=True)
    first = Session(f"service = deploy(); {WAIT}")
    uri = first.line()
    assert first.finish() == 0
    service = Webservice(workspace, "means-svc")
    assert (service.state, service.scoring_uri) == ("Healthy", uri)
    assert score(service) == pytest.approx(-113.68, abs=0.001)
    second = Session("print(deploy('second').scoring_uri)")
    assert second.line() == uri  # one front address for the cluster
    assert second.finish() == 0
    pid = server_pid(workspace)
    Webservice(workspace, "second").delete()
    assert service.state == "Healthy" and process_exists(pid)
    service.delete()
    assert not process_exists(pid) and not is_open(port_of(uri))
    assert workspace.store.select("servers") == []
    assert [path.name for path in workspace.store.run.iterdir() if not path.name.startswith("starting")] == []


def test_two_notebooks_do_not_collide(workspace: Workspace) -> None:
    cluster(workspace)
    sessions = [Session(f"service = deploy('svc-{number}'); {WAIT}") for number in range(3)]
    uris = [session.line() for session in sessions]
    assert len(set(uris)) == 3
    for number, uri in enumerate(uris):
        service = Webservice(workspace, f"svc-{number}")
        assert (service.state, service.scoring_uri) == ("Healthy", uri)
        assert score(service) == pytest.approx(-113.68, abs=0.001)
    sessions[0].kill()
    assert [Webservice(workspace, f"svc-{number}").state for number in range(3)] == ["Stopped", "Healthy", "Healthy"]
    for session in sessions[1:]:
        assert session.finish() == 0


def test_any_process_can_change_and_delete_a_service(workspace: Workspace, tmp_path: Path) -> None:
    cluster(workspace)
    other = Session(f"service = deploy(); {WAIT}")
    uri = other.line()
    doubled = Model.register(workspace, image_model(tmp_path / "doubled.accelonnx", scaling_factor=2.0), "doubled")
    service = Webservice(workspace, "means-svc")
    service.update(models=[doubled], num_replicas=2)
    service.wait_for_deployment()
    assert service.scoring_uri == uri and score(service) == pytest.approx(-227.36, abs=0.001)
    service.delete()
    assert workspace.webservices == {}
    assert workspace.store.select("servers") and is_open(port_of(uri))  # the server is the other notebook's own
    assert other.finish() == 0


def test_a_taken_over_name_moves_to_the_new_process(workspace: Workspace) -> None:
    cluster(workspace, agents=1)
    other = Session(f"service = deploy(); {WAIT}")
    uri = other.line()
    model, target = Model(workspace, "means"), ComputeTarget(workspace, "aks")
    service = Webservice.deploy_from_model(workspace, "means-svc", model, None, None, target, overwrite=True)
    service.wait_for_deployment()
    assert service.scoring_uri != uri
    assert other.finish() == 0
    assert service.state == "Healthy" and score(service) == pytest.approx(-113.68, abs=0.001)


def deployed(workspace: Workspace) -> Webservice:
    service = Webservice.deploy_from_model(
        workspace, "means-svc", Model(workspace, "means"), deployment_target=ComputeTarget(workspace, "aks")
    )
    service.wait_for_deployment()
    return service


def test_a_child_that_hangs_is_unhealthy(workspace: Workspace) -> None:
    cluster(workspace, run_in="process")
    service = deployed(workspace)
    pid = serving_pid(workspace)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert service.state == "Unhealthy"
        assert service.error == f"its server (process {server_pid(workspace)}) does not answer"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: service.state == "Healthy")


@pytest.mark.parametrize("keep_running", [False, True])
def test_a_server_that_is_killed_is_replaced(workspace: Workspace, tmp_path: Path, keep_running: bool) -> None:
    authority = Authority()
    tls = authority.issue("localhost")
    (tmp_path / "cert.pem").write_bytes(tls.certificate)
    (tmp_path / "key.pem").write_bytes(tls.key)
    files = {"ssl_cert_pem_file": tmp_path / "cert.pem", "ssl_key_pem_file": tmp_path / "key.pem"}
    cluster(workspace, run_in="process", keep_running=keep_running, ssl_cname="localhost", **files)
    service = deployed(workspace)
    uri, keys, pid = service.scoring_uri, service.get_keys(), serving_pid(workspace)

    def answer(key: str) -> float:
        client = PredictionClient("localhost", port_of(uri), True, key, service.name, root_certificates=authority.pem)
        return float(client.score_numpy_arrays({"images": np.array([plain_picture()], object)})[0, 0])

    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    assert eventually(lambda: server_children(workspace) not in ([], [pid]), 60.0), "another one is started"
    assert eventually(lambda: service.state == "Healthy", 60.0)
    print(f"answers again after {time.monotonic() - started:.2f} s")
    assert answer(keys[0]) == pytest.approx(-113.68, abs=0.001)
    assert answer(keys[1]) == pytest.approx(-113.68, abs=0.001)
    with pytest.raises(AmlRealtimeAiError, match="UNAUTHENTICATED"):
        answer("wrong-key")
    assert serving_pid(workspace) != pid and not process_exists(pid)
    assert (service.state, service.scoring_uri, service.get_keys()) == ("Healthy", uri, keys)
    after = serving_pid(workspace)
    service.delete()
    assert not process_exists(after) and not is_open(port_of(uri)) and workspace.store.select("servers") == []


def test_no_server_outlives_its_killed_supervisor(workspace: Workspace) -> None:
    cluster(workspace, run_in="process", keep_running=True)
    service = deployed(workspace)
    port, pid = port_of(service.scoring_uri), serving_pid(workspace)
    os.kill(server_pid(workspace), signal.SIGKILL)
    assert service.state != "Stopped" or not process_exists(pid), "nobody may believe it dead while it has the port"
    assert eventually(lambda: service.state == "Stopped", 5.0)
    assert not process_exists(pid) and not is_open(port)
    service.update()
    service.wait_for_deployment()
    assert score(service) == pytest.approx(-113.68, abs=0.001)


@pytest.mark.slow
def test_a_hung_server_without_supervisor_is_ended(workspace: Workspace) -> None:
    cluster(workspace, run_in="process")
    service = deployed(workspace)
    pid, port = serving_pid(workspace), port_of(service.scoring_uri)
    os.kill(pid, signal.SIGSTOP)
    os.kill(server_pid(workspace), signal.SIGKILL)
    try:
        assert service.state == "Unhealthy"
        service.delete()
        assert not process_exists(pid) and not is_open(port) and workspace.store.select("servers") == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_an_interrupted_cell_does_not_end_the_child(workspace: Workspace) -> None:
    cluster(workspace, run_in="process")
    other = Session(
        "service = deploy()\n"
        # short sleeps: a signal that comes just before a sleep begins does not cut it short
        "try:\n    print(service.scoring_uri, flush=True)\n    for _ in range(600): time.sleep(0.05)\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
        "sys.stdin.read()"
    )
    other.line()
    other.signal(signal.SIGINT)
    assert other.line() == "interrupted"
    time.sleep(0.3)
    assert Webservice(workspace, "means-svc").state == "Healthy"
    assert other.finish() == 0


def test_a_process_with_a_service_ends_at_once(workspace: Workspace) -> None:
    cluster(workspace)
    other = Session("deploy(); print('done', flush=True)")
    other.line()
    started = time.monotonic()
    assert other.finish() == 0
    assert time.monotonic() - started < 3.0
    assert workspace.store.select("servers") == []


def test_a_forked_child_does_not_end_the_service(workspace: Workspace) -> None:
    cluster(workspace)
    other = Session(
        "service = deploy()\nif os.fork() == 0:\n    sys.exit(0)\nos.wait()\n"
        "print(service.state, flush=True); sys.stdin.read()"
    )
    assert other.line() == "Healthy"
    assert other.finish() == 0


def test_the_child_finds_this_package_and_not_the_folder_it_is_in(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "numpy.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(folder)
    cluster(workspace, run_in="process")
    deployed(workspace)


def test_a_child_that_cannot_start_says_why(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(workspace, run_in="process")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DeploymentError, match="the server ended at its start, with status 1"):
        Webservice.deploy_from_model(
            workspace, "means-svc", Model(workspace, "means"), deployment_target=ComputeTarget(workspace, "aks")
        )
    assert workspace.webservices == {} and workspace.store.select("servers") == []


def test_who_waits_for_a_suspended_process_is_told(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    cluster(workspace)
    other = Session("service = deploy(); print('done', flush=True); sys.stdin.read()")
    assert other.line() == "done"
    other.signal(signal.SIGSTOP)
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "If it is suspended, it will when it goes on." in said

    try:
        with ThreadPoolExecutor(1) as threads:
            deleting = threads.submit(Webservice(workspace, "means-svc").delete)
            assert eventually(told)
            other.signal(signal.SIGCONT)
            deleting.result(30)
    finally:
        other.signal(signal.SIGCONT)
    assert other.finish() == 0
