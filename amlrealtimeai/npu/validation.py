"""Checks that a program is consistent, so that its readers need not look again (the native kernel trusts it)."""

from itertools import permutations
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu import magnitudes
from amlrealtimeai.npu.config import NpuConfig
from amlrealtimeai.npu.instructions import Chain, Instruction, Matrix, Port, Shape, Window

if TYPE_CHECKING:
    from amlrealtimeai.npu.program import Program

LARGEST_TENSOR = 2**28
LARGEST_SIDE = 2**15
LARGEST_CHANNELS = 2**24
LONGEST_NAME = 1000
_LARGEST_SIZE = 1e15  # of the machine's parts, and of its clock in Hz
LRN_EXPONENTS = (0.5, 0.75, 1.0)
LAYOUTS = ("nc", *("n" + "".join(letters) for letters in permutations("hwc")))

# Operands, values, and whether there is a window, of every operation between v_rd and v_wr.
_FORMS: dict[str, tuple[int, tuple[int, ...], bool]] = {
    "mv_mul": (1, (0,), True),
    "vv_mul": (1, (0,), False),
    "vv_add": (1, (0,), False),
    "v_relu": (0, (0,), False),
    "v_prelu": (1, (0,), False),
    "v_clip": (0, (2,), False),
    "v_threshold": (0, (1,), False),
    "v_sigmoid": (0, (0,), False),
    "v_silu": (0, (0,), False),
    "v_hsigmoid": (0, (2,), False),
    "v_hswish": (0, (2,), False),
    "v_lrn": (0, (4,), False),
    "v_filter": (1, (0,), True),
    "v_max": (0, (0,), True),
    "v_avg": (0, (0, 4), True),
    "v_pick": (3, (1,), False),
    "v_blend": (3, (1,), False),
    "v_shape": (0, (3,), False),
}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidInputError(f"inconsistent NPU program: {message}")


def check_name(name: str) -> None:
    """Raise InvalidInputError for a name that a program file cannot hold."""
    if not isinstance(name, str):
        raise InvalidInputError(f"expected a name that is a text, got {name!r:.40}")
    if "\0" in name or len(name) > LONGEST_NAME:
        what = "a NUL character" if "\0" in name else f"{len(name)} characters"
        raise InvalidInputError(
            f"the name {name[:40]!r} has {what}; expected at most {LONGEST_NAME} characters without NUL"
        )


def check(program: "Program") -> None:
    """Raise InvalidInputError, naming the place, unless every name, shape and value of the program fits."""
    _check_names(program)
    _check_config(program.config)
    for name, shape in program.tensors.items():
        _require(_fits(shape), f"tensor {name} has shape {shape}")
    _require(len(program.input_ports) == 1, f"expected one input, got {len(program.input_ports)}")
    _require(len(program.output_ports) >= 1, "no output")
    for matrix_name, matrix in program.matrices.items():
        _check_matrix(program, matrix_name, matrix)
    for name, vector in program.vectors.items():
        fits = (
            vector.dtype == np.float32 and vector.ndim in (1, 3) and vector.size > 0 and bool(np.isfinite(vector).all())
        )
        _require(fits, f"vector {name} is not one-dimensional finite float32 (three-dimensional: filters)")
    for name, positions in program.indices.items():
        fits = positions.dtype == np.int32 and positions.ndim == 1 and positions.size > 0
        _require(fits and int(positions.min()) >= -1, f"list {name} is not one-dimensional int32 from -1 on")
    written = {port.tensor for port in program.input_ports}
    for chain in program.chains:
        _check_chain(program, chain, written)
        written.add(chain.writes)
    for port in (*program.input_ports, *program.output_ports):
        _check_port(program, port, written)
    magnitudes.check(program)


