"""ResNet-50 featurizer at batch 1: the native NPU kernel against ONNX Runtime, in one process, taking turns.

    python -m benchmarks.featurizer [--threads 2] [--rounds 40] [--formats bw_cnn msfp16 msfp12]

Checks first that the kernel's features are the reference's to the bit. Quote the medians' ratio: machines are shared.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

from amlrealtimeai import npu
from tests.npu import resnet50

WARM_UP = 5


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if info.exists() and names else platform.processor()


def onnxruntime_run(threads: int, image: np.ndarray) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(resnet50.onnx_model().SerializeToString(), options)
    return lambda: session.run(None, {"image": image})


def native_run(fmt: str, threads: int, image: np.ndarray) -> Callable[[], object]:
    program = npu.compile(resnet50.onnx_model(), fmt=fmt)
    native = npu.Native(program, threads=threads)
    expected = npu.reference.run(program, image)["features"]
    if not np.array_equal(native.run(image)["features"].view(np.int32), expected.view(np.int32)):
        sys.exit(f"{fmt}: the kernel's features are not the reference's; a speed would mean nothing")
    return lambda: native.run(image)


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each run, taken in turns so that a slow moment of the machine meets all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP + rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn >= WARM_UP:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--formats", nargs="+", default=["bw_cnn", "msfp16", "msfp12"], choices=list(npu.formats))
    chosen = parser.parse_args()
    image = resnet50.sample_image()
    runs = {"ONNX Runtime fp32": onnxruntime_run(chosen.threads, image)}
    runs |= {f"NPU {fmt}, bit-exact": native_run(fmt, chosen.threads, image) for fmt in chosen.formats}
    times = measure(runs, chosen.rounds)
    base = times["ONNX Runtime fp32"]
    info = npu.kernel_info()
    print(f"ResNet-50 features, batch 1, {chosen.threads} threads, {chosen.rounds} rounds; kernel {info['isa']}")
    print(f"{cpu_name()}, {os.cpu_count()} CPUs, onnxruntime {onnxruntime.__version__}")
    print(f"{'':<24}{'min ms':>9}{'median ms':>11}{'ratio of medians':>18}{'of minima':>11}")
    for name, values in times.items():
        ratio, best = np.median(values) / np.median(base), values.min() / base.min()
        print(f"{name:<24}{values.min():9.2f}{np.median(values):11.2f}{ratio:18.2f}{best:11.2f}")


if __name__ == "__main__":
    main()
