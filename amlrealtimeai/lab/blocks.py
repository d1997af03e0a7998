"""Block floating point small enough to follow by hand, and the NPU program inside a converted model."""

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai import npu
from amlrealtimeai.core.arguments import shown
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.config import configs
from amlrealtimeai.npu.formats import BlockFormat, as_format
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Window


@dataclass(frozen=True)
class BlockView:
    """One block: its values, its mantissas, its shared exponent, and the values that are left of it."""

    values: np.ndarray
    mantissas: np.ndarray
    exponent: int
    kept: np.ndarray
    fmt: BlockFormat

    @property
    def step(self) -> float:
        """Value of one mantissa unit."""
        return float(2.0 ** (self.exponent - (self.fmt.mantissa_bits - 1)))

    def __str__(self) -> str:
        rows = [
            f"shared exponent {self.exponent}, step 2**{self.exponent - self.fmt.mantissa_bits + 1} = {self.step:g}"
        ]
        rows += [
            f"{v:>10.4g} -> {q:>4d} x {self.step:g} = {k:.4g}"
            for v, q, k in zip(self.values, self.mantissas, self.kept, strict=True)
        ]
        return "\n".join(rows)

    __repr__ = __str__


def view(values: Any, fmt: BlockFormat | str) -> BlockView:
    """The block that `values` (one block of numbers) become in `fmt`."""
    fmt = as_format(fmt)
    x = _numbers(values)
    if not 1 <= x.size <= fmt.block:
        raise InvalidInputError(f"expected one block of 1 to {fmt.block} numbers, got {x.size}")
    mantissas, exponents = npu.quantize(x, fmt)
    return BlockView(x, mantissas, int(exponents[0]), npu.dequantize(mantissas, exponents, fmt), fmt)


def _numbers(values: Any) -> np.ndarray:
    """float32 [n], n at least 1."""
    try:
        x = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        x = np.empty(0, np.float32)
    if x.ndim != 1 or not x.size:
        raise InvalidInputError(f"expected numbers in a list, [6.5, 2.5], got {shown(values)}")
    return x


def dot_program(weights: Any, fmt: BlockFormat | str) -> Program:
    """A program that multiplies vectors with `weights` (one output) and does nothing else."""
    fmt, w = as_format(fmt), _numbers(weights)
    mantissas, exponents = npu.quantize(w, fmt)
    blocks, length = exponents.size, min(fmt.block, w.size + -w.size % 4)
    padded = np.zeros(blocks * length, np.int8)
    padded[: w.size] = mantissas
    matrix = Matrix(padded.reshape(1, 1, blocks, length), exponents.reshape(1, 1, blocks), (1, 1), w.size)
    chain = Chain(
        "dot", (Instruction("v_rd", ("x",)), Instruction("mv_mul", ("w",), Window((1, 1))), Instruction("v_wr", ("y",)))
    )
    return Program(
        "dot",
        configs["bw_a10"].with_format(fmt),
        (Port("x", "x"),),
        (Port("y", "y"),),
        {"x": (1, 1, w.size), "y": (1, 1, 1)},
        (chain,),
        {"w": matrix},
    )


def dot(x: Any, weights: Any, fmt: BlockFormat | str) -> dict[str, float]:
    """The dot product of two vectors in `fmt`: {"exact" of the original numbers, "reference", "kernel"}."""
    numbers, others = _numbers(x), _numbers(weights)
    if numbers.size != others.size:
        raise InvalidInputError(f"expected a weight for each number, got {numbers.size} numbers, {others.size} weights")
    program = dot_program(weights, fmt)
    image = numbers.reshape(1, 1, 1, -1)
    return {
        "exact": float(np.dot(np.asarray(x, np.float64), np.asarray(weights, np.float64))),
        "reference": float(npu.reference.run(program, image)["y"].item()),
        "kernel": float(npu.Native(program, threads=1).run(image)["y"].item()),
    }


def program_of(model: Any) -> Program:
    """The (first) NPU program inside a converted model (a core.model.Model, or a path to its file)."""
    return next(iter(programs_of(model).values()))


def programs_of(model: Any) -> dict[str, Program]:
    """All of them by the names of their files, in the order they run."""
    path = Path(model.kept_path() if hasattr(model, "kept_path") else model)
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            names = [name for name in archive.namelist() if name.endswith(".npu")]
            if not names:
                raise InvalidInputError(f"{path.name} has no NPU stage: it was converted with all stages on the host")
            return {name: npu.load(archive.extract(name, folder)) for name in names}
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"expected a converted model (.accelonnx) or a program (.npu): {path}: {error}"
        ) from error