def _check_names(program: "Program") -> None:
    for name in (program.name, *program.tensors, *program.matrices, *program.vectors, *program.indices):
        check_name(name)
    for port in (*program.input_ports, *program.output_ports):
        for name in (port.name, port.tensor, port.layout):
            check_name(name)
    for chain in program.chains:
        for name in (chain.name, *(n for step in chain.instructions for n in (step.op, *step.operands))):
            check_name(name)
    outputs = [port.name for port in program.output_ports]
    _require(len(set(outputs)) == len(outputs), f"expected outputs of different names, got {outputs}")


def _check_config(config: NpuConfig) -> None:
    check_name(config.name)
    sizes = {name: getattr(config, name) for name in ("native_dimension", "tiles", "lanes", "clock_hz")}
    for name, size in sizes.items():
        kinds = int | float if name == "clock_hz" else int
        fits = isinstance(size, kinds) and not isinstance(size, bool) and 0 < size <= _LARGEST_SIZE
        _require(fits, f"the configuration's {name} is {size!r:.40}")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _fits(shape: Shape) -> bool:
    sides = len(shape) == 3 and all(map(_is_size, shape))
    return sides and max(shape[:2]) <= LARGEST_SIDE and shape[2] <= LARGEST_CHANNELS and prod(shape) <= LARGEST_TENSOR


def _check_port(program: "Program", port: Port, written: set[str]) -> None:
    _require(port.layout in LAYOUTS, f"port {port.name} has layout {port.layout!r}")
    _require(port.tensor in written and port.tensor in program.tensors, f"port {port.name} has no tensor")
    tensor = program.tensors[port.tensor]
    if port.shape:
        fits = all(map(_is_size, port.shape)) and prod(port.shape) == prod(tensor)
        _require(fits, f"port {port.name} has shape {port.shape}, its tensor {port.tensor} {tensor}")
    else:
        flat = tensor[:2] == (1, 1)
        _require(port.layout != "nc" or flat, f"port {port.name} is flat, its tensor {port.tensor} is not")


def _check_matrix(program: "Program", name: str, matrix: Matrix) -> None:
    fmt = program.config.number_format
    _require(matrix.blocking in ("channels", "rows"), f"matrix {name} has blocking {matrix.blocking!r}")
    sizes = (*matrix.kernel, matrix.channels, matrix.groups)
    _require(len(matrix.kernel) == 2 and all(map(_is_size, sizes)), f"matrix {name} has the sizes {sizes}")
    expected = matrix.expected_shape(fmt)
    _require(expected[2] <= 400, f"matrix {name} has blocks of {expected[2]}, at most 400 are possible")
    shapes_fit = matrix.mantissas.ndim == 4 and matrix.mantissas.shape[1:] == expected and matrix.outputs >= 1
    _require(shapes_fit, f"matrix {name}: expected [outputs, *{expected}], got {matrix.mantissas.shape}")
    _require(matrix.outputs % matrix.groups == 0, f"matrix {name}: {matrix.outputs} outputs in {matrix.groups} groups")
    _require(matrix.groups == 1 or matrix.blocking == "channels", f"matrix {name}: rows cannot be grouped")
    _require(matrix.exponents.shape == matrix.mantissas.shape[:3], f"matrix {name}: exponents do not fit mantissas")
    _require(matrix.mantissas.dtype == np.int8 and matrix.exponents.dtype == np.int32, f"matrix {name} has wrong types")
    largest = max(int(matrix.mantissas.max()), -int(matrix.mantissas.min()))
    _require(largest <= fmt.largest_mantissa, f"matrix {name}: mantissa {largest} is too large for {fmt}")
    low, high = int(matrix.exponents.min()), int(matrix.exponents.max())
    lowest, highest = fmt.exponent_range
    _require(lowest <= low and high <= highest, f"matrix {name}: exponents {low}..{high} are outside {fmt}")


