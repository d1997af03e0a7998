import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amlrealtimeai.errors import InUseError, InvalidInputError, NotFoundError, StoreError
from amlrealtimeai.store import Store
from amlrealtimeai.store.locks import LifeLock
from amlrealtimeai.store.rows import set_secrets
from tests.store.helpers import leftovers, model_row, register

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of b"abc", from FIPS 180-2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "ws")


@pytest.fixture
def abc(tmp_path: Path) -> Path:
    path = tmp_path / "abc.bin"
    path.write_bytes(b"abc")
    return path


def test_equal_bytes_are_one_blob_and_versions_count_up(store: Store, abc: Path) -> None:
    assert [register(store, abc), register(store, abc), register(store, abc, "other")] == [1, 2, 1]
    assert [path.name for path in store.blobs.folder.iterdir()] == [ABC]
    assert store.blobs.read(ABC) == b"abc"
    assert [(row["name"], row["version"], row["size"]) for row in store.select("models")] == [
        ("m", 1, 3),
        ("m", 2, 3),
        ("other", 1, 3),
    ]


def test_a_deleted_version_is_never_given_again(store: Store, abc: Path) -> None:
    register(store, abc)
    store.delete("models", {"name": "m", "version": 1})
    assert register(store, abc) == 2


def test_the_last_user_takes_the_blob_along(store: Store, abc: Path) -> None:
    register(store, abc)
    register(store, abc)
    kept = store.kept(ABC, "abc.bin", is_folder=False)
    store.delete("models", {"name": "m", "version": 1})
    assert store.blobs.read(ABC) == b"abc" and kept.exists()
    store.delete("models", {"name": "m", "version": 2})
    assert leftovers(store) == [] and not kept.exists()
    with pytest.raises(NotFoundError, match=r"model 'm:2' does not exist"):
        store.delete("models", {"name": "m", "version": 2})


def test_a_damaged_blob_is_reported_and_repaired_by_registering_again(store: Store, abc: Path, tmp_path: Path) -> None:
    register(store, abc)
    blob = store.blobs.path(ABC)
    blob.chmod(0o600)
    blob.write_bytes(b"abd")
    with pytest.raises(StoreError, match=r"is damaged: .* expected ba7816bf8f01"):
        store.blobs.read(ABC)
    with pytest.raises(StoreError, match="is damaged"):
        store.export(ABC, tmp_path / "out.bin", is_folder=False)
    assert not list(tmp_path.glob("*out.bin*"))
    register(store, abc)
    store.export(ABC, tmp_path / "out.bin", is_folder=False)
    assert (tmp_path / "out.bin").read_bytes() == b"abc"
    blob.unlink()
    with pytest.raises(StoreError, match="is missing"):
        store.blobs.read(ABC)


def test_an_altered_kept_copy_is_made_again(store: Store, abc: Path) -> None:
    register(store, abc)
    kept = store.kept(ABC, "abc.bin", is_folder=False)
    kept.write_bytes(b"altered")
    assert store.kept(ABC, "abc.bin", is_folder=False).read_bytes() == b"abc"


def test_what_is_used_is_not_deleted(store: Store, abc: Path) -> None:
    register(store, abc)
    row = {"name": "img", "digest": "sha256:0", "seconds": 0.0, "log": "", "flavor": "accel", "description": None}
    with store.staged(abc) as staged:
        user = {**row, "model_name": "m", "model_version": 1, "tags": {}, "properties": {}}
        store.add_version("images", user, staged)
    expected = (
        r"model 'm:1' is used by the image 'img:1'. Delete that first: Image\(workspace, 'img', version=1\).delete"
    )
    with pytest.raises(InUseError, match=expected):
        store.delete("models", {"name": "m", "version": 1})
    store.delete("images", {"name": "img", "version": 1})
    store.delete("models", {"name": "m", "version": 1})


def test_a_failed_transaction_leaves_nothing(store: Store, abc: Path) -> None:
    with store.staged(abc) as staged, pytest.raises(sqlite3.IntegrityError):
        store.add_version("models", model_row("m", filename=None), staged)
    assert store.select("models") == []
    assert store.collect_garbage() == 1  # the blob was there before the row that failed
    assert register(store, abc) == 1


def test_garbage_of_living_makers_stays(store: Store, abc: Path) -> None:
    with store.staged(abc) as staged:
        assert store.collect_garbage() == 0
        assert Store(store.path) and staged.path.exists()
        store.add_version("models", model_row("m"), staged)
    assert leftovers(store) == []


