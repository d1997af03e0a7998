"""A model in several processes answers as it does in one, whatever happens to them."""

import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.artifact.preprocess import MAX_PIXELS
from amlrealtimeai.errors import DeploymentError, InvalidInputError, MissingFileError
from amlrealtimeai.serving.replicas import pool as pools
from amlrealtimeai.serving.replicas import replica
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.request.answers import RequestError
from amlrealtimeai.serving.server import Server
from tests.serving.models import arithmetic_model, image_model, slow_model
from tests.serving.processes import eventually

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a service has threads there")

PAIR = {"a": np.array([[3.0, 5.0]], np.float32), "b": np.array([[1.0, 2.0]], np.float32)}
LARGE = {name: np.zeros((1_000_000, 2), np.float32) for name in "ab"}  # more than a socket holds


class GoneError(Exception):
    """Nobody waits any more."""


def gone() -> None:
    raise GoneError


def pool_of(path: Path, count: int) -> Pool:
    return Pool(path, count, 1, MAX_PIXELS)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = pool_of(arithmetic_model(tmp_path_factory.mktemp("two") / "m.accelonnx"), 2)
    yield pool
    pool.end()


@pytest.fixture
def pool(two: Pool) -> Pool:
    """Two replicas, both idle; each test may kill them."""
    eventually(lambda: two.look() or two.ready == 2)
    assert two.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]]
    return two


def descriptor_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def exists(pid: int) -> bool:
    """Also as a zombie."""
    return Path(f"/proc/{pid}").exists()


def stop(pool: Pool) -> list[int]:
    """From here on no replica answers, as if each were busy with something long."""
    for pid in pool.pids:
        os.kill(pid, signal.SIGSTOP)
    return pool.pids


def busy(pool: Pool) -> set[int]:
    """Those that somebody waits for."""
    return {one.pid for one in pool._all if one not in pool._idle}


def hanging(folder: Path) -> str:
    """What starts as Python and does nothing; its process id is in folder/pid."""
    script = folder / "hanging"
    script.write_text(f"#!/bin/sh\necho $$ > {folder}/pid\nexec sleep 1000\n")
    script.chmod(0o755)
    return str(script)


def picture(size: int) -> dict[str, np.ndarray]:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (10, 20, 30)).save(stream, "PNG", compress_level=1)
    return {"images": np.array([stream.getvalue()], object)}


def test_the_same_answers_and_refusals_as_in_this_process(tmp_path: Path) -> None:
    path = image_model(tmp_path / "m.accelonnx")
    here, pool = ConvertedModel.load(path), pool_of(path, 1)
    mine, theirs = here.predict(picture(8)), pool.predict(picture(8))
    assert list(mine.outputs) == list(theirs.outputs) == ["output_alias"]
    np.testing.assert_array_equal(mine.outputs["output_alias"], theirs.outputs["output_alias"])
    assert set(theirs.timings) == {"decode", "classifier"}
    assert pool.name == here.name and pool.signature == here.signature
    pids = pool.pids
    for bad in ({"images": np.array([b"no picture"], object)}, {"images": np.array([b""], object)}):
        with pytest.raises(InvalidInputError) as told:
            here.predict(bad)
        with pytest.raises(InvalidInputError) as said:
            pool.predict(bad)
        assert str(said.value) == str(told.value)
    over = time.monotonic() + 0.3

    def check() -> None:
        if time.monotonic() > over:
            gone()

    with pytest.raises(GoneError):
        pool.predict({"images": np.repeat(picture(4000)["images"], 64)}, None, check)  # seconds of work
    assert pool.predict(picture(8)).outputs["output_alias"].shape == (1, 3)
    assert pool.pids == pids, "it has stopped that, and was kept"


def test_outputs_are_chosen_by_name(pool: Pool) -> None:
    assert pool.predict(PAIR, ["difference:0"]).outputs["difference:0"].tolist() == [[2.0, 3.0]]
    assert pool.predict(LARGE).outputs["sum:0"].shape == (1_000_000, 2)


def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    path = arithmetic_model(tmp_path / "m.accelonnx")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    descriptors = descriptor_count()
    with pytest.raises(InvalidInputError, match=r"m\.accelonnx is not a usable converted model"):
        pool_of(path, 1)
    with pytest.raises(MissingFileError):
        pool_of(tmp_path / "none.accelonnx", 2)
    assert descriptor_count() <= descriptors


