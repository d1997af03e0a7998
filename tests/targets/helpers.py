"""Python processes that share a workspace with the tests."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

PREAMBLE = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
import numpy as np
from amlrealtimeai.accel import client_from_service
from amlrealtimeai.core import AksCompute, AksWebservice, ComputeTarget, Model, Webservice, Workspace
workspace = Workspace.get("lab")
def deploy(name="means-svc", cluster="aks", deployment_config=None, **more):
    model, target = Model(workspace, "means"), ComputeTarget(workspace, cluster)
    service = Webservice.deploy_from_model(workspace, name, model, None, deployment_config, target, **more)
    service.wait_for_deployment()
    return service
"""


class Session:
    """A process that runs `code` after the preamble; code that reads stdin waits there for finish()."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )

    def line(self) -> str:
        """The next line that it prints, without those that deployments print."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(60.0, self.signal, [signal.SIGKILL])  # and what it has forked
        watchdog.start()
        try:
            while (text := self.process.stdout.readline()).startswith("The service"):
                pass
        finally:
            watchdog.cancel()
        return text.rstrip("\n")

    def finish(self) -> int:
        """Let it end by itself."""
        self.process.communicate(timeout=30)
        return self.process.returncode

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def process_exists(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
