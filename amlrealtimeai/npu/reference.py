"""The specification: runs a program in NumPy, one operation per function, slowly and plainly.

Everything faster has to give the same bits. A tensor here is float32 [height, width, channels]. The order of every
float32 addition matters: taps (row by row), inside a tap the blocks in ascending order, then the bias, the residual.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu import vector_math
from amlrealtimeai.npu.formats import BlockFormat, block_exponents, mantissas_of, pad_last
from amlrealtimeai.npu.instructions import Chain, Instruction, Matrix, Window
from amlrealtimeai.npu.program import Program


def run(program: Program, x: np.ndarray, trace: bool = False) -> dict[str, np.ndarray]:
    """Run `program` on float32 `x` (the input's shape, any batch); returns {output name: array}.

    With trace=True the dictionary also holds every tensor of the program, as float32 [n, height, width, channels],
    under its own name, which wins where an output has the same. Raises InvalidInputError for a wrong shape or dtype,
    NaN or infinity.
    """
    images = program.check_input(x)
    runs = [_run_image(program, image) for image in images]
    tensors = {name: np.stack([one[name] for one in runs]) for name in runs[0]}
    outputs = {port.name: program.to_port(port, tensors[port.tensor]) for port in program.output_ports}
    return {**outputs, **tensors} if trace else outputs


def _run_image(program: Program, image: np.ndarray) -> dict[str, np.ndarray]:
    tensors = {program.input_ports[0].tensor: image}
    for chain in program.chains:
        tensors[chain.writes] = run_chain(program, chain, tensors)
    return tensors


def run_chain(program: Program, chain: Chain, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """What `chain` writes, given the tensors that it reads."""
    value = read(chain, tensors)
    for instruction in chain.instructions[1:-1]:
        value = execute(program, instruction, value, tensors)
    return value


def operand(program: Program, chain: Chain, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """What `chain` has in hand when it comes to its mv_mul: the float32 values that are quantised there."""
    value = read(chain, tensors)
    for instruction in chain.instructions[1:-1]:
        if instruction.op == "mv_mul":
            return value
        value = execute(program, instruction, value, tensors)
    raise InvalidInputError(f"expected a chain with mv_mul, got {chain.name} without")


def read(chain: Chain, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """What `chain` begins with: the tensors that it reads, side by side."""
    return np.concatenate([tensors[name] for name in chain.reads], axis=-1)


def execute(
    program: Program, instruction: Instruction, value: np.ndarray, tensors: dict[str, np.ndarray]
) -> np.ndarray:
    """`value` after one instruction of a chain."""
    match instruction:
        case Instruction("mv_mul", (name,), Window() as window):
            return mv_mul(value, program.matrices[name], window, program.config.number_format)
        case Instruction("v_filter", (name,), Window() as window):
            return v_filter(value, program.vectors[name], window)
        case Instruction("vv_mul", (name,)):
            return value * (program.vectors[name] if name in program.vectors else tensors[name])
        case Instruction("vv_add", (name,)):
            return value + (program.vectors[name] if name in program.vectors else tensors[name])
        case Instruction("v_max", (), Window() as window):
            return v_max(value, window)
        case Instruction("v_avg", (), Window() as window, counted):
            return v_avg(value, window, counted)
        case Instruction("v_pick", names, None, (fill,)):
            return v_pick(value, [program.indices[name] if name else None for name in names], fill)
        case Instruction("v_blend", (first, second, weights), None, (axis,)):
            i, j = program.indices[first], program.indices[second]
            return v_blend(value, i, j, program.vectors[weights], int(axis))
        case Instruction("v_shape", (), None, shape):
            return value.reshape([int(size) for size in shape])
    return _activate(program, instruction, value)


def _activate(program: Program, instruction: Instruction, value: np.ndarray) -> np.ndarray:
    match instruction:
        case Instruction("v_relu"):
            return np.where(value > 0, value, np.float32(0))
        case Instruction("v_threshold", (), None, (limit,)):
            return np.where(value > np.float32(limit), value, np.float32(0))
        case Instruction("v_prelu", (name,)):
            return np.where(value < 0, value * program.vectors[name], value)
        case Instruction("v_clip", (), None, (low, high)):
            return vector_math.clip(value, low, high)
        case Instruction("v_sigmoid"):
            return vector_math.sigmoid(value)
        case Instruction("v_silu"):
            return vector_math.silu(value)
        case Instruction("v_hsigmoid", (), None, (alpha, beta)):
            return vector_math.hard_sigmoid(value, alpha, beta)
        case Instruction("v_hswish", (), None, (alpha, beta)):
            return value * vector_math.hard_sigmoid(value, alpha, beta)
        case Instruction("v_lrn", (), None, (size, alpha, beta, bias)):
            return vector_math.lrn(value, int(size), alpha, beta, bias)
    raise AssertionError(f"a checked program has no {instruction}")


def mv_mul(value: np.ndarray, matrix: Matrix, window: Window, fmt: BlockFormat) -> np.ndarray:
    """Quantise `value`, multiply it with `matrix` at each position of `window`: float32 [rows, columns, outputs]."""
    return np.concatenate(
        [
            _multiply_group(part, group, window, fmt)
            for part, group in zip(np.split(value, matrix.groups, axis=-1), _groups(matrix), strict=True)
        ],
        axis=-1,
    )


def _groups(matrix: Matrix) -> list[Matrix]:
    """The matrix of each group alone."""
    pairs = zip(*(np.split(part, matrix.groups) for part in (matrix.mantissas, matrix.exponents)), strict=True)
    return [replace(matrix, mantissas=mantissas, exponents=exponents, groups=1) for mantissas, exponents in pairs]


def _multiply_group(value: np.ndarray, matrix: Matrix, window: Window, fmt: BlockFormat) -> np.ndarray:
    rows, columns = window.output_size(*value.shape[:2])
    total = np.zeros((rows * columns, matrix.outputs), np.float32)
    steps = matrix.exponents - (fmt.mantissa_bits - 1)
    padded = _padded(value, window, 0)
    quantized = _image_block(padded, fmt) if matrix.blocking == "rows" else _channel_blocks(padded, matrix, fmt)
    tap_of = _row_tap if matrix.blocking == "rows" else _pixel_tap
    for tap in range(matrix.mantissas.shape[1]):
        x = tap_of(quantized, matrix, window, tap, value.shape[:2])
        weights = matrix.mantissas[:, tap] * _power_of_two(steps[:, tap, :, None])
        for block in range(matrix.mantissas.shape[2]):
            # every partial sum is an integer below 2**24 times a normal power of two (the product of the two steps), so
            # float32 holds it and the order inside does not matter
            total += x[:, block] @ weights[:, block].T
    return total.reshape(rows, columns, matrix.outputs)


def _power_of_two(exponents: np.ndarray) -> np.ndarray:
    return np.ldexp(np.float32(1), exponents)


def _channel_blocks(value: np.ndarray, matrix: Matrix, fmt: BlockFormat) -> np.ndarray:
    """`value` quantised in blocks of channels: float32 [h, w, blocks, block]."""
    length = matrix.mantissas.shape[3]
    blocks = pad_last(value, length).reshape(*value.shape[:2], -1, length)
    return _quantized(blocks, block_exponents(np.abs(blocks).max(-1), fmt)[..., None], fmt)


def _image_block(value: np.ndarray, fmt: BlockFormat) -> np.ndarray:
    """`value` quantised with one exponent for the whole tensor: float32 [h, w, channels]."""
    return _quantized(value, block_exponents(np.abs(value).max(), fmt), fmt)


def _quantized(value: np.ndarray, exponents: np.ndarray, fmt: BlockFormat) -> np.ndarray:
    return mantissas_of(value, exponents, fmt) * _power_of_two(exponents - (fmt.mantissa_bits - 1))


def _pixel_tap(quantized: np.ndarray, matrix: Matrix, window: Window, tap: int, size: tuple[int, ...]) -> np.ndarray:
    """What kernel position `tap` sees: float32 [pixels, blocks, block].

    quantized: with the padding, which is zero, around an image of `size`.
    """
    down, right = np.divmod(tap, matrix.kernel[1]) * np.array(window.dilations)
    return _strided(quantized, window, int(down), int(right), size).reshape(-1, *quantized.shape[2:])


def _row_tap(quantized: np.ndarray, matrix: Matrix, window: Window, tap: int, size: tuple[int, ...]) -> np.ndarray:
    """What kernel row `tap` sees: float32 [pixels, 1, kernel width * channels, padded]."""
    columns = [_strided(quantized, window, tap, right, size) for right in range(matrix.kernel[1])]
    row = pad_last(np.concatenate(columns, axis=-1), 4)
    return row.reshape(-1, 1, row.shape[-1])


def _padded(image: np.ndarray, window: Window, fill: float) -> np.ndarray:
    top, left, bottom, right = window.pads
    return np.pad(image, [(top, bottom), (left, right)] + [(0, 0)] * (image.ndim - 2), constant_values=fill)


def _strided(padded: np.ndarray, window: Window, down: int, right: int, size: tuple[int, ...]) -> np.ndarray:
    """The pixel at offset (down, right) of every window position."""
    rows, columns = window.output_size(*size)
    vertical, horizontal = window.strides
    return padded[
        down : down + (rows - 1) * vertical + 1 : vertical, right : right + (columns - 1) * horizontal + 1 : horizontal
    ]


def _positions(window: Window) -> list[tuple[int, int]]:
    (height, width), (down, right) = window.kernel, window.dilations
    return [(y * down, x * right) for y in range(height) for x in range(width)]


def v_max(value: np.ndarray, window: Window) -> np.ndarray:
    """Maximum over each window, in row order (of +0 and -0 the first stays); padding never wins."""
    padded = _padded(value, window, -np.inf)
    best = np.full((*window.output_size(*value.shape[:2]), value.shape[2]), -np.inf, np.float32)
    for y, x in _positions(window):
        candidate = _strided(padded, window, y, x, value.shape[:2])
        best = np.where(candidate > best, candidate, best)
    return best


def v_avg(value: np.ndarray, window: Window, counted: tuple[float, ...] = ()) -> np.ndarray:
    """Sum over each window in row order, from +0, times the float32 reciprocal of how many positions count.

    counted: how far into the padding they do (top, left, bottom, right); () for the image alone.
    """
    padded = _padded(value, window, 0)
    total = np.zeros((*window.output_size(*value.shape[:2]), value.shape[2]), np.float32)
    for y, x in _positions(window):
        total += _strided(padded, window, y, x, value.shape[:2])
    down, right = window.positions_counted(value.shape[0], value.shape[1], counted)
    return total * (np.float32(1) / (down[:, None, None] * right[:, None]).astype(np.float32))


def v_filter(value: np.ndarray, filters: np.ndarray, window: Window) -> np.ndarray:
    """Each channel's windows times its own filters [kernel height, kernel width, outputs], in row order from +0.

    Output o reads channel o // (outputs / channels). Padding adds nothing.
    """
    each = np.repeat(value, filters.shape[2] // value.shape[2], axis=2)
    padded, size = _padded(each, window, 0), value.shape[:2]
    total = np.zeros((*window.output_size(*size), filters.shape[2]), np.float32)
    for taps, (y, x) in zip(filters.reshape(-1, filters.shape[2]), _positions(window), strict=True):
        total += _strided(padded, window, y, x, size) * taps
    return total


def v_pick(value: np.ndarray, lists: Sequence[np.ndarray | None], fill: float) -> np.ndarray:
    """The rows, columns and channels in `lists` (None: all); -1 stands for `fill`."""
    for axis, positions in enumerate(lists):
        if positions is not None:
            empty = (positions < 0).reshape([-1 if i == axis else 1 for i in range(3)])
            value = np.where(empty, np.float32(fill), np.take(value, positions, axis))
    return value


def v_blend(value: np.ndarray, i: np.ndarray, j: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Rows (axis 0) or columns (axis 1) `i` times 1 - weight, plus those of `j` times weight."""
    each = weights[:, None, None] if axis == 0 else weights[:, None]
    return np.take(value, i, axis) * (np.float32(1) - each) + np.take(value, j, axis) * each