def test_no_request_is_lost_when_replicas_are_killed(pool: Pool) -> None:
    """Nobody calls `look` here: requests themselves see to it that there are others."""
    over, descriptors = threading.Event(), descriptor_count()

    def client() -> int:
        answers = 0
        while not over.is_set():
            assert pool.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]]
            answers += 1
        return answers

    with ThreadPoolExecutor(4) as threads:
        clients = [threads.submit(client) for _ in range(4)]
        first = pool.pids
        for pid in first:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda gone=pid: pool.ready == 2 and gone not in pool.pids)
        over.set()
        assert all(each.result(20) for each in clients)
    assert not any(map(exists, first)), "and they are no zombies"
    assert descriptor_count() <= descriptors


def test_both_killed_while_idle_cost_nothing(pool: Pool) -> None:
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(one.has_ended for one in pool._all))
    assert pool.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]]


@pytest.mark.parametrize("inputs", [PAIR, LARGE], ids=["small", "large"])
def test_a_request_of_which_nothing_was_computed_is_sent_again(pool: Pool, inputs: dict) -> None:
    """As when all replicas are killed at the same moment: the next that is asked is about to end, too."""
    stopped = stop(pool)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(pool.predict, inputs)
        for _ in range(2):
            pid = eventually(lambda: next(iter(busy(pool) & set(stopped)), 0))
            stopped.remove(pid)
            os.kill(pid, signal.SIGKILL)
        assert answer.result(20).outputs["sum:0"].shape == inputs["a"].shape


def test_no_request_is_lost_when_all_replicas_are_killed_at_once(pool: Pool) -> None:
    over, answers = threading.Event(), [0] * 4

    def client(index: int) -> None:
        while not over.is_set():
            assert pool.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]]
            answers[index] += 1

    with ThreadPoolExecutor(4) as threads:
        clients = [threads.submit(client, index) for index in range(4)]
        for _ in range(4):
            before, killed = list(answers), pool.pids
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda killed=killed: pool.ready == 2 and not set(killed) & set(pool.pids))
            eventually(lambda before=before: all(now > then + 1 for now, then in zip(answers, before, strict=True)))
        over.set()
        for each in clients:
            each.result(20)


def cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_a_request_that_ends_two_replicas_ends_itself(tmp_path: Path) -> None:
    pool = pool_of(slow_model(tmp_path / "slow.accelonnx", products=40), 2)
    before = {pid: cpu_ticks(pid) for pid in pool.pids}
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(pool.predict, {"x": np.ones(1, np.float32)})
        for _ in range(2):
            pid = eventually(lambda: next((pid for pid in before if cpu_ticks(pid) > before[pid] + 5), 0))
            del before[pid]
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(RequestError, match="2 replicas ended while they computed this request") as caught:
            answer.result(20)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    pool.end()


@pytest.mark.parametrize("inputs", [PAIR, LARGE], ids=["computing", "receiving"])
def test_a_hung_replica_holds_nobody_up_and_is_replaced(
    pool: Pool, inputs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "_CANCEL_SECONDS", 0.1)
    pids = stop(pool)
    for _ in pids:
        with pytest.raises(GoneError):
            pool.predict(inputs, None, gone)
    assert pool.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]]
    assert not set(pids) & set(pool.pids) and not any(map(exists, pids))


def test_a_service_without_any_replica_says_so_at_once(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(sys, "executable", "/bin/false")
        patched.setattr(pools, "_PAUSES", (0.0, 0.1))
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: all(one.has_ended for one in pool._all))
        with pytest.raises(RequestError, match="has no replica at the moment; try again") as caught:
            pool.predict(PAIR)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert "a replica of 'arithmetic' does not start: a replica ended at its start, with status 1" in caplog.text


def test_requests_wait_for_a_replica_whose_first_start_failed(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for round in "ab":
        (tmp_path / round).touch()
    script = tmp_path / "python"  # fails twice, as both starts do when memory is short
    script.write_text(
        f'#!/bin/sh\ncd {tmp_path}; rm a 2>&- && exit 1; rm b 2>&- && exit 1; cd -; exec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(pools, "_PAUSES", (0.0, 0.2, 60.0))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(script))
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: all(one.has_ended for one in pool._all))
        assert pool.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]]
        assert not list(tmp_path.glob("[ab]"))
        eventually(lambda: pool.look() or pool.ready == 2)


