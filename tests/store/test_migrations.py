"""Workspaces that earlier versions wrote are opened by this one. schema1.sql is a dump of one that commit 68329ae made.

In the dump, the certificate and the private key were replaced by words.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amlrealtimeai.core import AksCompute, ComputeTarget, Model, Webservice, Workspace
from amlrealtimeai.errors import InUseError
from amlrealtimeai.store import Store
from tests.serving.models import image_model

DUMP = Path(__file__).with_name("schema1.sql")
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
MEANS = "d5a2547350e3a964263aa44231ff10ed1daab7c07fe6e2120e640188df0bae29"


def shipped(folder: Path) -> Path:
    """The store as it was on the disk, with its two blobs."""
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "blobs" / "sha256" / ABC).write_bytes(b"abc")
    image_model(folder / "blobs" / "sha256" / MEANS)
    with sqlite3.connect(folder / "store.sqlite3") as connection:
        connection.executescript(DUMP.read_text())
    connection.close()
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    shipped(tmp_path / "home" / "workspaces" / "local" / "local" / "shipped")
    found = Workspace.get("shipped")
    yield found
    found.delete(delete_dependent_resources=True)


def test_a_workspace_of_the_first_schema_is_whole(workspace: Workspace, tmp_path: Path) -> None:
    assert (workspace.location, workspace.tags) == ("eastus", {"term": "3"})
    abc = Model(workspace, "abc", version=1)
    assert (abc.tags, abc.properties, abc.description) == ({"a": "1"}, {"p": "q"}, "three letters")
    assert Path(abc.download(tmp_path / "out")).read_bytes() == b"abc"
    assert sorted(model.id for model in Model.list(workspace)) == ["abc:1", "abc:2", "means:1"]
    assert Model.register(workspace, __file__, "abc").version == 3, "versions go on counting"

    cluster = ComputeTarget(workspace, "aks")
    assert isinstance(cluster, AksCompute)
    assert (cluster.agent_count, cluster.ssl_cname, cluster.certificate) == (2, "localhost", "a certificate")
    service = Webservice(workspace, "means-svc")
    assert service.state == "Stopped", "the process that ran it ended long ago"
    assert (service.get_keys(), service.tags) == (("the-first-key", "the-second-key"), {"t": "u"})
    assert [model.id for model in service.models] == ["means:1"]
    with pytest.raises(InUseError, match="'means-svc'"):
        Model(workspace, "means").delete()

    plain = ComputeTarget.create(workspace, "plain", AksCompute.provisioning_configuration())
    moved = Webservice.deploy_from_model(workspace, "means-svc", service.models, deployment_target=plain)
    moved.wait_for_deployment()
    assert moved.state == "Healthy"


def columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with sqlite3.connect(path) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [
                *connection.execute(f"PRAGMA table_info({table})"),
                *connection.execute(f"PRAGMA foreign_key_list({table})"),
            ]
            for table in tables
        }


def test_a_migrated_store_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    old, new = Store(shipped(tmp_path / "old")), Store(tmp_path / "new")
    assert columns(old.database.path) == columns(new.database.path)
    with old.database.read() as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 2
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_how_a_server_ran_is_concluded_from_what_was_known(tmp_path: Path) -> None:
    folder = shipped(tmp_path / "old")
    with sqlite3.connect(folder / "store.sqlite3") as connection:
        connection.execute("INSERT INTO servers VALUES ('ab', 'aks', 12, 11, '127.0.0.1', 5, '2026')")
    connection.close()
    rows = {row["id"]: row["run_in"] for row in Store(folder).select("servers")}
    assert rows == {"0d82741f8741125e": "notebook", "ab": "process"}


def test_several_processes_migrate_once(tmp_path: Path) -> None:
    folder = shipped(tmp_path / "old")
    code = "import sys; from amlrealtimeai.store import Store; print(len(Store(sys.argv[1]).select('models')))"
    opened = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[0] for process in opened] == ["3\n"] * 4


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from amlrealtimeai.store import schema

    folder = shipped(tmp_path / "old")
    before = columns(folder / "store.sqlite3")
    broken = {1: (*schema.MIGRATIONS[1], "ALTER TABLE absent ADD COLUMN x TEXT")}
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    with pytest.raises(sqlite3.OperationalError, match="absent"):
        Store(folder)
    assert columns(folder / "store.sqlite3") == before
    monkeypatch.undo()
    assert len(Store(folder).select("models")) == 3
