"""The whole proof: every network in every format, every layer of the native kernel against the reference's bits.

    python -m benchmarks.bits [--networks resnet50 ...] [--formats bw_cnn ...] [--isas avx512vnni ...] [--threads 2 ...]

Prints one row per network and format as it goes; a mismatch is printed with its place and bits, and makes the exit
status 1. `--isas neon` on another computer than an Arm one cross-compiles the kernel and runs it under qemu.
"""

import argparse
import atexit
import shutil
import sys
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from amlrealtimeai import npu
from amlrealtimeai.npu.compare import first_difference
from amlrealtimeai.npu.program import Program
from benchmarks import emulation, networks

AVAILABLE = [str(isa) for isa in npu.kernel_info()["available"]]  # type: ignore[attr-defined]
EMULATED = ["neon"] if emulation.qemu() and "neon" not in AVAILABLE else []


def main() -> None:
    options = _parser().parse_args()
    print(f"{'network':<18}{'format':<9}{'chains':>7}{'values compared':>17}  result")
    reports = []
    for network in options.networks:
        document = networks.model(network, style=options.style)
        image = networks.image(document)
        for fmt in options.formats:
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # formats with 5 exponent bits saturate some weights
                program = npu.compile(document, fmt=fmt)
            expected = npu.reference.run(program, image, trace=True)
            differing = mismatches(program, image, expected, options.isas, options.threads)
            values = sum(expected[chain.writes].size for chain in program.chains)
            verdict = "same bits" if not differing else "DIFFERENT"
            seconds = time.perf_counter() - begin
            row = f"{network:<18}{fmt:<9}{len(program.chains):>7}{values:>17,}"
            print(f"{row}  {verdict} ({seconds:.0f} s)", flush=True)
            reports += [f"{network} {fmt} {report}" for report in differing]
    print(f"instruction sets {', '.join(options.isas)}; threads {', '.join(map(str, options.threads))}")
    print("\n\n".join(reports))
    sys.exit(1 if reports else 0)


def mismatches(
    program: Program, image: np.ndarray, expected: dict[str, np.ndarray], isas: list[str], threads: list[int]
) -> list[str]:
    """Reports on every layer (memory kept apart) and on the outputs as they are used (memory shared)."""
    found = []
    for isa in isas:
        for count in threads:
            if isa in AVAILABLE:
                traced = npu.Native(program, threads=count, keep_tensors=True, isa=isa).run(image)
                outputs = npu.Native(program, threads=count, isa=isa).run(image)
            else:
                traced = outputs = emulation.run(_driver(), program, image, isa, count)
            report = first_difference(program, expected, traced)
            wrong = [
                port.name
                for port in program.output_ports
                if outputs[port.name].tobytes() != program.to_port(port, expected[port.tensor]).tobytes()
            ]
            if report or wrong:
                found.append(f"{isa}, {count} threads, outputs {wrong}: {report}")
    return found


@cache
def _driver() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="amlrealtimeai-arm-"))
    atexit.register(shutil.rmtree, folder)
    return emulation.build_driver(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS), choices=list(networks.NETWORKS))
    parser.add_argument("--formats", nargs="+", default=list(npu.formats), choices=list(npu.formats))
    parser.add_argument("--isas", nargs="+", default=AVAILABLE, choices=[*AVAILABLE, *EMULATED])
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--style", default="tensorflow", choices=["tensorflow", "pytorch"])
    return parser


if __name__ == "__main__":
    main()
