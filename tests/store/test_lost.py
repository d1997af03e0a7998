"""Databases that were lost, cut off, garbled or are somebody else's, and file systems without locks."""

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, StoreError
from amlrealtimeai.store import Store
from tests.store.helpers import register

NO_LOCKS = "#include <errno.h>\nint flock(int fd, int how) { errno = ENOLCK; return -1; }\n"
OPEN = "import sys; from amlrealtimeai.store import Store; Store(sys.argv[1])"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two models that nobody has open."""
    store = Store(tmp_path / "ws")
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        register(store, tmp_path / name, name)
    return store.path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "lose",
    [Path.unlink, lambda file: file.write_bytes(b""), lambda file: sqlite3.connect(file).executescript("VACUUM;")],
    ids=["deleted", "emptied", "without a table"],
)
def test_the_bytes_of_a_lost_database_are_no_garbage(folder: Path, lose: Callable[[Path], object]) -> None:
    database = folder / "store.sqlite3"
    backup, blobs = database.read_bytes(), bytes_of(folder / "blobs")
    database.unlink()
    database.touch()
    lose(database)
    for _ in range(2):  # the first must not make it look like a new one
        with pytest.raises(StoreError, match=r"store.sqlite3 is empty or was lost, but 2 models and images are in"):
            Store(folder)
    assert bytes_of(folder / "blobs") == blobs
    for path in folder.glob("store.sqlite3*"):
        path.unlink()
    database.write_bytes(backup)
    assert [row["name"] for row in Store(folder).select("models")] == ["one", "two"]


@pytest.mark.parametrize(
    "script",
    ["PRAGMA user_version = 999", "PRAGMA application_id = 7; CREATE TABLE songs (title); DROP TABLE secrets"],
    ids=["newer", "foreign"],
)
def test_what_is_not_ours_is_not_touched(folder: Path, script: str) -> None:
    connection = sqlite3.connect(folder / "store.sqlite3")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.executescript(script)
    connection.close()
    (folder / "tmp").rmdir()
    before = bytes_of(folder)
    with pytest.raises(StoreError, match=r"schema version 999|not a workspace's"):
        Store(folder)
    assert bytes_of(folder) == before and not (folder / "tmp").exists()


def test_a_garbled_database_is_an_error_and_loses_no_bytes(folder: Path, tmp_path: Path) -> None:
    whole, source = (folder / "store.sqlite3").read_bytes(), random.Random(0)
    cut = [whole[:size] for size in (1, 16, 99, 100, 4095, 4096, len(whole) // 2, len(whole) - 1)]
    flipped = []
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(source.choice((1, 20))):
            data[source.randrange(source.choice((200, len(data))))] = source.randrange(256)
        flipped.append(bytes(data))
    for data in (*cut, *flipped, bytes(len(whole))):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / "store.sqlite3").write_bytes(data)
        try:
            store = Store(copy)
            store.select("models")
            store.collect_garbage()
        except AmlRealtimeAiError:
            pass
        assert bytes_of(copy / "blobs") == bytes_of(folder / "blobs")
        shutil.rmtree(copy)


@pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("cc"), reason="replaces a C function")
def test_a_file_system_without_locks_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.c").write_text(NO_LOCKS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "no.so", tmp_path / "no.c"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path / "ws")],
        env={"LD_PRELOAD": str(tmp_path / "no.so"), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"the file system of {tmp_path / 'ws'} cannot lock files (No locks available)" in done.stderr
    assert not (tmp_path / "ws" / "store.sqlite3").exists()


@pytest.mark.parametrize(
    "row", [{"name": "\ud800"}, {"description": "a\udfff"}, {"framework": b"x"}, {"parent_id": object()}]
)
def test_values_without_a_form_in_the_database_are_refused(folder: Path, tmp_path: Path, row: dict) -> None:
    store = Store(folder)
    with pytest.raises(InvalidInputError, match="expected a text of Unicode or a number of 64 bits"):
        register(store, tmp_path / "one", **{"name": "three", **row})
    assert len(store.select("models")) == 2


def test_numbers_that_no_version_can_have_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected a text of Unicode or a number of 64 bits"):
        Store(folder).find("models", name="one", version=2**63)
