"""kill -9 while a process registers and deploys: what is listed afterwards is whole, and deploying again works."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amlrealtimeai.core import Workspace
from amlrealtimeai.deployment_client import DeploymentClient
from tests.serving.models import image_model
from tests.serving.processes import eventually

ROOT = Path(__file__).parents[2]
SETTLED = {"Stopped", "Succeeded", "Transitioning"}  # Unhealthy: a server that is just about to end
CODE = """
import sys
from amlrealtimeai import DeploymentClient
client = DeploymentClient("s", "g", "killed", run_in=sys.argv[1])
print("started", flush=True)
model = client.register_model("means", sys.argv[2])
service = client.create_service("svc", model)
client.update_service("svc", client.register_model("means", sys.argv[2]))
client.delete_service("svc")
print("done", flush=True)
"""


def killed_after(seconds: float, run_in: str, model: Path) -> bool:
    """Whether the process was still at work."""
    command = [sys.executable, "-c", CODE, run_in, str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return "done" not in process.communicate(timeout=30)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("run_in", "longest", "times"), [("notebook", 0.5, 5), ("process", 1.8, 4)])
def test_a_killed_deployment_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_in: str, longest: float, times: int
) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    source, model = random.Random(0), image_model(tmp_path / "means.zip")
    killed = 0
    for _ in range(times):
        killed += killed_after(source.uniform(0.0, longest), run_in, model)
        client = DeploymentClient("s", "g", "killed", run_in=run_in)
        for found in client.list_models():
            assert found.is_converted and found.kept_path().read_bytes() == model.read_bytes()
        eventually(lambda client=client: {service.state for service in client.list_services()} <= SETTLED)
    assert killed >= 2, "too late to find anything"

    if client.get_service_by_name("svc") is not None:
        client.delete_service("svc")
    service = client.create_service("svc", client.register_model("means", model))
    assert service.state == "Succeeded"
    client.delete_service("svc")
    workspace = Workspace.get("killed", subscription_id="s", resource_group="g")
    workspace.delete(delete_dependent_resources=True)
