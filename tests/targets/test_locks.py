import subprocess
import sys
from pathlib import Path

import pytest

from amlrealtimeai.targets.locks import LifeLock, is_held

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")

HOLD = """
import sys
from pathlib import Path
from amlrealtimeai.targets.locks import LifeLock
lock = LifeLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
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
