"""`python -m amlrealtimeai.serving` as a child process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Service:
    """A running child; after `finish`, `seconds` is the CPU time that it took."""

    def __init__(self, *arguments: object) -> None:
        self._before = os.times()
        command = [sys.executable, "-m", "amlrealtimeai.serving", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()
        self.port = int(self.line.rpartition(":")[2]) if self.line else 0

    def finish(self, timeout: float = 30) -> tuple[int, str]:
        """Exit status and everything on stderr."""
        _, errors = self.process.communicate(timeout=timeout)
        after = os.times()  # of all children that have ended; meanwhile no other one does
        self.seconds = sum(after[2:4]) - sum(self._before[2:4])
        return self.process.returncode, errors

    def terminate(self) -> tuple[int, str]:
        self.process.terminate()
        return self.finish()


@contextmanager
def service(*arguments: Any) -> Iterator[Service]:
    running = Service(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


class Hanging:
    """While `on`, what starts as Python hangs; `pids` are of those that do."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._mark = folder / "hang"
        script = folder / "python"
        script.write_text(
            f'#!/bin/sh\n[ -e {self._mark} ] || exec {sys.executable} "$@"\ntouch {folder}/$$.hangs\nexec sleep 1000\n'
        )
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    def __enter__(self) -> "Hanging":
        self._mark.touch()
        return self

    def __exit__(self, *_: object) -> None:
        self._mark.unlink()

    @property
    def pids(self) -> list[int]:
        found = [int(path.stem) for path in self._folder.glob("*.hangs")]
        return [pid for pid in found if Path(f"/proc/{pid}").exists()]


def eventually(check: Any, seconds: float = 20) -> Any:
    """The first true value of check(); the last exception or value in the failure."""
    end = time.monotonic() + seconds
    while True:
        value: Any = None
        try:
            value = check()
        except Exception as error:
            value, failure = None, error
        else:
            failure = None
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {failure or value!r}")
        time.sleep(0.05)