def _check_chain(program: "Program", chain: Chain, written: set[str]) -> None:
    ops = [instruction.op for instruction in chain.instructions]
    where = f"chain {chain.name}"
    _require(len(ops) >= 2 and ops[0] == "v_rd" and ops[-1] == "v_wr", f"{where} does not read first and write last")
    _require("v_rd" not in ops[1:] and "v_wr" not in ops[:-1], f"{where} reads or writes in the middle")
    _require(ops.count("mv_mul") <= 1, f"{where} multiplies twice")
    _require(len(chain.reads) >= 1 and len(chain.instructions[-1].operands) == 1, f"{where} reads or writes nothing")
    for name in chain.reads:
        _require(name in written and name in program.tensors, f"{where} reads {name} before it is written")
    _require(chain.writes not in written, f"{where} writes {chain.writes} again")
    shapes = [program.tensors[name] for name in chain.reads]
    _require(len({shape[:2] for shape in shapes}) == 1, f"{where} concatenates different sizes")
    shape = (*shapes[0][:2], sum(shape[2] for shape in shapes))
    for instruction in chain.instructions[1:-1]:
        shape = _shape_after(program, where, instruction, shape, written)
        _require(_fits(shape), f"{where}: {instruction.op} makes {shape}")
    _require(program.tensors.get(chain.writes) == shape, f"{where} makes {shape}, not what {chain.writes} is")


def _shape_after(program: "Program", where: str, step: Instruction, shape: Shape, written: set[str]) -> Shape:
    _require(step.op in _FORMS, f"{where} has unknown operation {step.op!r}")
    operands, values, windowed = _FORMS[step.op]
    _require(len(step.operands) == operands, f"{where}: {step.op} has operands {step.operands}")
    _check_values(where, step, values)
    if windowed:
        return _after_window(program, where, step, shape)
    _require(step.window is None, f"{where}: {step.op} has a window")
    if step.op in ("vv_mul", "vv_add", "v_prelu"):
        _check_vector(program, where, step, shape, written)
    if step.op == "v_pick":
        return _after_pick(program, where, step, shape)
    if step.op == "v_blend":
        return _after_blend(program, where, step, shape)
    if step.op == "v_shape":
        height, width, channels = (int(n) for n in step.values)
        fits = (height, width, channels) == step.values and height * width * channels == prod(shape)
        _require(fits, f"{where}: v_shape {step.values} of {shape}")
        return height, width, channels
    return shape


def _check_values(where: str, step: Instruction, counts: tuple[int, ...]) -> None:
    given = f"{where}: {step.op} has values {step.values}"
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and v == v for v in step.values)
    _require(len(step.values) in counts and numbers, given)
    if step.op == "v_clip":
        _require(step.values[0] <= magnitudes.LARGEST_FLOAT and step.values[1] >= -magnitudes.LARGEST_FLOAT, given)
    else:
        _require(all(abs(v) <= magnitudes.LARGEST_FLOAT for v in step.values), given)
    if step.op == "v_lrn":
        size, alpha, beta, bias = step.values
        positive = float(np.float32(alpha / size)) > 0 and float(np.float32(bias)) > 0 if size else False
        _require(positive and 1 <= size == int(size) and beta in LRN_EXPONENTS, given)
    if step.op == "v_avg" and step.window is not None:
        fits = all(0 <= v <= pad and v == int(v) for v, pad in zip(step.values, step.window.pads, strict=False))
        _require(fits, given)


def _check_vector(program: "Program", where: str, step: Instruction, shape: Shape, written: set[str]) -> None:
    name = step.operands[0]
    constant = program.vectors.get(name)
    if constant is not None:
        fits = constant.shape == shape[2:]
        _require(fits, f"{where}: {step.op} of {constant.size} values with {shape[2]} channels")
    else:
        other = program.tensors.get(name, (0, 0, 0)) if name in written and step.op != "v_prelu" else (0, 0, 0)
        fits = all(size in (1, whole) for size, whole in zip(other, shape, strict=True))
        _require(fits, f"{where}: {step.op} {name} does not fit")


