"""Compile the Python files of a layer, so that a container starts without compiling (its root is read-only)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from amlrealtimeai.containers.layer import Entry
from amlrealtimeai.errors import ContainerError

# A fresh interpreter per batch: what marshal shares between objects depends on what the process has seen before.
_COMPILER = """
import json, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for source, target, shown in json.load(sys.stdin):
    try:
        py_compile.compile(source, target, dfile=shown, doraise=True, invalidation_mode=mode)
    except (py_compile.PyCompileError, UnicodeDecodeError, ValueError):
        pass
"""
_BATCHES = 4


def compiled(entries: Iterable[Entry], work: Path) -> list[Entry]:
    """Byte code for every .py entry, as further entries; files that are not valid Python (templates) get none.

    `work` is an empty folder for the results. The code carries the path inside the image, never that of this machine.
    """
    sources = sorted((entry for entry in entries if entry.name.endswith(".py")), key=lambda entry: entry.name)
    jobs, results = [], []
    for index, entry in enumerate(sources):
        source = entry.data
        if not isinstance(source, Path):
            source = work / f"{index}.py"
            source.write_bytes(entry.open().read())
        place = PurePosixPath(entry.name)
        target = work / f"{index}.pyc"
        jobs.append((str(source), str(target), f"/{entry.name}"))
        name = place.parent / "__pycache__" / f"{place.stem}.{sys.implementation.cache_tag}.pyc"
        results.append(Entry(str(name), target))
    _run([jobs[start::_BATCHES] for start in range(_BATCHES)])
    return [entry for entry in results if isinstance(entry.data, Path) and entry.data.is_file()]


def _run(batches: list[list[tuple[str, str, str]]]) -> None:
    command = [sys.executable, "-s", "-S", "-P", "-W", "ignore", "-c", _COMPILER]
    environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ.get("PATH", "")}
    # Two at a time: as many as a small machine has cores.
    for start in range(0, len(batches), 2):
        running = []
        for batch in batches[start : start + 2]:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
            )
            running.append((process, json.dumps(batch)))
        for process, jobs in running:
            assert process.stdin is not None
            process.stdin.write(jobs)
            process.stdin.close()
        for process, _ in running:
            assert process.stderr is not None
            with process:  # closes its pipe
                message = process.stderr.read()
            if process.returncode:
                raise ContainerError(f"compiling Python files for the image failed: {message.strip()[-500:]}")
