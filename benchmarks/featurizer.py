"""Featurizers at batch 1: the native NPU kernel against ONNX Runtime and OpenVINO, in one process, taking turns.

    python -m benchmarks.featurizer [--quick] [--networks resnet50 ...] [--threads 1 2] [--rounds 30] [--formats ...]

Checks first that the kernel's outputs are the reference's to the bit. Quote the ratio of medians: machines are shared.
Memory and seconds to load are those of a fresh process that holds this engine alone (Python and NumPy included).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from amlrealtimeai import npu
from benchmarks import engines, measuring

_HEADINGS = ["engine", "min ms", "median ms", "of ORT fp32", "load s", "MiB"]


def main() -> None:
    chosen = _parser().parse_args()
    chosen.networks = chosen.networks[:1] if chosen.quick else chosen.networks
    print(f"{measuring.machine()}\n\n{measuring.PAUSE_NOTE}")
    with tempfile.TemporaryDirectory() as name:
        for network in chosen.networks:
            folder = Path(name)
            seconds = engines.prepare(network, folder, chosen.formats)
            check_bits(folder, network, chosen.formats)
            compiled = ", ".join(f"{fmt} {value:.2f} s" for fmt, value in seconds.items())
            print(f"\n## {network}: {multiplications(folder, network, chosen.formats[0]) / 1e9:.2f} GMAC\n")
            print(f"Compiled in: {compiled}.")
            for threads in chosen.threads:
                print(f"\n{threads} thread{'s'[: threads - 1]}, {chosen.rounds} rounds\n")
                print(compare(folder, network, chosen.formats, threads, chosen.rounds), flush=True)
            for file in folder.iterdir():
                file.unlink()


def check_bits(folder: Path, network: str, formats: list[str]) -> None:
    """Leave with a message where the kernel's outputs are not the reference's: a speed would mean nothing."""
    image = np.load(folder / f"{network}.npy")
    for fmt in formats:
        program = npu.load(folder / f"{network}.{fmt}.npu")
        expected, found = npu.reference.run(program, image), npu.Native(program).run(image)
        if any(not np.array_equal(found[name].view(np.int32), expected[name].view(np.int32)) for name in expected):
            sys.exit(f"{network} in {fmt}: the kernel's outputs are not the reference's; a speed would mean nothing")


def multiplications(folder: Path, network: str, fmt: str) -> int:
    """Multiply-accumulates that one image needs."""
    report = npu.timing.estimate(npu.load(folder / f"{network}.{fmt}.npu"))
    return sum(chain.products for chain in report.chains)


def compare(folder: Path, network: str, formats: list[str], threads: int, rounds: int) -> str:
    """The table of one network on so many threads."""
    names = [f"npu {fmt}" for fmt in formats] + engines.peers()
    image = np.load(folder / f"{network}.npy")
    memories = {name: measuring.memory(folder, network, name, threads) for name in names}
    running = {name: found for name, found in memories.items() if isinstance(found, measuring.Memory)}
    loaded = {name: engines.load(folder, network, name, threads) for name in running}
    times = measuring.in_turns({name: (run, image) for name, run in loaded.items()}, rounds)
    base = np.median(times["onnxruntime fp32"])
    rows = []
    for name, values in times.items():
        median, found = float(np.median(values)), running[name]
        figures = [f"{values.min():.2f}", f"{median:.2f}", f"{median / base:.2f}"]
        rows.append([name, *figures, f"{found.load_seconds:.2f}", f"{found.resident:.0f}"])
    rows.append(["(Python and NumPy)", "", "", "", "", f"{running[names[0]].before:.0f}"])
    failures = [f"\n{name} does not run here: {found}" for name, found in memories.items() if name not in running]
    return measuring.table(_HEADINGS, rows) + "\n".join(["", *failures] if failures else [])


def _parser() -> argparse.ArgumentParser:
    from benchmarks import networks

    every = [name for name in networks.NETWORKS if name != "ssdvgg300_block4"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=every, choices=list(networks.NETWORKS))
    parser.add_argument("--formats", nargs="+", default=["bw_cnn", "msfp16", "msfp12"], choices=list(npu.formats))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="the first network only")
    return parser


if __name__ == "__main__":
    main()