def test_what_hangs_at_its_start_is_ended_with_the_last_who_knows_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(arithmetic_model(tmp_path / "m.accelonnx"), 1)
    (pid,) = pool.pids
    monkeypatch.setattr(sys, "executable", hanging(tmp_path))
    pool.wanted = 2
    pool.look()
    starting = int(eventually((tmp_path / "pid").read_text))
    del pool
    eventually(lambda: not exists(pid) and not exists(starting))


def test_growth_that_hangs_is_given_up_when_nobody_wants_it(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def check() -> None:
        if over.is_set():
            gone()

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as threads:
        patched.setattr(sys, "executable", hanging(tmp_path))
        growth = threads.submit(pool.grow, 3, check)
        starting = int(eventually((tmp_path / "pid").read_text))
        assert pool.wanted == 3 and pool.predict(PAIR).outputs
        over.set()
        with pytest.raises(GoneError):
            growth.result(20)
    assert pool.wanted == pool.ready == 2 and not exists(starting)


def test_a_failure_to_grow_leaves_nothing_for_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of a pool end when nothing refers to it; a circle would keep them until some collection."""
    pool = pool_of(arithmetic_model(tmp_path / "m.accelonnx"), 1)
    (pid,) = pool.pids
    gc.disable()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/bin/false")
            with pytest.raises(DeploymentError, match="a replica ended at its start, with status 1"):
                pool.grow(2)
        assert pool.wanted == 1 and pool.pids == [pid] and pool.predict(PAIR).outputs
        del pool
        assert not exists(pid)
    finally:
        gc.enable()


def test_starts_that_fail_are_not_repeated_at_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def fails(*arguments: object) -> None:
        started.append(1)
        raise DeploymentError("it does not start")

    with monkeypatch.context() as patched:
        patched.setattr(pools, "_PAUSES", (0.0, 60.0))
        patched.setattr(pools, "Replica", fails)
        os.kill(pool.pids[0], signal.SIGKILL)
        eventually(lambda: pool.look() or (pool.ready == 1 and started and not pool._starting))
        for _ in range(100):
            pool.look()
        assert not pool._starting and len(started) == 1
        pool._not_before = 0.0  # the pause is over


def test_fewer_are_wanted_and_more_again(pool: Pool) -> None:
    first = pool.pids
    pool.wanted = 1
    eventually(lambda: pool.look() or sum(map(exists, first)) == 1)
    assert pool.ready == 1 and pool.predict(PAIR).outputs
    pool.grow(2)
    assert pool.ready == 2 and len(set(pool.pids) & set(first)) == 1


def test_signals_to_the_whole_group_are_left_to_the_server(pool: Pool) -> None:
    pids = pool.pids
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert pool.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]]
    assert pool.pids == pids and os.getsid(pids[0]) != os.getsid(0)


def test_a_fork_of_the_server_leaves_them_alone(pool: Pool) -> None:
    pids = pool.pids
    child = os.fork()
    if child == 0:
        try:
            pool.end()  # as at the end of a program
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert pool.predict(PAIR).outputs["sum:0"].tolist() == [[4.0, 7.0]] and pool.pids == pids


def test_replicas_end_with_their_server_also_those_that_start(tmp_path: Path) -> None:
    server = Server().start()
    server.add_model("m", pool_of(arithmetic_model(tmp_path / "m.accelonnx"), 1))
    pool = server.table.get("m").model
    (pid,) = pool.pids
    pool.wanted = 2
    pool.look()
    starting = next(thread for thread in threading.enumerate() if thread.name == "amlrealtimeai-replica")
    server.stop()
    assert not exists(pid)
    starting.join(20)
    assert pool.ready == 1 and pool._all[0].has_ended


FRONT = """
import sys, numpy as np
from pathlib import Path
from amlrealtimeai.serving.replicas.pool import Pool
pool = Pool(Path(sys.argv[1]), 1, 1, 1000)
print(pool.pids[0], flush=True)
while True:
    pool.predict({"x": np.ones(1, np.float32)})
"""


def test_a_killed_server_leaves_no_busy_replica_behind(tmp_path: Path) -> None:
    path = slow_model(tmp_path / "slow.accelonnx")
    front = subprocess.Popen([sys.executable, "-c", FRONT, str(path)], stdout=subprocess.PIPE, text=True)
    assert front.stdout is not None
    pid = int(front.stdout.readline())
    front.kill()
    front.communicate()
    eventually(lambda: not exists(pid), 10)
