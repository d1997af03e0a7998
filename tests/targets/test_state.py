"""Rows are the truth: two handles, two processes, kill -9 between a commit and what is made from it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai import DeploymentClient
from amlrealtimeai.accel import PredictionClient, client_from_service
from amlrealtimeai.core import AksWebservice, ComputeTarget, Model, Webservice, Workspace
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.errors import AmlRealtimeAiError, ConfigError, DeploymentError, InvalidInputError, NotFoundError
from amlrealtimeai.store.locks import LifeLock
from amlrealtimeai.targets import follow, hosts, logs
from amlrealtimeai.targets.files import Files
from tests.serving.models import image_model
from tests.store.test_locks import HOLD
from tests.targets.helpers import Session, process_exists
from tests.targets.test_processes import cluster, eventually, is_open, plain_picture, port_of, score

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    made = Workspace.create("lab")
    Model.register(made, image_model(tmp_path / "means.accelonnx"), "means")
    yield made
    if made.path.exists():
        made.delete(delete_dependent_resources=True)


def secure_cluster(workspace: Workspace, tmp_path: Path, name: str = "secure", **more: object) -> ComputeTarget:
    certificate, key, _ = development_certificate(["localhost"]).save(tmp_path)
    tls = {"ssl_cname": "localhost", "ssl_cert_pem_file": certificate, "ssl_key_pem_file": key}
    return cluster(workspace, name, **tls, **more)


def deploy(workspace: Workspace, target: ComputeTarget, name: str = "svc", **more: object) -> Webservice:
    overwrite = bool(more.pop("overwrite", False))
    config = AksWebservice.deploy_configuration(**more)  # type: ignore[arg-type]
    model = Model(workspace, "means")
    service = Webservice.deploy_from_model(workspace, name, model, None, config, target, overwrite=overwrite)
    service.wait_for_deployment()
    return service


def answer(client: PredictionClient) -> float:
    return float(np.ravel(client.score_numpy_arrays({"images": np.array([plain_picture()], object)}))[0])


def test_an_older_handle_changes_only_what_it_is_given(workspace: Workspace, tmp_path: Path) -> None:
    first = deploy(workspace, cluster(workspace), tags={"a": "1"})
    second = Webservice(workspace, "svc")
    second.update(num_replicas=3, tags={"a": "1", "b": "2"})
    doubled = Model.register(workspace, image_model(tmp_path / "doubled.accelonnx", scaling_factor=2.0), "doubled")
    first.update(models=[doubled])
    first.wait_for_deployment()
    now = Webservice(workspace, "svc")
    assert (now.num_replicas, now.models[0].id, now.tags) == (3, "doubled:1", {"a": "1", "b": "2"})
    assert score(now) == pytest.approx(-227.36, abs=0.001)
    second.update(description="mine")
    assert (Webservice(workspace, "svc").models[0].id, Webservice(workspace, "svc").num_replicas) == ("doubled:1", 3)


def test_changes_at_the_same_moment_are_both_made(workspace: Workspace) -> None:
    service = deploy(workspace, cluster(workspace))
    failures: list[BaseException] = []

    def change(function: Callable[[Webservice], object]) -> None:
        try:
            function(Webservice(workspace, "svc"))
        except BaseException as error:
            failures.append(error)

    revision = service._row["settings"]["revision"]
    changes = [lambda one: one.update(models=Model(workspace, "means"))] * 4 + [lambda one: one.update(num_replicas=2)]
    threads = [threading.Thread(target=change, args=[function]) for function in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Webservice(workspace, "svc").num_replicas == 2
    assert Webservice(workspace, "svc")._row["settings"]["revision"] == revision + 4


def test_what_was_deleted_elsewhere_is_not_found(workspace: Workspace) -> None:
    service = deploy(workspace, cluster(workspace))
    Webservice(workspace, "svc").delete()
    calls: tuple[Callable[[], object], ...] = (
        lambda: service.state,
        lambda: service.error,
        lambda: service.scoring_uri,
        lambda: service.update(num_replicas=2),
        lambda: service.update(tags={"a": "b"}),
        lambda: service.update(models=Model(workspace, "means")),
        lambda: service.wait_for_deployment(),
        lambda: service.get_keys(),
        lambda: service.regen_key("Primary"),
        lambda: service.get_logs(),
        lambda: service.serialize(),
        lambda: service.add_tags({"a": "b"}),
        lambda: service.delete(),
    )
    for call in calls:
        with pytest.raises(NotFoundError, match="does not exist"):
            call()
    assert "svc" in repr(service), "it can still be shown"
    again = deploy(workspace, ComputeTarget(workspace, "aks"))
    for call in calls:  # the name is another service's now
        with pytest.raises(
            NotFoundError, match=r"does not exist any more: it was deleted; another one has its name now"
        ):
            call()
    assert again.state == "Healthy" and again.tags == {}


def test_a_refused_overwrite_leaves_the_keys_that_the_server_knows(workspace: Workspace, tmp_path: Path) -> None:
    target = secure_cluster(workspace, tmp_path, agents=2)
    service = deploy(workspace, target)
    keys = service.get_keys()
    with pytest.raises(DeploymentError, match="Insufficient fpga"):
        deploy(workspace, target, num_replicas=3, overwrite=True)
    with pytest.raises(DeploymentError, match="Insufficient fpga"):
        Webservice(workspace, "svc").update(num_replicas=3)
    assert service.get_keys() == Webservice(workspace, "svc").get_keys() == keys
    assert answer(client_from_service(service)) == pytest.approx(-113.68, abs=0.001)
    open_one = deploy(workspace, target, auth_enabled=False, overwrite=True)
    for handle in (service, open_one):
        with pytest.raises(ConfigError, match="has no keys"):
            handle.get_keys()


def test_an_overwrite_onto_another_cluster_that_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    service = deploy(workspace, cluster(workspace, agents=2))
    uri, small = service.scoring_uri, cluster(workspace, "small", agents=1)
    with pytest.raises(DeploymentError, match="Insufficient fpga"):
        deploy(workspace, small, num_replicas=2, overwrite=True)
    assert (service.state, service.scoring_uri, service.compute_name) == ("Healthy", uri, "aks")
    assert score(service) == pytest.approx(-113.68, abs=0.001)
    moved = deploy(workspace, small, overwrite=True)
    assert moved.compute_name == "small" and score(moved) == pytest.approx(-113.68, abs=0.001)
    assert not is_open(port_of(uri)), "nothing is left on the other cluster"
    assert [row["compute_target"] for row in workspace.store.select("servers")] == ["small"]
    ComputeTarget(workspace, "aks").delete()


def test_a_server_that_does_not_start_leaves_what_was(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deploy(workspace, cluster(workspace, agents=2))
    other = secure_cluster(workspace, tmp_path, run_in="process", agents=2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DeploymentError, match="ended at its start"):
        deploy(workspace, other, overwrite=True)
    monkeypatch.undo()
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    assert (service.state, service.compute_name) == ("Healthy", "aks")
    assert [path.name for path in workspace.store.run.iterdir() if path.suffix in (".key", ".crt")] == []
    assert [row["compute_target"] for row in workspace.store.select("servers")] == ["aks"]


def test_no_private_key_is_written_for_a_server_in_this_process(workspace: Workspace, tmp_path: Path) -> None:
    deploy(workspace, secure_cluster(workspace, tmp_path))
    held = [path for path in workspace.store.path.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert {path.name.split("-")[0] for path in held} == {"store.sqlite3"}


def test_of_two_who_create_a_service_one_wins(workspace: Workspace, tmp_path: Path) -> None:
    clients = [DeploymentClient("local", "local", "lab") for _ in range(3)]
    model = clients[0].register_model("means", image_model(tmp_path / "again.accelonnx"))
    made, refused = [], []

    def create(client: DeploymentClient) -> None:
        try:
            made.append(client.create_service("svc", model))
        except InvalidInputError as problem:
            refused.append(str(problem))

    threads = [threading.Thread(target=create, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(refused) == 2
    assert all("there is a service 'svc' already" in text for text in refused)
    assert clients[0].get_service_by_id("svc") == made[0]
    assert made[0].state == "Succeeded" and is_open(made[0].port)
    clients[1].delete_service("svc")


def test_of_two_who_deploy_one_wins(workspace: Workspace) -> None:
    target = cluster(workspace)
    made, refused = [], []

    def create() -> None:
        try:
            made.append(deploy(workspace, target))
        except InvalidInputError as problem:
            refused.append(str(problem))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(refused) == 3
    assert score(made[0]) == pytest.approx(-113.68, abs=0.001)


STEPS = """
import signal
from amlrealtimeai.targets import embedded, files, hosts
def die(*arguments, **more): os.kill(os.getpid(), signal.SIGKILL)
def die_after(owner, name):
    really = getattr(owner, name)
    def call(*arguments, **more):
        really(*arguments, **more)
        die()
    setattr(owner, name, call)
