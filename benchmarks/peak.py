"""How much of the CPU's dot-product peak the native kernel reaches, network by network and instruction set by set.

    python -m benchmarks.peak [--networks resnet50 ...] [--formats bw_cnn msfp16] [--threads 1] [--rounds 20]

The peak is measured in the same minute: a loop of dot-product instructions on registers (peak.cpp, built by ziglang),
the best of some bursts, to which the best call is compared. Everything a network does counts as time. Calls are made
"in turns", each after a pause and the other instruction sets, so that caches are cold and threads asleep, as between
the requests of one client; and "in a row", as under load.
"""

import argparse
import ctypes
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from amlrealtimeai import npu
from benchmarks import engines, measuring

_BURSTS = 12
_SECONDS = 0.03
_ISAS = ("amx", "avx512vnni", "avxvnni", "avx2", "neon")


def main() -> None:
    chosen = _parser().parse_args()
    print(f"{measuring.machine()}\n")
    with tempfile.TemporaryDirectory() as name:
        peaks = measure_peaks(Path(name), chosen.threads)
        rows = [[isa, f"{value / 1e9:.0f}"] for isa, value in peaks.items()]
        print(measuring.table([f"peak on {chosen.threads} threads", "GMAC/s"], rows) + "\n")
        rows = []
        for network in chosen.networks:
            rows += network_rows(network, Path(name), chosen.formats, chosen.threads, chosen.rounds, peaks)
        times = [f"{how}{what}" for how in ("in turns, ", "in a row, ") for what in ("min ms", "median", "of peak")]
        headings = ["network", "format", "instructions", "GMAC", *times]
        print(measuring.table(headings, rows))


def measure_peaks(folder: Path, threads: int) -> dict[str, float]:
    """Multiply-accumulates a second of each instruction set that this CPU has, on `threads` threads."""
    library = _build(folder)
    peaks = {}
    for isa in _ISAS:
        if hasattr(library, f"run_{isa}") and getattr(library, f"has_{isa}")():
            loop = getattr(library, f"run_{isa}")
            loop.argtypes, loop.restype = [ctypes.c_int64], ctypes.c_int64
            peaks[isa] = _best(loop, threads)
    return peaks


def _build(folder: Path) -> ctypes.CDLL:
    flags = ["-O2", "-fPIC", "-shared", "-nostdlib++", "-fno-sanitize=all", "-fvisibility=hidden"]
    machine = ["-mcpu=x86_64"] if platform.machine() in ("x86_64", "AMD64") else []
    target = folder / "peak.so"
    source = Path(__file__).with_name("peak.cpp")
    command = [sys.executable, "-m", "ziglang", "c++", *flags, *machine, str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


def _best(loop: Callable[[int], int], threads: int) -> float:
    """The best burst of all threads together: calls release the GIL."""
    rounds = 1000
    while (seconds := _seconds([threading.Thread(target=loop, args=(rounds,))])) < _SECONDS:
        rounds = int(rounds * max(2, min(10, _SECONDS / seconds)))
    made = loop(1) * rounds * threads
    bursts = []
    for _ in range(_BURSTS):
        bursts.append(_seconds([threading.Thread(target=loop, args=(rounds,)) for _ in range(threads)]))
    return made / min(bursts)


def _seconds(workers: list[threading.Thread]) -> float:
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin


def network_rows(
    network: str, folder: Path, formats: list[str], threads: int, rounds: int, peaks: dict[str, float]
) -> list[list[str]]:
    """Rows of one network: every format with every instruction set that has a measured peak."""
    engines.prepare(network, folder, formats, peers=False)
    image = np.load(folder / f"{network}.npy")
    natives = {}
    for fmt in formats:
        program = npu.load(folder / f"{network}.{fmt}.npu")
        products = sum(chain.products for chain in npu.timing.estimate(program).chains)
        for isa in npu.kernel_info()["available"]:
            if isa in peaks:
                natives[fmt, isa] = npu.Native(program, threads=threads, isa=isa)
    times = measuring.in_turns({str(key): (native.run, image) for key, native in natives.items()}, rounds)
    rows = []
    for ((fmt, isa), native), turns in zip(natives.items(), times.values(), strict=True):
        row = [network, fmt, isa, f"{products / 1e9:.2f}"]
        for values in (turns, measuring.in_a_row(native.run, image, rounds)):
            share = products / values.min() * 1e3 / peaks[isa]
            row += [f"{values.min():.2f}", f"{np.median(values):.2f}", f"{share:.0%}"]
        rows.append(row)
    return rows


def _parser() -> argparse.ArgumentParser:
    from benchmarks import networks

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [name for name in networks.NETWORKS if name != "ssdvgg300_block4"]
    parser.add_argument("--networks", nargs="+", default=every, choices=list(networks.NETWORKS))
    parser.add_argument("--formats", nargs="+", default=["bw_cnn", "msfp16"], choices=list(npu.formats))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    return parser


if __name__ == "__main__":
    main()
