"""A class on one machine: so many students run the same lesson at once, each in a kernel of its own.

    python -m benchmarks.classroom [--students 10] [--lesson 00_QuickStart.ipynb] [--account own]

account   own      each with a home folder of its own, as on a JupyterHub
          shared   all as one user, in one folder: names, ports and files could collide here

Memory is each kernel's with its servers, at its largest: PSS, which counts what processes share once. Exit status 1 if
a lesson failed.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient

from amlrealtimeai.lab.copies import FOLDER
from benchmarks import measuring

_NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
_SAMPLE_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=10)
    parser.add_argument("--lesson", default="00_QuickStart.ipynb")
    parser.add_argument("--account", choices=("own", "shared"), default="own")
    chosen = parser.parse_args()
    print(f"{measuring.machine()}\n")
    with tempfile.TemporaryDirectory() as name:
        homes = [Path(name) / (str(k) if chosen.account == "own" else "all") for k in range(chosen.students)]
        seconds, peaks, free, failures = lessons(homes, chosen.lesson)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(
        f"{chosen.students} students, {chosen.account} accounts, {chosen.lesson}: {len(failures)} failed; "
        f"{min(seconds):.0f} to {max(seconds):.0f} s; memory each, peak MiB: median {statistics.median(peaks):.0f}, "
        f"most {max(peaks):.0f}; the machine had {free / 2**20:.0f} MiB left"
    )
    sys.exit(bool(failures))


def lessons(homes: list[Path], lesson: str) -> tuple[list[float], list[float], int, list[str]]:
    """Seconds and peak MiB of each student, the least memory available meanwhile in bytes, and what failed."""
    peaks: dict[int, float] = {}
    free = psutil.virtual_memory().available
    for home in set(homes):
        (home / FOLDER).mkdir(parents=True)
        shutil.copyfile(_NOTEBOOKS / lesson, home / FOLDER / lesson)
    with ProcessPoolExecutor(len(homes), mp_context=get_context("spawn")) as pool:
        work = [pool.submit(student, home, lesson) for home in homes]
        while not all(one.done() for one in work):
            for process in psutil.Process().children():
                peaks[process.pid] = max(peaks.get(process.pid, 0.0), family(process) / 2**20)
            free = min(free, psutil.virtual_memory().available)
            time.sleep(_SAMPLE_SECONDS)
        found = [one.result() for one in work]
    used = [peak for peak in peaks.values() if peak]
    return [seconds for seconds, _ in found], used, free, [error for _, error in found if error]


def student(home: Path, lesson: str) -> tuple[float, str]:
    """Run the whole lesson in a fresh kernel: seconds, and what went wrong."""
    folder = home / FOLDER
    client = NotebookClient(
        nbformat.read(folder / lesson, as_version=4),
        timeout=900,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    begin = time.perf_counter()
    error = ""
    try:
        client.execute(env={**os.environ, "HOME": str(home)})
    except Exception as caught:
        error = f"{home.name}: {caught}"
    return time.perf_counter() - begin, error


def family(process: psutil.Process) -> int:
    """PSS in bytes of what `process` started: the kernel, and the servers that the lesson started from it."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += child.memory_full_info().pss
    return total


if __name__ == "__main__":
    main()
