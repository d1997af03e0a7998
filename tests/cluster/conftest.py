"""One cluster for the whole room, two images of a small model on its node, and a way in."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amlrealtimeai.containers import build_image
from amlrealtimeai.targets.cluster.api import Cluster
from amlrealtimeai.targets.cluster.manifests import GRPC_PORT
from amlrealtimeai.targets.cluster.target import ClusterTarget
from tests.cluster.kubernetes import Kubernetes, missing
from tests.serving.models import many_output_model

PROGRAMS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "amlrealtimeai/kubernetes-1.20.2"
IMAGES = ("localhost/heads:1", "localhost/heads:2")
X = np.array([[1, 2]], np.float32)


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    lacking = missing() + ([] if (PROGRAMS / "kubelet").exists() else [str(PROGRAMS)])
    if lacking:
        if os.environ.get("AMLREALTIMEAI_REQUIRE_CLUSTER"):
            pytest.fail(f"missing: {', '.join(lacking)}; run it with make test-cluster")
        pytest.skip(f"no Kubernetes here (missing: {', '.join(lacking)}); make test-cluster builds one")
    cluster = Kubernetes(PROGRAMS, tmp_path_factory.mktemp("kubernetes"))
    try:
        cluster.start()
        folder = tmp_path_factory.mktemp("images")
        for number, reference in enumerate(IMAGES, 1):
            model = many_output_model(folder / f"heads{number}.accelonnx", count=number)
            name, tag = reference.split(":")
            cluster.load(build_image(model, folder / f"{number}.tar", name=name, tag=tag).path)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def target(kubernetes: Kubernetes) -> Iterator[ClusterTarget]:
    found = ClusterTarget(Cluster(kubernetes.kubeconfig))
    yield found
    for item in found.cluster.list("apps/v1", "Deployment"):
        found.delete(item["metadata"]["name"], grace=1)


class Front:
    """A port of this machine that leads each new connection to the next ready pod, as a cluster's own proxy does."""

    def __init__(self, target: ClusterTarget, name: str) -> None:
        self._target, self._name, self._turns = target, name, itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def ready(self) -> list[str]:
        endpoints: Any = self._target.cluster.find("v1", "Endpoints", self._name) or {}
        return [a["ip"] for subset in endpoints.get("subsets", []) for a in subset.get("addresses", [])]

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        try:
            pods = self.ready()
            pod = socket.create_connection((pods[next(self._turns) % len(pods)], GRPC_PORT), 2)
            pod.settimeout(None)
        except (OSError, ZeroDivisionError):
            client.close()
            return
        for source, sink in ((client, pod), (pod, client)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for one in (source, sink):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


@pytest.fixture
def front(target: ClusterTarget) -> Iterator[Any]:
    made: list[Front] = []

    def to(name: str) -> Front:
        made.append(Front(target, name))
        return made[-1]

    yield to
    for one in made:
        one.close()


class Load:
    """Clients that ask without a pause until they are told to stop; `failures` has what went wrong."""

    def __init__(self, clients: list[Any]) -> None:
        self.answers, self.failures, self.shapes = 0, [], set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(client,)) for client in clients]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more answers have come."""
        goal, end = self.answers + more, time.monotonic() + 60
        while self.answers < goal and time.monotonic() < end:
            time.sleep(0.02)

    def _ask(self, client: Any) -> None:
        while not self._stop.is_set():
            try:
                self.shapes.add(len(client.predict({"x": X}, timeout=20)))
                self.answers += 1
            except Exception as error:
                self.failures.append(error)