SAME_ID = """
import sys
from pathlib import Path
from amlrealtimeai.store import Store, locks
store = Store(Path(sys.argv[1]))
with store.staged(Path(sys.argv[2])):
    print("staged", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs process id namespaces")
def test_what_a_container_is_writing_is_not_swept_from_outside(store: Store, abc: Path) -> None:
    """A process of another pid namespace (a container) has an id that nobody, or somebody else, has here."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", SAME_ID, str(store.path), str(abc)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stderr is not None
    if writer.stdout.readline() != "staged\n":
        pytest.skip(f"no process id namespaces here: {writer.stderr.read()[-200:]}")
    before = sorted(store.blobs.temporary.iterdir())
    assert len(before) == 2 and Store(store.path).collect_garbage() == 0
    assert sorted(store.blobs.temporary.iterdir()) == before
    writer.communicate()
    assert list(store.blobs.temporary.iterdir()) == []


def test_what_a_fork_of_the_writer_holds_does_not_keep_its_garbage(store: Store, abc: Path) -> None:
    code = SAME_ID.replace("    sys.stdin", "    import os, time\n    os.fork() or time.sleep(60)\n    sys.stdin")
    command = [sys.executable, "-c", code, str(store.path), str(abc)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "staged\n"
        time.sleep(0.2)
        writer.kill()
        writer.wait()
        assert Store(store.path) and list(store.blobs.temporary.iterdir()) == []
    finally:
        os.killpg(writer.pid, signal.SIGKILL)
        writer.communicate()


def test_what_a_dead_server_left_goes_when_the_store_is_opened(store: Store) -> None:
    store.insert("compute_targets", {"name": "aks", "type": "Aks", "settings": {}})
    living, dead, unlisted = "ab" * 8, "cd" * 8, "ef" * 8
    for id in (living, dead):
        row = {"id": id, "compute_target": "aks", "pid": os.getpid(), "owner": os.getpid(), "host": "h", "port": 1}
        store.insert("servers", row)
    lock = LifeLock(store.run / f"{living}.lock")
    for id in (living, dead, unlisted):
        for suffix in ("key", "crt", "json", "json.status", "port"):
            (store.run / f"{id}.{suffix}").write_text("x")
    (store.run / f"{dead}.lock").write_text("")
    (store.run / "notes.txt").write_text("somebody's own")
    Store(store.path)
    kept = {f"{living}.{suffix}" for suffix in ("key", "crt", "json", "json.status", "port", "lock")}
    assert {path.name for path in store.run.iterdir()} == kept | {"notes.txt"}
    assert [row["id"] for row in store.select("servers")] == [living]
    lock.release()


def test_a_deleted_workspace_is_not_found(store: Store) -> None:
    shutil.rmtree(store.path)
    for call in (lambda: store.select("models"), lambda: store.add_facts({"a": "b"})):
        with pytest.raises(NotFoundError, match=r"does not exist any more: the workspace was deleted\. Workspace\.cre"):
            call()
    assert not store.path.exists()


def test_names_are_unique_in_tables_without_versions(store: Store) -> None:
    row = {"name": "aks", "type": "Aks", "settings": {"agent_count": 1}}
    store.insert("compute_targets", row)
    with pytest.raises(InvalidInputError, match="compute target 'aks' exists already"):
        store.insert("compute_targets", row)
    assert store.find("compute_targets", name="aks") == {
        **row,
        "created": store.select("compute_targets")[0]["created"],
    }


def test_secrets_go_with_their_owner(store: Store) -> None:
    store.insert("compute_targets", {"name": "aks", "type": "Aks", "settings": {}})
    with store.database.write() as connection:
        set_secrets(connection, "compute_targets", "aks", {"key": "pem"})
    assert store.secrets("compute_targets", "aks") == {"key": "pem"}
    store.delete("compute_targets", {"name": "aks"})
    assert store.secrets("compute_targets", "aks") == {}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_only_the_owner_can_read(store: Store) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(store.path) == 0o700
    with store.database.write() as connection:
        connection.execute("INSERT INTO facts VALUES ('a', 'b')")
        files = sorted(store.path.glob("store.sqlite3*"))
        assert [(path.name, mode(path)) for path in files] == [
            ("store.sqlite3", 0o600),
            ("store.sqlite3-shm", 0o600),
            ("store.sqlite3-wal", 0o600),
        ]


def test_foreign_newer_and_broken_databases_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "newer")
    with sqlite3.connect(store.database.path) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreError, match=r"schema version 999; this amlrealtimeai reads up to 2\..*pip install --upgr"):
        Store(tmp_path / "newer")

    (tmp_path / "foreign").mkdir()
    with sqlite3.connect(tmp_path / "foreign" / "store.sqlite3") as connection:
        connection.execute("CREATE TABLE songs (title)")
    with pytest.raises(StoreError, match="is an SQLite file, but not a workspace's"):
        Store(tmp_path / "foreign")

    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "store.sqlite3").write_bytes(b"not a database, but long enough to be taken for one" * 50)
    with pytest.raises(StoreError, match="not a workspace's database, or it is damaged"):
        Store(tmp_path / "broken")


def test_a_file_in_place_of_the_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("")
    with pytest.raises(StoreError, match="is a file; expected a folder"):
        Store(tmp_path / "ws")
