"""What every run of random models shares: how close an answer has to be, and the count of many."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from amlrealtimeai.convert import ConversionReport

Arrays = dict[str, np.ndarray]
Convert = Callable[[int, Path], tuple[ConversionReport, list[str]]]


def differences(expected: Arrays, got: Arrays) -> list[str]:
    """Where the outputs of a model in msfp16 are not those of the float model."""
    wrong = [] if list(got) == list(expected) else [f"outputs {list(got)}, expected {list(expected)}"]
    for name in expected.keys() & got.keys():
        values, found = expected[name], got[name]
        if found.shape != values.shape or found.dtype != values.dtype:
            wrong.append(f"{name}: {found.dtype} {found.shape}, expected {values.dtype} {values.shape}")
        elif values.dtype.kind == "f":
            error = np.sqrt(np.mean(np.square(found - values)) / max(np.mean(np.square(values)), 1e-12))
            if not error < 0.1:  # of the energy: msfp16 in some layers, near zero in a few values
                wrong.append(f"{name}: {error:.1%} off")
    return wrong


def main(convert: Convert) -> None:
    """COUNT [FIRST SEED] of the command line; the exit status says whether one failed."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    failures = parts = hosts = 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            try:
                report, wrong = convert(seed, Path(folder))
            except Exception as error:
                report, wrong = None, [f"{type(error).__name__}: {error}"]
        if wrong:
            failures += 1
            print(seed, *(" ".join(text.split())[:500] for text in wrong), flush=True)
        if report is not None:
            kinds = [stage.kind for stage in report.stages]
            parts, hosts = parts + kinds.count("npu"), hosts + ("npu" not in kinds)
    print(f"{count} models: {failures} failed; {parts} NPU parts, {hosts} models on the host alone")
    sys.exit(bool(failures))
