"""How large the values of a program can become: none may overflow, so infinity and not-a-number never arise inside."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Protocol

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.config import NpuConfig
from amlrealtimeai.npu.formats import BlockFormat
from amlrealtimeai.npu.instructions import Chain, Instruction, Matrix, Port

LARGEST_FLOAT = float(np.finfo(np.float32).max)
# The input's magnitude may be up to the first of these with which nothing overflows. Every program has to take the
# last; images and features are far smaller.
_INPUT_LIMITS = (LARGEST_FLOAT, 2.0**64, 2.0**40, 2.0**24)
LEAST_INPUT_LIMIT = _INPUT_LIMITS[-1]
# float32 ends at 2**128; a sum of n terms may be rounded up by n / 2**24 of itself, and n is below 2**25.
_LARGEST_RESULT = 2.0**126


class Chains(Protocol):
    """A program, or what becomes one."""

    @property
    def config(self) -> NpuConfig: ...  # noqa: D102
    @property
    def input_ports(self) -> tuple[Port, ...]: ...  # noqa: D102
    @property
    def chains(self) -> Sequence[Chain]: ...  # noqa: D102
    @property
    def matrices(self) -> Mapping[str, Matrix]: ...  # noqa: D102
    @property
    def vectors(self) -> Mapping[str, np.ndarray]: ...  # noqa: D102


def check(program: Chains) -> None:
    """Raise InvalidInputError where sums could exceed float32 for inputs of every program's range."""
    excess = overflow(program, LEAST_INPUT_LIMIT)
    if excess:
        raise InvalidInputError(f"{excess}, more than float32 holds; constants have to be smaller")


def input_limit(program: Chains) -> float:
    """The largest magnitude that the input may have: that of float32, or less where sums could overflow otherwise."""
    return next((limit for limit in _INPUT_LIMITS if not overflow(program, limit)), LEAST_INPUT_LIMIT)


def overflow(program: Chains, limit: float) -> str:
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


def _after(program: Chains, step: Instruction, bound: float, bounds: dict[str, float]) -> tuple[float, float]:
    """The largest magnitude that an instruction computes on the way (0: it computes none), and that of its result."""
    name = step.operands[0] if step.operands else ""
    operand = _largest(program.vectors[name]) if name in program.vectors else bounds.get(name, 0.0)
    match step.op:
        case "mv_mul":
            bound = _product(program.matrices[name], bound, program.config.number_format)
        case "v_filter":
            bound *= prod(program.vectors[name].shape[:2]) * operand
        case "vv_mul":
            bound *= operand
        case "vv_add":
            bound += operand
        case "v_prelu":
            bound *= max(1.0, operand)
        case "v_avg":
            return bound * prod(step.window.kernel if step.window else ()), bound
        case "v_blend":
            # rounded weights may add up to a little more than 1
            bound *= 2 * max(1.0, _largest(program.vectors[step.operands[2]]))
        case _:
            return _after_activation(step, bound)
    return bound, bound


def _after_activation(step: Instruction, bound: float) -> tuple[float, float]:
    match step.op, step.values:
        case "v_sigmoid", _:
            return 0.0, 1.0
        case "v_clip", (low, high):
            return 0.0, max(abs(min(max(end, low), high)) for end in (-bound, bound))
        case "v_hsigmoid" | "v_hswish", (alpha, beta):
            return bound * abs(alpha) + abs(beta), 1.0 if step.op == "v_hsigmoid" else bound
        case "v_lrn", (_, _, beta, bias):
            # the sum of squares may be infinite, which makes the result 0
            return 0.0, bound / min(1.0, float(bias)) ** beta
        case "v_pick", (fill,):
            return 0.0, max(bound, abs(fill))
        case _:
            return 0.0, bound


def _product(matrix: Matrix, bound: float, fmt: BlockFormat) -> float:
    """Both factors are below 2**(E + 1), E being the block's exponent; that of an activation is at most its own."""
    lowest, highest = fmt.exponent_range
    activation = min(2.0 ** (highest + 1), max(2 * bound, 2.0 ** (lowest + 1)))
    return prod(matrix.kernel) * matrix.channels * 2.0 ** (int(matrix.exponents.max()) + 1) * activation


def _largest(vector: np.ndarray) -> float:
    return float(np.abs(vector).max(initial=0))