"""
KILLED = {
    "after the server's row": "files.Files.derive = die; deploy()",
    "after the child has begun": "hosts._wait_for_port = die; deploy()",
    "after the server is up": "die_after(hosts, 'start_child'); deploy()",
    "after the service's row": "embedded.EmbeddedTarget._follow = die; deploy()",
    "after a change's row": "service = deploy(); embedded.EmbeddedTarget._follow = die; service.update(num_replicas=2)",
    "after a deletion's files": "service = deploy(); hosts.end = die; service.delete()",
}


def servers(workspace: Workspace) -> list[dict[str, object]]:
    return workspace.store.select("servers")


def files_of_servers(workspace: Workspace) -> set[str]:
    return {path.name.split(".")[0] for path in workspace.store.run.iterdir() if not path.name.startswith("starting")}


@pytest.mark.parametrize("step", KILLED)
def test_killed_between_a_row_and_what_is_made_from_it(workspace: Workspace, tmp_path: Path, step: str) -> None:
    secure_cluster(workspace, tmp_path, "aks", run_in="process", keep_running=True)
    session = Session(STEPS + KILLED[step])
    assert session.process.wait(60) == -signal.SIGKILL
    session.process.communicate()

    Workspace.get("lab")
    listed = "svc" in [name.removeprefix("means-") for name in workspace.webservices]
    assert listed == (step.startswith(("after the service", "after a change")))
    if listed:
        service = Webservice(workspace, "means-svc")
        service.wait_for_deployment()
        assert service.num_replicas == (2 if "change" in step else 1)
        key = service.get_keys()[0]
        client = PredictionClient(
            "localhost", port_of(service.scoring_uri), True, key, root_certificates=service.root_certificates
        )
        assert answer(client) == pytest.approx(-113.68, abs=0.001)
    assert len(workspace.store.select("servers")) <= 1
    assert eventually(lambda: files_of_servers(Workspace.get("lab")) <= {row["id"] for row in servers(workspace)}, 20.0)
    again = deploy(workspace, ComputeTarget(workspace, "aks"), "another")  # adopts what is there, or starts one
    assert len(workspace.store.select("servers")) == 1
    port = port_of(again.scoring_uri)
    workspace.delete(delete_dependent_resources=True)
    assert not is_open(port)


def test_a_kept_server_ends_with_its_workspace_folder(workspace: Workspace) -> None:
    service = deploy(workspace, cluster(workspace, run_in="process", keep_running=True))
    port, pid = port_of(service.scoring_uri), workspace.store.select("servers")[0]["pid"]

    def removed() -> bool:  # the server may write beside the files that are being removed
        shutil.rmtree(workspace.path, ignore_errors=True)
        return not workspace.path.exists()

    assert eventually(removed, 5.0)
    assert eventually(lambda: not process_exists(pid) and not is_open(port), 20.0)
    assert not workspace.path.exists()


def test_a_server_that_a_kill_left_with_a_deleted_service_stops_serving_it(workspace: Workspace) -> None:
    cluster(workspace, run_in="process", keep_running=True)
    code = "deploy('stays'); deploy('stays-too'); service = deploy(); print(service.scoring_uri, flush=True)"
    session = Session(f"{STEPS}{code}; embedded.EmbeddedTarget._follow = die; service.delete()")
    port = port_of(session.line())
    session.process.communicate()

    def refused(name: str) -> bool:
        try:
            answer(PredictionClient("127.0.0.1", port, service_name=name))
        except AmlRealtimeAiError as problem:
            return "NOT_FOUND" in str(problem)
        return False

    # Nobody looks at the workspace: the server itself sees that its row is gone.
    assert eventually(lambda: refused("means-svc"), 10.0) and not refused("stays")


def test_an_idle_kept_server_gives_itself_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    cluster(workspace)
    row = {"id": "ab" * 8, "compute_target": "aks", "pid": 0, "owner": 0, "host": "127.0.0.1", "port": 0}
    workspace.store.insert("servers", row)
    lock = LifeLock(workspace.store.run / f"{row['id']}.lock")
    monkeypatch.setattr(follow, "IDLE_SECONDS", 0.2)
    follower = follow.Follower(workspace.store, "ab" * 8, Path("absent.log"), gone.set, ends_idle=True)
    follower.start()
    assert gone.wait(10) and workspace.store.select("servers") == []
    lock.release()
    follower.stop()


def test_a_killed_notebook_whose_worker_lives_is_stopped(workspace: Workspace) -> None:
    cluster(workspace)
    session = Session(
        "import subprocess\nservice = deploy()\nif os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)\n"
        "print(service.scoring_uri, flush=True); sys.stdin.read()"
    )
    try:
        session.line()
        session.process.kill()
        session.process.wait()
        service = Webservice(workspace, "means-svc")
        assert service.state == "Stopped"
        service.update()
        service.wait_for_deployment()
        assert score(service) == pytest.approx(-113.68, abs=0.001)
    finally:
        session.signal(signal.SIGKILL)
        session.process.communicate()


def test_only_processes_that_hold_the_servers_lock_are_ended(workspace: Workspace) -> None:
    """The id of a process that has ended, or that runs in another container, may be an innocent one's here."""
    innocent = subprocess.Popen(["sleep", "60"])
    files = Files(workspace.store, "cd" * 8)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(files.lock)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        hosts.end(workspace.store, {"id": "cd" * 8, "pid": innocent.pid, "host": "127.0.0.1", "port": 1})
        assert holder.wait(5) == -signal.SIGTERM
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()
        holder.kill()
        holder.communicate()


