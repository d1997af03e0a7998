"""How large the values of a program can become: none may overflow, so infinity and not-a-number never arise inside."""

from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from amlrealtimeai.npu.formats import BlockFormat
    from amlrealtimeai.npu.program import Instruction, Matrix, Program

LARGEST_FLOAT = float(np.finfo(np.float32).max)
# What every program has to take; images and features are far smaller.
LEAST_INPUT_LIMIT = 2.0**64
# float32 ends at 2**128; a sum of n terms may be rounded up by n / 2**24 of itself, and n is below 2**25.
_LARGEST_RESULT = 2.0**126


def input_limit(program: "Program") -> float:
    """The largest magnitude that the input may have: that of float32, or 2**64 where sums could overflow otherwise."""
    return LEAST_INPUT_LIMIT if overflow(program, LARGEST_FLOAT) else LARGEST_FLOAT


def overflow(program: "Program", limit: float) -> str:
    """What could exceed float32 for inputs of magnitudes up to `limit`; "" for nothing."""
    bounds = {port.tensor: limit for port in program.input_ports}
    for chain in program.chains:
        bound = max(bounds[name] for name in chain.reads)
        for instruction in chain.instructions[1:-1]:
            reached, bound = _after(program, instruction, bound, bounds)
            if reached > _LARGEST_RESULT:
                return f"chain {chain.name}: {instruction.op} may reach {reached:.1e}"
        bounds[chain.writes] = bound
    return ""


def _after(
    program: "Program", instruction: "Instruction", bound: float, bounds: dict[str, float]
) -> tuple[float, float]:
    """The largest magnitude that an instruction computes on the way (0: it computes none), and that of its result."""
    name = instruction.operands[0] if instruction.operands else ""
    match instruction.op:
        case "mv_mul":
            bound = _product(program.matrices[name], bound, program.config.number_format)
        case "vv_mul":
            bound *= _largest(program.vectors[name])
        case "vv_add":
            bound += _largest(program.vectors[name]) if name in program.vectors else bounds[name]
        case "v_avg":
            return bound * prod(instruction.window.kernel if instruction.window else ()), bound
        case _:
            return 0.0, bound
    return bound, bound


def _product(matrix: "Matrix", bound: float, fmt: "BlockFormat") -> float:
    """Both factors are below 2**(E + 1), E being the block's exponent; that of an activation is at most its own."""
    lowest, highest = fmt.exponent_range
    activation = min(2.0 ** (highest + 1), max(2 * bound, 2.0 ** (lowest + 1)))
    return prod(matrix.kernel) * matrix.channels * 2.0 ** (int(matrix.exponents.max()) + 1) * activation


def _largest(vector: np.ndarray) -> float:
    return float(np.abs(vector).max(initial=0))
