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

from amlrealtimeai.serving.process import watch
from amlrealtimeai.serving.process.watch import Watcher
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import channel_to, predict, refused, request_of
from tests.serving.models import arithmetic_model
from tests.serving.processes import Hanging, eventually

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a service has threads there")

PAIR = np.ones((1, 2), np.float32)
AVAILABLE = {"version": 1, "state": "AVAILABLE", "error": ""}


class Watched:
    """A server that follows a file; `set` changes it and waits until that is in effect."""

    def __init__(self, folder: Path, plain_keys: bool = False, **services: dict[str, Any]) -> None:
        self.file = folder / "services.json"
        self.model = str(arithmetic_model(folder / "m.accelonnx"))
        self.generation = 0
        self.write(**services)
        limits = Limits(workers=1)
        self.server = Server(limits=limits, rest_port=0, admin_port=0, plain_keys=plain_keys).start()
        self.watcher = Watcher(self.server, self.file, 1)
        self.watcher.start()

    def write(self, **services: dict[str, Any]) -> None:
        self.generation += 1
        services = {name: {"model": self.model, **more} for name, more in services.items()}
        changed = self.file.with_suffix(".new")
        changed.write_text(json.dumps({"generation": self.generation, "services": services}))
        changed.replace(self.file)

    def set(self, **services: dict[str, Any]) -> dict[str, Any]:
        self.write(**services)
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


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    return Hanging(tmp_path, monkeypatch)


def state_of(watched: Watched, name: str) -> dict[str, Any]:
    return watched.status()["services"].get(name, {})


def test_a_replica_that_hangs_at_its_start_holds_no_other_service_up(
    watched: Watched, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 2.0)
    watched.set(b={"replicas": 2}, c={"replicas": 1})
    first = watched.server.table.get("b").model.pids
    with hanging, channel_to(watched.server) as channel:

        def answer(name: str) -> Any:
            return predict(channel, request_of(name, a=PAIR, b=PAIR).SerializeToString())

        watched.write(a={"replicas": 2}, b={"replicas": 2}, c={"replicas": 1})
        eventually(lambda: hanging.pids and state_of(watched, "a").get("state") == "LOADING")
        assert refused(lambda: answer("a")) == ("UNAVAILABLE", "a is being loaded; try again a little later")
        watched.write(a={"replicas": 2}, b={"replicas": 1}, c={"replicas": 1, "version": 2}, d={"replicas": 1})
        eventually(lambda: state_of(watched, "b") == {**AVAILABLE, "wanted": 1, "ready": 1})
        eventually(lambda: state_of(watched, "c").get("version") == 2 and state_of(watched, "d"))
        assert [answer(name).model_spec.version.value for name in "bcd"] == [1, 2, 1]
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in first))
        watched.write(a={"replicas": 2}, c={"replicas": 1, "version": 2})
        eventually(lambda: watched.status()["services"].keys() == {"a", "c"})
        assert refused(lambda: answer("b"))[0] == refused(lambda: answer("d"))[0] == "NOT_FOUND"
        assert hanging.pids and watched.status()["seen"] == watched.generation
        eventually(lambda: watched.status()["generation"] == watched.generation)
        assert state_of(watched, "a") == {"version": 1, "state": "LOADING", "error": ""}
        watched.set(c={"replicas": 1, "version": 2})
        eventually(lambda: not hanging.pids)


def test_a_service_whose_replicas_hang_can_be_changed(watched: Watched, hanging: Hanging) -> None:
    watched.set(m={"replicas": {"least": 1, "most": 3}})
    pool = watched.server.table.get("m").model
    pids = pool.pids
    with hanging:
        watched.write(m={"replicas": 3})
        eventually(lambda: len(hanging.pids) == 2)
        assert state_of(watched, "m") == {**AVAILABLE, "state": "LOADING", "served": 1, "ready": 1}
        watched.write(m={"replicas": 2, "version": 2})
        eventually(lambda: state_of(watched, "m").get("version") == 2 and len(hanging.pids) == 2)
        watched.set(m={"replicas": {"least": 1, "most": 3}})
        assert state_of(watched, "m") == {**AVAILABLE, "wanted": 1, "ready": 1} and pool.pids == pids
        eventually(lambda: not hanging.pids)
        watched.write(m={"replicas": 2})
        eventually(lambda: hanging.pids)
        watched.set(m={"replicas": 1})
        assert state_of(watched, "m") == {**AVAILABLE, "wanted": 1, "ready": 1}
        watched.write(m={"replicas": 2})
        eventually(lambda: len(hanging.pids) == 2)
    assert watched.set(m={"replicas": 3})["m"] == {**AVAILABLE, "wanted": 3, "ready": 3}
    assert not hanging.pids


def test_keys_are_in_force_while_something_hangs(tmp_path: Path, hanging: Hanging) -> None:
    watched = Watched(tmp_path, plain_keys=True)
    with hanging, channel_to(watched.server) as channel:

        def answer(key: str) -> Any:
            metadata = [("authorization", key)]
            return predict(channel, request_of("m", a=PAIR, b=PAIR).SerializeToString(), metadata=metadata)

        watched.set(m={"replicas": 1, "keys": ["old"]})
        watched.write(m={"replicas": 2, "keys": ["old"]})
        eventually(lambda: hanging.pids)
        watched.write(m={"replicas": 2, "keys": ["new"]})
        eventually(lambda: watched.status()["seen"] == watched.generation)
        assert refused(lambda: answer("old"))[0] == "UNAUTHENTICATED" and answer("new").outputs
        watched.set(m={"replicas": 1, "keys": ["old"]})
        assert refused(lambda: answer("new"))[0] == "UNAUTHENTICATED" and answer("old").outputs
    watched.watcher.stop()
    watched.server.stop()


def test_a_server_starts_and_stops_beside_replicas_that_hang(
    tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.5)
    with hanging:
        watched = Watched(tmp_path, m={"replicas": 2}, one={"replicas": 1})
        assert state_of(watched, "one")["state"] == "AVAILABLE" and state_of(watched, "m")["state"] == "LOADING"
        watched.watcher.stop()
        assert not watched.watcher.is_alive and not hanging.pids
        watched.server.stop()
