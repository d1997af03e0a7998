"""Real full disks: a small tmpfs where mounting is allowed, and a file-size limit everywhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amlrealtimeai.errors import StoreError
from amlrealtimeai.store import Store
from tests.store.helpers import assert_whole, leftovers, model_row, register

LIMITED = """
import resource, sys
from pathlib import Path
from amlrealtimeai.errors import StoreError
from amlrealtimeai.store import Store
from tests.store.helpers import leftovers, register
root = Path(sys.argv[1])
store = Store(root / "ws")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    register(store, root / "big")
except StoreError as problem:
    print(problem)
assert store.select("models") == [] and leftovers(store) == []
assert register(store, root / "small") == 1
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_names_the_place_and_the_need(tmp_path: Path, small_disk: Path) -> None:
    store = Store(small_disk / "ws")
    big, small = tmp_path / "big", tmp_path / "small"
    big.write_bytes(os.urandom(2_000_000))
    small.write_bytes(os.urandom(1000))
    with pytest.raises(
        StoreError, match=rf"no room in {store.blobs.folder}: 2,000,000 bytes are to be written, .* free"
    ):
        register(store, big)
    assert store.select("models") == [] and leftovers(store) == []
    assert register(store, small) == 1
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(os.urandom(900_000))
    (folder / "b").write_bytes(os.urandom(900_000))
    with pytest.raises(StoreError, match="1,800,000 bytes are to be written"):
        register(store, folder)
    assert leftovers(store) == []
    assert_whole(store)


def test_a_disk_that_fills_between_bytes_and_row(tmp_path: Path, small_disk: Path) -> None:
    store = Store(small_disk / "ws")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1000))
    refused = 0
    with store.staged(source) as staged:
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as out, pytest.raises(OSError):
            while True:
                out.write(b"x" * 4096)
        try:
            store.add_version("models", model_row("m"), staged)
        except StoreError as problem:
            assert str(small_disk) in str(problem)
            refused = 1
    assert refused == 1
    filler.unlink()
    assert store.select("models") == []
    store.collect_garbage()
    assert leftovers(store) == []
    assert register(store, source) == 1
    assert_whole(store)


def test_a_full_disk_while_exporting_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    store, big = Store(tmp_path / "ws"), tmp_path / "big"
    big.write_bytes(os.urandom(2_000_000))
    register(store, big)
    with pytest.raises(StoreError, match=rf"no room in {small_disk}: 2,000,000 bytes"):
        store.export(store.select("models")[0]["blob"], small_disk / "out", is_folder=False)
    assert list(small_disk.iterdir()) == []


def test_a_file_size_limit_is_a_full_disk_too(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="POSIX limits")
    (tmp_path / "big").write_bytes(os.urandom(2_000_000))
    (tmp_path / "small").write_bytes(os.urandom(1000))
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2,000,000 bytes are to be written" in done.stdout


def test_a_full_disk_is_opened_and_what_is_deleted_makes_room(tmp_path: Path, small_disk: Path) -> None:
    store, source = Store(small_disk / "ws"), tmp_path / "source"
    for size in (200_000, 100_000):
        source.write_bytes(os.urandom(size))
        register(store, source)
    with (small_disk / "filler").open("wb", buffering=0) as out:
        for chunk in (4096, 1):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    out.write(b"x" * chunk)
    opened = Store(store.path)
    assert [row["size"] for row in opened.select("models")] == [200_000, 100_000]
    opened.delete("models", {"name": "m", "version": 1})
    assert shutil.disk_usage(small_disk).free > 150_000 and leftovers(opened) == []
    source.write_bytes(os.urandom(10_000))
    assert register(store, source) == 3
    assert [row["version"] for row in store.select("models")] == [2, 3]
    assert store.remove(small_disk / "doomed")
