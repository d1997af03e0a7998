"""The process beside a container: it writes the log, notes how the container ends, and starts it again."""

import subprocess
from pathlib import Path
from typing import IO

from amlrealtimeai.containers.runc import store

_LARGEST_LOG = 10 << 20  # bytes; so many again are in log.1


def supervise(folder: Path) -> None:
    """Run a container to its end; as long as it fails, again, as often as container.json allows."""
    most = store.read(folder)["RestartPolicy"]
    with store.kept(folder):
        state = {"ExitCode": 0, "RestartCount": 0}
        while True:
            store.write(folder / "state.json", state)
            state["ExitCode"] = _run(folder)
            store.runc("delete", "--force", folder.name)
            done = not state["ExitCode"] or (folder / "stop").exists() or store.start_problem(folder)
            if done or state["RestartCount"] >= most:
                break
            state["RestartCount"] += 1
        store.write(folder / "state.json", state)


def _run(folder: Path) -> int:
    own = ["--root", str(store.root() / "state"), "--log", str(folder / "runc.log"), "--log-format", "json"]
    command = ["runc", *own, "run", "--bundle", str(folder), folder.name]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    _write_log(process.stdout, folder / "log")
    return process.wait()


def _write_log(lines: IO[bytes], path: Path) -> None:
    log = path.open("ab")
    for line in lines:
        if log.tell() > _LARGEST_LOG:
            log.close()
            path.replace(path.with_name("log.1"))
            log = path.open("ab")
        log.write(line)
        log.flush()
    log.close()
