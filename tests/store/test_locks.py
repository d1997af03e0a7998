import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from amlrealtimeai.store.locks import LifeLock, holders, if_free, is_held, make_private
from tests.serving.processes import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")

HOLD = """
import sys
from pathlib import Path
from amlrealtimeai.store.locks import LifeLock
lock = LifeLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM facts").fetchall()
connection.close()
"""


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert is_held(path) is False
    lock = LifeLock(path)
    assert is_held(path) is True
    lock.release()
    assert is_held(path) is False
    lock.release()


def test_the_system_lets_go_when_the_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert is_held(path) is True
    holder.kill()
    holder.communicate()
    assert is_held(path) is False


def test_a_forked_child_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = HOLD.replace("print", "import os\nif os.fork() == 0:\n    import time; time.sleep(60)\nprint")
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert is_held(path) is True
        holder.kill()
        holder.wait()  # its child lives on, and may have had no turn yet
        eventually(lambda: is_held(path) is False)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.communicate()


def test_a_lock_that_is_swept_while_it_is_taken_is_made_again(tmp_path: Path) -> None:
    path, locks = tmp_path / "lock", []
    first = LifeLock(path)
    second = threading.Thread(target=lambda: locks.append(LifeLock(path)))
    second.start()
    path.unlink()  # what a sweep does while it holds the lock
    first.release()
    second.join(10)
    assert path.exists() and is_held(path) is True
    locks[0].release()
    with if_free(path) as free:
        assert free and is_held(path) is True
    assert is_held(path) is False


def test_who_has_a_lock_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holders(path) == []
    lock = LifeLock(path)
    assert holders(path) == [os.getpid()]
    lock.release()
    assert holders(path) == []


def test_a_child_goes_on_holding_what_it_inherited(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = LifeLock(path)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,)
    )
    lock.release()
    assert is_held(path) is True
    child.communicate()
    assert is_held(path) is False


def test_a_file_that_is_there_keeps_the_locks_that_sqlite_has_on_it(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    make_private(path)
    assert path.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE facts (name TEXT)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO facts VALUES ('a')")
    make_private(path)
    # The last one to close a database removes its log: this one must see that it is not the last.
    subprocess.run([sys.executable, "-c", READ, str(path)], check=True)
    connection.execute("COMMIT")
    connection.close()
    assert sqlite3.connect(path).execute("SELECT name FROM facts").fetchall() == [("a",)]
