import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from amlrealtimeai.store import Store
from amlrealtimeai.store.rows import now
from tests.store.helpers import assert_whole, leftovers, model_row, register

WRITER = """
import sys, time
from pathlib import Path
from amlrealtimeai.store import Store
from tests.store.helpers import register
root, me, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
store = Store(root / "ws")           # all of them create the database at the same moment
source = root / f"source-{me}"
for i in range(25):
    source.write_bytes(f"{me} {i}".encode() * 1000)
    register(store, source, "shared", description=f"{me} {i}")
    register(store, root / "same", "same")
    if i % 5 == 0:
        store.delete("models", {"name": "gone", "version": register(store, source, "gone")})
        store.collect_garbage()
"""


def test_four_processes_lose_nothing_and_count_without_gaps(tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"same for all" * 1000)
    start = time.time() + 1.0
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(me), str(start)], stderr=subprocess.PIPE)
        for me in range(4)
    ]
    for writer in writers:
        errors = writer.communicate(timeout=100)[1]
        assert writer.returncode == 0, errors.decode()[-2000:]
    store = Store(tmp_path / "ws")
    assert_whole(store)
    shared = store.select("models", name="shared")
    assert [row["version"] for row in shared] == list(range(1, 101))
    assert sorted(row["description"] for row in shared) == sorted(f"{me} {i}" for me in range(4) for i in range(25))
    for row in shared:
        me, i = row["description"].split()
        assert store.blobs.read(row["blob"]) == f"{me} {i}".encode() * 1000
    assert len(store.select("models", name="same")) == 100
    assert leftovers(store) == []


def test_threads_share_one_store_object(tmp_path: Path) -> None:
    store, source = Store(tmp_path / "ws"), tmp_path / "source"
    source.write_bytes(b"abc")
    threads = [threading.Thread(target=lambda: [register(store, source) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_whole(store)
    assert len(store.select("models")) == 40


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = Store(tmp_path / "ws")
    with store.database.write():
        assert store.select("models") == []


def test_changes_computed_from_a_row_are_not_lost(tmp_path: Path) -> None:
    store, source = Store(tmp_path / "ws"), tmp_path / "source"
    source.write_bytes(b"abc")
    register(store, source)
    key = {"name": "m", "version": 1}

    def with_tag(tag: str, row: dict[str, Any]) -> dict[str, Any]:
        return {"tags": {**row["tags"], tag: "x"}}

    def tag(number: int) -> None:
        for i in range(10):
            store.change("models", key, partial(with_tag, f"{number}.{i}"))

    threads = [threading.Thread(target=tag, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.select("models")[0]["tags"]) == 40


def test_garbage_collection_waits_for_a_writer_between_bytes_and_row(tmp_path: Path) -> None:
    store, source = Store(tmp_path / "ws"), tmp_path / "source"
    source.write_bytes(b"abc")
    collector = threading.Thread(target=store.collect_garbage)
    with store.staged(source) as staged, store.database.write() as connection:
        store.blobs.commit(staged)
        collector.start()
        collector.join(0.5)
        row = {**model_row("m"), "version": 1, "blob": staged.digest, "size": 3, "created": now()}
        row |= {"tags": "{}", "properties": "{}"}
        connection.execute(
            f"INSERT INTO models ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
        )
    collector.join()
    assert store.blobs.read(store.select("models")[0]["blob"]) == b"abc"


def test_many_who_open_a_new_folder_at_once_all_get_it(tmp_path: Path) -> None:
    opened: list[Store] = []

    def open_store(start: threading.Barrier, folder: Path) -> None:
        start.wait()
        opened.append(Store(folder))

    for number in range(40):
        start = threading.Barrier(4)
        threads = [threading.Thread(target=open_store, args=(start, tmp_path / str(number))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(opened) == 160
