"""A program's chains without its number format, in float64 products: tells a wrong lowering from rounding.

What the format rounds away is gone, so what is left of a difference to ONNX Runtime is a layer that is lowered wrongly,
or float32's own rounding.
"""

from typing import Any
from unittest import mock

import numpy as np

from amlrealtimeai import npu
from amlrealtimeai.npu import compiler, reference
from amlrealtimeai.npu.instructions import Matrix, Window
from amlrealtimeai.npu.lowering.layers import Layer
from amlrealtimeai.npu.lowering.weights import quantised, scaled_weights


def run(model: Any, outputs: list[str] | None, x: np.ndarray) -> dict[str, np.ndarray]:
    """What `model` compiled would compute of `x` [1, ...] if its matrices and activations were not quantised."""
    weights: dict[int, np.ndarray] = {}
    kept = []

    def keeping(layer: Layer, *rest: Any) -> Any:
        found = quantised(layer, *rest)
        weights[id(found[0])] = scaled_weights(layer)
        kept.append(found[0])  # so that no other array gets its number
        return found

    def product(value: np.ndarray, matrix: Matrix, window: Window, _: Any) -> np.ndarray:
        return _convolution(value, weights[id(matrix.mantissas)], window, matrix.groups)

    with mock.patch.object(compiler, "quantised", keeping):
        program = npu.compile(model, fmt="msfp16", outputs=outputs)
    with mock.patch.object(reference, "mv_mul", product):
        return reference.run(program, x)


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
