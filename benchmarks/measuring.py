"""How it is measured: in turns, after a pause, with the machine named; memory in a process of its own."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WARM_UP = 3
PAUSE_SECONDS = 0.02
PAUSE_NOTE = (
    f"Engines take turns in one process; each timed call comes after a pause of {PAUSE_SECONDS * 1e3:.0f} ms, so that "
    "the threads of the engine before it have stopped spinning and every engine starts from sleep."
)


Run = Callable[[np.ndarray], object]


def in_turns(runs: Mapping[str, tuple[Run, np.ndarray]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each (function, its argument), `rounds` of each; a slow moment of the machine meets all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP + rounds):
        for name, (run, image) in runs.items():
            time.sleep(PAUSE_SECONDS)
            begin = time.perf_counter()
            run(image)
            if turn >= WARM_UP:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: np.array(values) for name, values in times.items()}


def in_a_row(run: Run, image: np.ndarray, rounds: int) -> np.ndarray:
    """Milliseconds of `rounds` calls without a pause: caches and threads as under load."""
    times = []
    for turn in range(WARM_UP + rounds):
        begin = time.perf_counter()
        run(image)
        if turn >= WARM_UP:
            times.append((time.perf_counter() - begin) * 1e3)
    return np.array(times)


def resident() -> float:
    """MiB of this process that are in memory; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


@dataclass(frozen=True)
class Memory:
    """A fresh process: seconds to load the engine, MiB after two runs, and MiB before (Python and NumPy)."""

    load_seconds: float
    resident: float
    before: float


def memory(folder: Path, network: str, engine: str, threads: int) -> Memory | str:
    """What `engine` takes in a process that holds nothing else, or how it failed there (some peers crash)."""
    command = [sys.executable, "-m", "benchmarks.engines", str(folder), network, engine, str(threads)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode < 0:
        return f"died of {signal.Signals(-found.returncode).name}"
    if found.returncode:
        return (found.stderr.strip().splitlines() or ["failed"])[-1][:300]
    return Memory(*map(float, found.stdout.split()[-3:]))


def machine() -> str:
    """The processor, its cores, the kernel's instruction set and the peers' versions."""
    from importlib.metadata import PackageNotFoundError, version

    from amlrealtimeai import npu

    versions = []
    for package in ("onnxruntime", "openvino"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    system = f"{platform.system()} {platform.machine()}"
    return f"{cpu_name()}, {os.cpu_count()} CPUs, {system}; kernel {npu.kernel_info()['isa']}; {', '.join(versions)}"


def cpu_name() -> str:
    """The processor's name, with model numbers where a virtual machine hides it."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, value in fields.items()}
    name = values.get("model name", platform.machine())
    family = [values[key] for key in ("cpu family", "model", "stepping") if key in values]
    return f"{name} (family {'/'.join(family)})" if family else name


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is flushed left."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    rule = [("-" * widths[0]), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
             for row in [headings, rule, *rows]]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
