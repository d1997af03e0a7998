"""Latency beside a busy neighbour: ResNet-50 on every CPU while another process holds one of them.

    python -m benchmarks.load [--threads N] [--rounds 20] [--phases 5] [--format bw_cnn]

Quiet and busy phases take turns, so that the machine's other load meets both. The busy neighbour is a loop that never
sleeps, pinned to the first CPU. Target: a median at most 2.2 times the quiet one; exit status 1 where it is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from amlrealtimeai import npu
from benchmarks import engines, measuring

TARGET = 2.2
_BUSY = "import os\nos.sched_setaffinity(0, {cpu})\nprint('busy', flush=True)\nwhile True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=npu.kernel_info()["threads"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--format", default="bw_cnn", choices=list(npu.formats))
    chosen = parser.parse_args()
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("expected a system that can pin a process to a CPU (Linux)")
    print(f"{measuring.machine()}; ResNet-50, {chosen.threads} threads\n\n{measuring.PAUSE_NOTE}\n")
    with tempfile.TemporaryDirectory() as name:
        engines.prepare("resnet50", Path(name), [chosen.format])
        quiet, busy = measure(Path(name), chosen.format, chosen.threads, chosen.rounds, chosen.phases)
    rows = []
    for engine, values in quiet.items():
        figures = [float(f(v)) for v in (values, busy[engine]) for f in (np.median, _p95)]
        rows.append([engine, *(f"{figure:.2f}" for figure in figures), f"{figures[2] / figures[0]:.2f}"])
    print(measuring.table(["engine", "quiet ms", "p95", "busy ms", "p95", "busy / quiet"], rows))
    ours = f"npu {chosen.format}"
    ratio = np.median(busy[ours]) / np.median(quiet[ours])
    print(f"\n{ours}: {ratio:.2f} times the quiet median; the target is {TARGET}")
    sys.exit(1 if ratio > TARGET else 0)


def measure(
    folder: Path, fmt: str, threads: int, rounds: int, phases: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Milliseconds by engine, of all quiet phases and of all busy ones."""
    image = np.load(folder / "resnet50.npy")
    names = [f"npu {fmt}", *engines.peers()]
    loaded = {name: engines.load(folder, "resnet50", name, threads) for name in names}
    runs = {name: (run, image) for name, run in loaded.items()}
    found: tuple[list, list] = ([], [])
    for _ in range(phases):
        found[0].append(measuring.in_turns(runs, rounds))
        with busy_neighbour():
            found[1].append(measuring.in_turns(runs, rounds))
    quiet, busy = ({name: np.concatenate([part[name] for part in parts]) for name in names} for parts in found)
    return quiet, busy


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """A process that never sleeps on the first CPU that this one may use."""
    script = _BUSY.format(cpu={min(os.sched_getaffinity(0))})
    neighbour = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert neighbour.stdout is not None
    neighbour.stdout.readline()
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def _p95(values: np.ndarray) -> float:
    return float(np.percentile(values, 95))


if __name__ == "__main__":
    main()
