"""How a program ends that has made, lost and deleted services in child processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.models import image_model

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, time
from amlrealtimeai.core import AksCompute, ComputeTarget, Model, Webservice, Workspace

def served(name):
    workspace = Workspace.create(name)
    model = Model.register(workspace, sys.argv[1], "means")
    cluster = ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration(run_in="process"))
    service = Webservice.deploy_from_model(workspace, "svc", model, None, None, cluster)
    service.wait_for_deployment()
    return workspace, service

doomed, service = served("doomed")
(server,) = doomed.store.select("servers")
os.kill(server["pid"], signal.SIGKILL)
while service.state != "Stopped":
    time.sleep(0.05)
service.update(models=service.models)  # on another server
service.wait_for_deployment()
service.delete()
doomed.delete(delete_dependent_resources=True)
kept, _ = served("kept")
print(kept.store.select("servers")[0]["pid"])
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_lost_server_of_a_deleted_workspace_keeps_no_other_from_ending(tmp_path: Path) -> None:
    environment = {**os.environ, "AMLREALTIMEAI_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(image_model(tmp_path / "means.accelonnx"))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(f"/proc/{done.stdout.split()[-1]}").exists()
