"""Checks that a program is consistent, so that its readers need not look again (the native kernel trusts it)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu import magnitudes

if TYPE_CHECKING:
    from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Shape, Window

_LARGEST_TENSOR = 2**28
_LARGEST_SIDE = 2**15


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidInputError(f"inconsistent NPU program: {message}")


def check(program: "Program") -> None:
    """Raise InvalidInputError, naming the place, unless every name, shape and value of the program fits."""
    from amlrealtimeai.npu.program import LAYOUTS

    for name, shape in program.tensors.items():
        sides_fit = len(shape) == 3 and all(isinstance(n, int) and 1 <= n <= _LARGEST_SIDE for n in shape)
        _require(sides_fit and np.prod(shape, dtype=float) <= _LARGEST_TENSOR, f"tensor {name} has shape {shape}")
    _require(len(program.input_ports) == 1, f"expected one input, got {len(program.input_ports)}")
    _require(len(program.output_ports) >= 1, "no output")
    for matrix_name, matrix in program.matrices.items():
        _check_matrix(program, matrix_name, matrix)
    for name, vector in program.vectors.items():
        fits = vector.dtype == np.float32 and vector.ndim == 1 and bool(np.isfinite(vector).all())
        _require(fits, f"vector {name} is not one-dimensional finite float32")
    written = {port.tensor for port in program.input_ports}
    for chain in program.chains:
        _check_chain(program, chain, written)
        written.add(chain.writes)
    for port in (*program.input_ports, *program.output_ports):
        _check_port(program, port, written, LAYOUTS)
    excess = magnitudes.overflow(program, magnitudes.LEAST_INPUT_LIMIT)
    _require(not excess, f"{excess}, more than float32 holds; constants have to be smaller")


def _check_port(program: "Program", port: "Port", written: set[str], layouts: Sequence[str]) -> None:
    _require(port.layout in layouts, f"port {port.name} has layout {port.layout!r}")
    _require(port.tensor in written and port.tensor in program.tensors, f"port {port.name} has no tensor")
    flat = program.tensors[port.tensor][:2] == (1, 1)
    _require(port.layout != "nc" or flat, f"port {port.name} is flat, its tensor {port.tensor} is not")


def _check_matrix(program: "Program", name: str, matrix: "Matrix") -> None:
    fmt = program.config.number_format
    _require(matrix.blocking in ("channels", "rows"), f"matrix {name} has blocking {matrix.blocking!r}")
    _require(len(matrix.kernel) == 2 and min(matrix.kernel) >= 1 and matrix.channels >= 1, f"matrix {name} is empty")
    expected = matrix.expected_shape(fmt)
    _require(expected[2] <= 400, f"matrix {name} has blocks of {expected[2]}, at most 400 are possible")
    shapes_fit = matrix.mantissas.ndim == 4 and matrix.mantissas.shape[1:] == expected and matrix.outputs >= 1
    _require(shapes_fit, f"matrix {name}: expected [outputs, *{expected}], got {matrix.mantissas.shape}")
    _require(matrix.exponents.shape == matrix.mantissas.shape[:3], f"matrix {name}: exponents do not fit mantissas")
    _require(matrix.mantissas.dtype == np.int8 and matrix.exponents.dtype == np.int32, f"matrix {name} has wrong types")
    largest = max(int(matrix.mantissas.max()), -int(matrix.mantissas.min()))
    _require(largest <= fmt.largest_mantissa, f"matrix {name}: mantissa {largest} is too large for {fmt}")
    low, high = int(matrix.exponents.min()), int(matrix.exponents.max())
    lowest, highest = fmt.exponent_range
    _require(lowest <= low and high <= highest, f"matrix {name}: exponents {low}..{high} are outside {fmt}")


def _check_chain(program: "Program", chain: "Chain", written: set[str]) -> None:
    ops = [instruction.op for instruction in chain.instructions]
    where = f"chain {chain.name}"
    _require(len(ops) >= 2 and ops[0] == "v_rd" and ops[-1] == "v_wr", f"{where} does not read first and write last")
    _require("v_rd" not in ops[1:] and "v_wr" not in ops[:-1], f"{where} reads or writes in the middle")
    _require(
        ops.count("mv_mul") == 0 or ops.index("mv_mul") == len(ops) - 1 - ops[::-1].index("mv_mul"),
        f"{where} multiplies twice",
    )
    _require(len(chain.reads) >= 1 and len(chain.instructions[-1].operands) == 1, f"{where} reads or writes nothing")
    for name in chain.reads:
        _require(name in written and name in program.tensors, f"{where} reads {name} before it is written")
    _require(chain.writes not in written, f"{where} writes {chain.writes} again")
    shapes = [program.tensors[name] for name in chain.reads]
    _require(len({shape[:2] for shape in shapes}) == 1, f"{where} concatenates different sizes")
    shape = (*shapes[0][:2], sum(shape[2] for shape in shapes))
    for instruction in chain.instructions[1:-1]:
        shape = _shape_after(program, where, instruction, shape, written)
    _require(program.tensors.get(chain.writes) == shape, f"{where} makes {shape}, not what {chain.writes} is")


def _shape_after(
    program: "Program", where: str, instruction: "Instruction", shape: "Shape", written: set[str]
) -> "Shape":
    op, operands, window = instruction.op, instruction.operands, instruction.window
    _require(op in ("mv_mul", "vv_mul", "vv_add", "v_relu", "v_max", "v_avg"), f"{where} has unknown operation {op!r}")
    _require(len(operands) == (op in ("mv_mul", "vv_mul", "vv_add")), f"{where}: {op} has operands {operands}")
    if op in ("vv_mul", "vv_add"):
        constant = program.vectors.get(operands[0])
        if constant is not None:
            _require(
                constant.shape == shape[2:], f"{where}: {op} of {constant.shape[0]} values with {shape[2]} channels"
            )
        else:
            there = op == "vv_add" and operands[0] in written
            _require(there and program.tensors.get(operands[0]) == shape, f"{where}: {op} {operands[0]} does not fit")
        return shape
    if op == "v_relu":
        return shape
    if window is None:
        raise InvalidInputError(f"inconsistent NPU program: {where}: {op} has no window")
    _check_window(where, op, window)
    channels = shape[2]
    if op == "mv_mul":
        _require(operands[0] in program.matrices, f"{where}: no matrix {operands[0]}")
        matrix = program.matrices[operands[0]]
        _require(
            matrix.channels == channels, f"{where}: {operands[0]} takes {matrix.channels} channels, not {channels}"
        )
        _require(matrix.kernel == window.kernel, f"{where}: {operands[0]} is {matrix.kernel}, not {window.kernel}")
        _require(matrix.blocking == "channels" or window.dilations == (1, 1), f"{where}: rows cannot be dilated")
        channels = matrix.outputs
    rows, columns = window.output_size(*shape[:2])
    _require(rows >= 1 and columns >= 1, f"{where}: {op} {window} does not fit {shape[0]}x{shape[1]}")
    return rows, columns, channels


def _check_window(where: str, op: str, window: "Window") -> None:
    sides = (*window.kernel, *window.strides, *window.dilations)
    _require(all(isinstance(n, int) and 1 <= n <= _LARGEST_SIDE for n in sides), f"{where}: {op} has window {window}")
    reach = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    pads_fit = all(
        isinstance(pad, int) and 0 <= pad < (reach[i % 2] if op != "mv_mul" else _LARGEST_SIDE)
        for i, pad in enumerate(window.pads)
    )
    _require(len(window.pads) == 4 and pads_fit, f"{where}: {op} has pads {window.pads}")
    _require(op != "v_avg" or not any(window.pads), f"{where}: an average with padding")
    dilated = window.dilations != (1, 1)
    _require(op != "v_max" or not (dilated and any(window.pads)), f"{where}: a dilated maximum with padding")
