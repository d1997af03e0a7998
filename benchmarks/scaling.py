"""How the kernel's time goes with threads, batch and image size: ResNet-50.

    python -m benchmarks.scaling [--format bw_cnn] [--rounds 15] [--most-threads N]

Milliseconds are for the whole call; "an image" is that over the batch, "a GMAC" that over the products.
"""

import argparse

import numpy as np

from amlrealtimeai import npu
from amlrealtimeai.npu.program import Program
from benchmarks import measuring, networks

_BATCHES = (1, 2, 4, 8)
_SIZES = (128, 160, 192, 224, 256, 320)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="bw_cnn", choices=list(npu.formats))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--most-threads", type=int, default=npu.kernel_info()["threads"])
    chosen = parser.parse_args()
    print(f"{measuring.machine()}; {chosen.format}\n\n{measuring.PAUSE_NOTE}\n")
    document = networks.model("resnet50")
    program, image = npu.compile(document, fmt=chosen.format), networks.image(document)
    print(by_threads(program, image, chosen.most_threads, chosen.rounds) + "\n", flush=True)
    print(by_batch(program, networks.image(document, max(_BATCHES)), chosen.most_threads, chosen.rounds) + "\n")
    print(by_size(chosen.format, chosen.most_threads, chosen.rounds))


def by_threads(program: Program, image: np.ndarray, most: int, rounds: int) -> str:
    """1, 2, 4 ... threads, and `most`."""
    counts = sorted({1 << i for i in range(most.bit_length())} | {most})
    natives = {count: npu.Native(program, threads=count) for count in counts}
    times = measuring.in_turns({str(c): (n.run, image) for c, n in natives.items()}, rounds)
    first = float(np.median(times["1"]))
    rows = [[c, *_milliseconds(v), f"{first / np.median(v):.2f}"] for c, v in times.items()]
    return measuring.table(["threads", "min ms", "median ms", "speed-up"], rows)


def by_batch(program: Program, images: np.ndarray, threads: int, rounds: int) -> str:
    """Batches of one call."""
    native = npu.Native(program, threads=threads)
    runs = {str(n): (native.run, images[:n]) for n in _BATCHES}
    times = measuring.in_turns(runs, rounds)
    rows = [[n, *_milliseconds(v), f"{np.median(v) / int(n):.2f}"] for n, v in times.items()]
    return measuring.table([f"batch, {threads} threads", "min ms", "median ms", "an image"], rows)


def by_size(fmt: str, threads: int, rounds: int) -> str:
    """Square images."""
    runs: dict[str, tuple[measuring.Run, np.ndarray]] = {}
    work = {}
    for size in _SIZES:
        document = networks.model("resnet50", size)
        program, image = npu.compile(document, fmt=fmt), networks.image(document)
        native = npu.Native(program, threads=threads)
        runs[str(size)] = (native.run, image)
        work[str(size)] = sum(chain.products for chain in npu.timing.estimate(program).chains) / 1e9
    times = measuring.in_turns(runs, rounds)
    rows = [[s, f"{work[s]:.2f}", *_milliseconds(v), f"{np.median(v) / work[s]:.2f}"] for s, v in times.items()]
    return measuring.table([f"image size, {threads} threads", "GMAC", "min ms", "median ms", "a GMAC"], rows)


def _milliseconds(values: np.ndarray) -> list[str]:
    return [f"{values.min():.2f}", f"{np.median(values):.2f}"]


if __name__ == "__main__":
    main()
