"""A process that registers is killed with SIGKILL; whatever is listed afterwards has to be whole."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amlrealtimeai.store import Store
from tests.store.helpers import assert_whole, leftovers, register

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def register_and_delete(store: Store, path: Path, name: str) -> None:
    version = register(store, path, name)
    register(store, path, f"kept-{name}")
    store.delete("models", {"name": name, "version": version})


def die_at_line(countdown: int) -> None:
    """Kill this process when it starts its `countdown`-th line of the store's code."""

    def trace(frame, event, _):  # type: ignore[no-untyped-def]
        nonlocal countdown
        if "amlrealtimeai" not in frame.f_code.co_filename:
            return None
        if event == "line":
            countdown -= 1
            if countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def kill_at_every_line(root: Path) -> int:
    store, source = Store(root / "ws"), root / "source"
    for line in range(1, 3000):
        source.write_bytes(os.urandom(3000))
        child = os.fork()
        if child == 0:
            die_at_line(line)
            register_and_delete(store, source, "m")
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            assert_whole_and_empty(store)
            return line
        assert_whole_and_empty(store)
    raise AssertionError("the child never came to its end")


def kill_at_random_times(root: Path, rounds: int, seed: int) -> int:
    generator = random.Random(seed)
    store, source, done = Store(root / "ws"), root / "source", 0
    source.write_bytes(generator.randbytes(3_000_000))
    for _ in range(rounds):
        started = time.monotonic()
        register(store, source, "measured")
        usual = time.monotonic() - started  # however busy the machine is
        child = os.fork()
        if child == 0:
            for i in range(1000):
                register(store, source, f"m{i % 3}")
        time.sleep(generator.uniform(0.0, 3.0 * usual))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        # A new length for each round: a half-written blob would show.
        source.write_bytes(generator.randbytes(generator.randint(1, 3_000_000)))
        assert_whole(store)
        done = len(store.select("models")) - len(store.select("models", name="measured"))
    store.collect_garbage()
    assert leftovers(store) == []
    return done


def assert_whole_and_empty(store: Store) -> None:
    """All that is listed is whole, and opening the store again removes what the dead left behind. Empties the store."""
    rows = store.select("models")
    for row in rows:
        store.blobs.verify(row["blob"])
    assert leftovers(Store(store.path)) == []
    for row in rows:
        store.delete("models", {"name": row["name"], "version": row["version"]})


def run(function: str, root: Path, *arguments: int) -> int:
    """Run a function of this module in a process without threads, where fork is safe."""
    call = f"test_kill.{function}(Path({str(root)!r}), *{arguments})"
    code = f"from pathlib import Path; from tests.store import test_kill; print({call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def test_killed_at_every_line_of_register_and_delete(tmp_path: Path) -> None:
    assert run("kill_at_every_line", tmp_path) > 100


def test_killed_at_random_times_while_registering(tmp_path: Path) -> None:
    assert run("kill_at_random_times", tmp_path, 60, 1) > 10