def test_status_counts_replicas_and_names_the_revision(workspace: Workspace, tmp_path: Path) -> None:
    target = cluster(workspace)
    service = deploy(workspace, target, num_replicas=2)
    status = target.runner().status("svc")
    assert (status.state, status.wanted, status.ready, status.revision) == ("Healthy", 2, 2, 1)
    service.update(models=Model(workspace, "means"))
    service.wait_for_deployment()
    assert target.runner().status("svc").revision == 2


def test_each_cluster_has_its_own_log(workspace: Workspace) -> None:
    first, second = (deploy(workspace, cluster(workspace, name, agents=2), name) for name in ("one", "two"))
    third = deploy(workspace, ComputeTarget(workspace, "one"), "other")
    for service in (first, second, third):
        score(service)
    expected = "method=Predict model='{}' "
    assert eventually(lambda: all(expected.format(one.name) in one.get_logs() for one in (first, second, third)))
    for service in (first, second, third):
        others = {"one", "two", "other"} - {service.name}
        assert not any(f"'{other}'" in service.get_logs() for other in others), service.get_logs()
    first.delete()
    assert "ready on" in third.get_logs() and third.get_logs(num_lines=0) == ""


def test_a_log_does_not_grow_without_end(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LOG_BYTES", 2000)
    monkeypatch.setattr(follow, "SECONDS", 0.05)
    service = deploy(workspace, cluster(workspace))
    (log,) = logs.folder_of(workspace.store, "aks").glob("*.log")
    for _ in range(40):
        score(service)
    assert eventually(lambda: log.with_suffix(".log.1").exists() and log.stat().st_size < 2000)
    score(service)
    assert eventually(lambda: log.stat().st_size > 0)
    assert "model='svc'" in service.get_logs()


def test_logs_of_earlier_servers_are_dropped(workspace: Workspace) -> None:
    target = cluster(workspace)
    folder = logs.folder_of(workspace.store, "aks")
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:016x}.log").write_text("time=2026 level=INFO ended\n")
        os.utime(folder / f"{number:016x}.log", (time.time() - 100 + number,) * 2)
    deploy(workspace, target)
    assert len(list(folder.glob("*.log"))) == 6
