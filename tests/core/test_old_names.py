import pytest


def test_the_original_notebooks_way_to_find_or_create_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path))
    from amlrealtimeai.core import Workspace
    from amlrealtimeai.core.compute import AksCompute, ComputeTarget
    from amlrealtimeai.core.compute_target import ComputeTargetException

    ws = Workspace.from_config()
    try:
        cluster = ComputeTarget(workspace=ws, name="my-aks")
    except ComputeTargetException:
        configuration = AksCompute.provisioning_configuration(vm_size="Standard_PB6s", agent_count=1)
        cluster = ComputeTarget.create(ws, "my-aks", configuration)
        cluster.wait_for_completion(show_output=False)
    assert ComputeTarget(workspace=ws, name="my-aks").provisioning_state == "Succeeded"
    cluster.delete()


def test_errors_are_caught_under_their_old_names(tmp_path, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path))
    from amlrealtimeai.core import Workspace
    from amlrealtimeai.core.model import Model
    from amlrealtimeai.core.webservice import Webservice
    from amlrealtimeai.exceptions import ModelNotFoundException, WebserviceException

    ws = Workspace.from_config()
    with pytest.raises(ModelNotFoundException, match="nothere"):
        Model(ws, "nothere")
    with pytest.raises(WebserviceException, match="nothere"):
        Webservice(ws, "nothere")