def _after_pick(program: "Program", where: str, step: Instruction, shape: Shape) -> Shape:
    sizes = list(shape)
    for axis, name in enumerate(step.operands):
        if name:
            sizes[axis] = len(_positions(program, where, name, shape[axis], -1))
    return sizes[0], sizes[1], sizes[2]


def _after_blend(program: "Program", where: str, step: Instruction, shape: Shape) -> Shape:
    _require(step.values[0] in (0, 1), f"{where}: v_blend has values {step.values}")
    axis, (first, second, name) = int(step.values[0]), step.operands
    count = len(_positions(program, where, first, shape[axis], 0))
    weights = program.vectors.get(name, np.zeros(0))
    fits = len(_positions(program, where, second, shape[axis], 0)) == count and weights.shape == (count,)
    _require(fits, f"{where}: v_blend with lists of different lengths")
    return (count, *shape[1:]) if axis == 0 else (shape[0], count, shape[2])


def _positions(program: "Program", where: str, name: str, size: int, lowest: int) -> np.ndarray:
    _require(name in program.indices, f"{where}: no list {name}")
    positions = program.indices[name]
    fits = lowest <= int(positions.min()) and int(positions.max()) < size
    _require(fits, f"{where}: list {name} holds {positions.min()}..{positions.max()}, expected positions below {size}")
    return positions


def _after_window(program: "Program", where: str, step: Instruction, shape: Shape) -> Shape:
    window, channels = step.window, shape[2]
    if window is None:
        raise InvalidInputError(f"inconsistent NPU program: {where}: {step.op} has no window")
    _check_window(where, step.op, window)
    if step.op == "mv_mul":
        channels = _check_product(program, where, step.operands[0], window, channels)
    if step.op == "v_filter":
        filters = program.vectors.get(step.operands[0], np.zeros(0))
        fits = filters.ndim == 3 and filters.shape[:2] == window.kernel and filters.shape[2] % channels == 0
        _require(fits, f"{where}: filters {step.operands[0]} {filters.shape} do not fit {window}, {channels} channels")
        channels = filters.shape[2]
    rows, columns = window.output_size(*shape[:2])
    _require(rows >= 1 and columns >= 1, f"{where}: {step.op} {window} does not fit {shape[0]}x{shape[1]}")
    if step.op == "v_avg":
        for counts in window.positions_counted(*shape[:2], step.values):
            _require(int(counts.min()) >= 1, f"{where}: an average over nothing ({window})")
    return rows, columns, channels


def _check_product(program: "Program", where: str, name: str, window: Window, channels: int) -> int:
    _require(name in program.matrices, f"{where}: no matrix {name}")
    matrix = program.matrices[name]
    taken = matrix.channels * matrix.groups
    _require(taken == channels, f"{where}: {name} takes {taken} channels, not {channels}")
    _require(matrix.kernel == window.kernel, f"{where}: {name} is {matrix.kernel}, not {window.kernel}")
    _require(matrix.blocking == "channels" or window.dilations == (1, 1), f"{where}: rows cannot be dilated")
    return matrix.outputs


def _check_window(where: str, op: str, window: Window) -> None:
    sides = (*window.kernel, *window.strides, *window.dilations)
    _require(all(isinstance(n, int) and 1 <= n <= LARGEST_SIDE for n in sides), f"{where}: {op} has window {window}")
    reach = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    pads_fit = all(
        isinstance(pad, int) and 0 <= pad < (reach[i % 2] if op == "v_max" else LARGEST_SIDE)
        for i, pad in enumerate(window.pads)
    )
    _require(len(window.pads) == 4 and pads_fit, f"{where}: {op} has pads {window.pads}")
    dilated = window.dilations != (1, 1)
    _require(op != "v_max" or not (dilated and any(window.pads)), f"{where}: a dilated maximum with padding")
