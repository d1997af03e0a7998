"""A store whose folder is taken away while others use it, and one that is made anew in its place."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from amlrealtimeai.errors import NotFoundError, WorkspaceNotFoundError
from amlrealtimeai.store import Store
from tests.store.helpers import assert_whole, register

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no folder with an open file")

HOLD_ALONE = """
import sys
from pathlib import Path
from amlrealtimeai.store import locks
with locks.workspace(Path(sys.argv[1]), shared=False):
    print("held", flush=True)
    sys.stdin.read()
"""
FORK = """
import os, sys, time
from pathlib import Path
from amlrealtimeai.store import Store
with Store(Path(sys.argv[1])).database.read():
    if os.fork() == 0:
        time.sleep(60)
print("forked", flush=True)
"""


def test_looking_for_a_store_makes_none(tmp_path: Path) -> None:
    assert Store.opened(tmp_path / "absent") is None
    (tmp_path / "empty").mkdir()
    assert Store.opened(tmp_path / "empty") is None
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_who_knew_the_store_touches_none_that_came_in_its_place(tmp_path: Path) -> None:
    old, source = Store(tmp_path / "ws"), tmp_path / "source"
    source.write_bytes(b"abc")
    version = register(old, source)
    assert Store(old.path).remove(tmp_path / "doomed")
    for _ in range(2):  # gone; then another one has its place
        for act in (
            lambda: register(old, source),
            lambda: old.delete("models", {"name": "m", "version": version}),
            lambda: old.facts(),
            lambda: old.remove(tmp_path / "doomed too"),
            lambda: old.add_facts({"a": "b"}),
        ):
            with pytest.raises(WorkspaceNotFoundError, match="ws does not exist any more: the workspace was deleted"):
                act()
        new = Store(old.path)
        register(new, source, "mine")
    assert [row["name"] for row in new.select("models")] == ["mine", "mine"]
    assert new.facts().keys() == {"id"} and not (tmp_path / "doomed too").exists()
    assert_whole(new)


@pytest.mark.parametrize("act", ["logs", "run", "staged", "temporary", "kept", "garbage"])
def test_what_needs_the_folder_says_that_the_workspace_was_deleted(tmp_path: Path, act: str) -> None:
    store, source = Store(tmp_path / "ws"), tmp_path / "source"
    source.write_bytes(b"abc")
    register(store, source)
    blob = store.select("models")[0]["blob"]
    store.remove(tmp_path / "doomed")
    with pytest.raises(WorkspaceNotFoundError, match="the workspace was deleted"):
        if act == "staged":
            with store.staged(source):
                pass
        elif act == "temporary":
            with store.blobs.temporary_folder():
                pass
        elif act == "kept":
            store.kept(blob, "source", is_folder=False)
        elif act == "garbage":
            store.collect_garbage()
        else:
            getattr(store, act)
    assert not store.path.exists()


def test_removal_waits_for_a_transaction_and_then_lets_nobody_in(tmp_path: Path) -> None:
    store, entered, go_on = Store(tmp_path / "ws"), threading.Event(), threading.Event()

    def write() -> None:
        with store.database.write() as connection:
            entered.set()
            go_on.wait(60)
            connection.execute("INSERT INTO facts VALUES ('a', 'b')")

    writer = threading.Thread(target=write)
    writer.start()
    entered.wait(60)
    remover = threading.Thread(target=lambda: Store(store.path).remove(tmp_path / "doomed"))
    remover.start()
    assert store.path.is_dir()
    go_on.set()
    writer.join()
    remover.join()
    assert not store.path.exists()
    assert Store(tmp_path / "doomed").facts()["a"] == "b"


def test_removal_comes_to_its_turn_among_those_who_never_stop(tmp_path: Path) -> None:
    store, done = Store(tmp_path / "ws"), threading.Event()

    def read() -> None:
        with suppress(NotFoundError):
            while not done.is_set():
                with store.database.read():
                    store.facts()  # a transaction within one

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    try:
        assert store.remove(tmp_path / "doomed")
    finally:
        done.set()
        for reader in readers:
            reader.join()


def test_removal_is_not_kept_waiting_by_a_killed_remover_or_a_forked_child(tmp_path: Path) -> None:
    store = Store(tmp_path / "ws")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_ALONE, str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.communicate()
    parent = subprocess.Popen(
        [sys.executable, "-c", FORK, str(store.path)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdout is not None and parent.stdout.readline() == b"forked\n"
        assert store.remove(tmp_path / "doomed")
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_a_store_with_services_is_not_removed(tmp_path: Path) -> None:
    store, source = Store(tmp_path / "ws"), tmp_path / "source"
    source.write_bytes(b"abc")
    register(store, source)
    store.insert("compute_targets", {"name": "aks", "type": "AKS", "settings": {}})
    service = {"name": "svc", "compute_target": "aks", "model_name": "m", "model_version": 1}
    store.insert("webservices", {**service, "settings": {}, "tags": {}, "properties": {}, "updated": "now"})
    assert not store.remove(tmp_path / "doomed")
    assert [row["name"] for row in store.select("webservices")] == ["svc"]


def test_work_in_a_temporary_folder_ends_with_the_workspace(tmp_path: Path) -> None:
    store = Store(tmp_path / "ws")
    with (
        pytest.raises(WorkspaceNotFoundError, match="the workspace was deleted"),
        store.blobs.temporary_folder() as folder,
    ):
        store.remove(tmp_path / "doomed")
        Store(store.path)  # another one in its place
        (folder / "result").write_bytes(b"abc")
    with pytest.raises(ZeroDivisionError), Store(tmp_path / "ws").blobs.temporary_folder():
        1 / 0  # noqa: B018
