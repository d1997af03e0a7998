"""A program's chains without its number format, in float64 products: tells a wrong lowering from rounding.

What the format rounds away is gone, so what is left of a difference to the model is a layer that is lowered wrongly, or
float32's own rounding.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto

from amlrealtimeai.npu import reference
from amlrealtimeai.npu.compiler import compile_with_weights
from amlrealtimeai.npu.instructions import Chain, Window
from amlrealtimeai.npu.program import Program


def run(model: ModelProto | Path | str, x: np.ndarray, outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """What `model` compiled would compute of float32 `x`, any batch, if nothing was quantised."""
    program, weights = compile_with_weights(model, outputs)
    images = program.check_input(x)
    runs = [_run_image(program, weights, image) for image in images]
    return {
        port.name: program.to_port(port, np.stack([one[port.tensor] for one in runs])) for port in program.output_ports
    }


def _run_image(program: Program, weights: dict[str, np.ndarray], image: np.ndarray) -> dict[str, np.ndarray]:
    tensors = {program.input_ports[0].tensor: image}
    for chain in program.chains:
        tensors[chain.writes] = _run_chain(program, weights, chain, tensors)
    return tensors


def _run_chain(
    program: Program, weights: dict[str, np.ndarray], chain: Chain, tensors: dict[str, np.ndarray]
) -> np.ndarray:
    value = reference.read(chain, tensors)
    for instruction in chain.instructions[1:-1]:
        if instruction.op == "mv_mul":
            (name,), window = instruction.operands, instruction.window
            assert window is not None
            value = _convolution(value, weights[name], window, program.matrices[name].groups)
        else:
            value = reference.execute(program, instruction, value, tensors)
    return value


def _convolution(value: np.ndarray, weights: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """float32 [rows, columns, outputs]; value [h, w, channels], weights [outputs, kh, kw, channels of a group]."""
    top, left, bottom, right = window.pads
    padded = np.pad(value.astype(np.float64), [(top, bottom), (left, right), (0, 0)])
    rows, columns = window.output_size(*value.shape[:2])
    (down, across), (vertical, horizontal) = window.strides, window.dilations
    total = np.zeros((rows * columns, weights.shape[0]))
    parts = np.split(np.arange(value.shape[2]), groups)
    each = weights.shape[0] // groups
    for y in range(weights.shape[1]):
        for x in range(weights.shape[2]):
            first, begin = y * vertical, x * horizontal
            seen = padded[
                first : first + (rows - 1) * down + 1 : down, begin : begin + (columns - 1) * across + 1 : across
            ]
            seen = seen.reshape(rows * columns, -1)
            for group, channels in enumerate(parts):
                own = slice(group * each, (group + 1) * each)
                total[:, own] += seen[:, channels] @ weights[own, y, x].T.astype(np.float64)
    return total.reshape(rows, columns, -1).astype(np.float32)
