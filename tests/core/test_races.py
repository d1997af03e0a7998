"""Objects of one workspace that others create and delete at the same time."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from amlrealtimeai.core import AksCompute, ComputeTarget, Model, Webservice, Workspace
from amlrealtimeai.core.compute import AksUpdateConfiguration, SslConfiguration
from amlrealtimeai.errors import NotFoundError
from amlrealtimeai.targets import logs


def test_lists_and_sentences_are_true_while_a_cluster_comes_and_goes(workspace: Workspace) -> None:
    ended = threading.Event()

    def come_and_go() -> None:
        for _ in range(80):
            ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration()).delete()
        ended.set()

    other = threading.Thread(target=come_and_go)
    other.start()
    while not ended.is_set():
        for target in workspace.compute_targets.values():
            assert target.name == "aks" and "aks" in target._repr_html_()
        try:
            ComputeTarget(workspace, "aks")
        except NotFoundError as problem:
            assert "there are: none" in str(problem)
    other.join()


def test_a_cluster_that_is_deleted_while_a_server_starts_on_it_is_named(
    workspace: Workspace, model: Model, cluster: ComputeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_log = logs.new

    def deleted_meanwhile(*arguments: object) -> Path:
        ComputeTarget(workspace, "aks").delete()
        return new_log(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(logs, "new", deleted_meanwhile)
    with pytest.raises(NotFoundError, match=r"the compute target 'aks' was deleted while a server was started on it"):
        Webservice.deploy_from_model(workspace, "svc", model, deployment_target=cluster)
    assert workspace.webservices == workspace.compute_targets == {}
    assert not list(workspace.store.run.glob("*.json"))


def test_a_former_cluster_touches_none_that_has_its_name_now(
    workspace: Workspace, model: Model, tls_files: dict[str, str]
) -> None:
    old = ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration(**tls_files))
    ComputeTarget(workspace, "aks").delete()
    new = ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration(agent_count=2, **tls_files))
    ssl = SslConfiguration(cert=tls_files["ssl_cert_pem_file"], key=tls_files["ssl_key_pem_file"], cname="localhost")
    calls: list[Callable[[], object]] = [
        old.delete,
        old.get_status,
        lambda: old.update(AksUpdateConfiguration(ssl)),
        lambda: Webservice.deploy_from_model(workspace, "svc", model, deployment_target=old),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match="'aks' does not exist any more: it was deleted; another one has its"):
            call()
    assert new.get_status() == "Succeeded" and new.ssl_cname == "localhost" and workspace.webservices == {}


def test_a_former_service_is_shown_though_its_model_and_its_cluster_are_gone_too(
    workspace: Workspace, model: Model, cluster: ComputeTarget
) -> None:
    service = Webservice.deploy_from_model(workspace, "svc", model, deployment_target=cluster)
    for other in (Webservice(workspace, "svc"), model, cluster):
        other.delete()
    assert "name=svc, state=Deleted, image=none, model means:1, target=aks" in repr(service)
    assert "Deleted" in service._repr_html_()
