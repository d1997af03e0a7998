"""A server whose watched file says how many replicas its services have."""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amlrealtimeai.serving.process.watch import Watcher
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import channel_to, predict, request_of
from tests.serving.models import arithmetic_model
from tests.serving.processes import eventually

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a service has threads there")

PAIR = np.ones((1, 2), np.float32)


class Watched:
    """A server that follows a file; `set` changes it and waits until that is in effect."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "services.json"
        self.model = str(arithmetic_model(folder / "m.accelonnx"))
        self.file.write_text('{"generation": 0, "services": {}}')
        self.server = Server(limits=Limits(workers=1), rest_port=0, admin_port=0).start()
        self.watcher = Watcher(self.server, self.file, 1)
        self.watcher.start()
        self.generation = 0

    def set(self, **services: dict[str, Any]) -> dict[str, Any]:
        self.generation += 1
        services = {name: {"model": self.model, **more} for name, more in services.items()}
        changed = self.file.with_suffix(".new")
        changed.write_text(json.dumps({"generation": self.generation, "services": services}))
        changed.replace(self.file)
        eventually(lambda: self.status()["generation"] == self.generation)
        return self.status()["services"]

    def status(self) -> dict[str, Any]:
        return json.loads(self.file.with_name("services.json.status").read_text())

    def get(self, port: int, path: str, body: bytes | None = None) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body) as page:
            return page.read().decode()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.watcher.stop()
    made.server.stop()


def test_replicas_by_file(watched: Watched) -> None:
    server = watched.server
    states = watched.set(m={"replicas": 2}, one={"replicas": 1}, none={})
    assert states["m"] == {"version": 1, "state": "AVAILABLE", "error": "", "wanted": 2, "ready": 2}
    assert states["one"] == {"version": 1, "state": "AVAILABLE", "error": "", "wanted": 1, "ready": 1}
    assert states["none"] == {"version": 1, "state": "AVAILABLE", "error": ""}
    assert isinstance(server.table.get("m").model, Pool) and not isinstance(server.table.get("one").model, Pool)
    body = b'{"inputs": {"a": [[1, 2]], "b": [[3, 4]]}}'
    for name in ("m", "one", "none"):
        assert '"sum:0": [[4.0, 6.0]]' in watched.get(server.rest_port, f"/v1/models/{name}:predict", body)
        with channel_to(server) as channel:
            answer = predict(channel, request_of(name, a=PAIR, b=PAIR).SerializeToString())
            assert answer.outputs["sum:0"].float_val == [2.0, 2.0]
    lines = watched.get(server.admin_port, "/metrics").splitlines()
    assert 'amlrealtimeai_replicas{model="m",state="ready"} 2.0' in lines
    assert 'amlrealtimeai_replicas{model="m",state="wanted"} 2.0' in lines
    assert not [line for line in lines if line.startswith("amlrealtimeai_replicas{") and '"m"' not in line]


def test_what_cannot_be_done_leaves_what_was_there(watched: Watched, tmp_path: Path) -> None:
    watched.set(m={"replicas": 2})
    pids = watched.server.table.get("m").model.pids
    broken = tmp_path / "broken.accelonnx"
    data = bytearray(Path(watched.model).read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    state = watched.set(m={"replicas": 2, "model": str(broken), "version": 2})["m"]
    assert state["state"] == "END" and "broken.accelonnx is not a usable converted model" in state["error"]
    state = watched.set(m={"replicas": {"least": 2, "more": 3}})["m"]
    assert state["state"] == "END" and state["error"].startswith("replicas: expected a number of at least 1, or {")
    assert watched.server.table.get("m").model.pids == pids
    with channel_to(watched.server) as channel:
        assert predict(channel, request_of("m", a=PAIR, b=PAIR).SerializeToString()).model_spec.version.value == 1
    assert watched.set(m={"replicas": 2})["m"]["state"] == "AVAILABLE"
    assert watched.server.table.get("m").model.pids == pids
    assert watched.set() == {}
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_what_a_replica_computes_when_its_server_stops_is_finished(watched: Watched) -> None:
    watched.set(m={"replicas": {"least": 1, "most": 2, "seconds": 3600}})
    (pid,) = watched.server.table.get("m").model.pids
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads, channel_to(watched.server) as channel:
        answer = threads.submit(predict, channel, request_of("m", a=PAIR, b=PAIR).SerializeToString())
        eventually(lambda: watched.server.in_flight_of("m") == 1)
        stopped = threads.submit(watched.server.stop, 20)
        eventually(lambda: watched.server.draining)
        os.kill(pid, signal.SIGCONT)
        assert answer.result(20).outputs["sum:0"].float_val == [2.0, 2.0]
        stopped.result(20)
    assert not Path(f"/proc/{pid}").exists()
