"""Weights in block floating point, and what of them the format cannot hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.formats import BlockFormat, block_exponents, block_length, mantissas_of, pad_last
from amlrealtimeai.npu.lowering.layers import Layer

_PART = 2**22  # weights that are quantised at once: what that needs beside them stays small


@dataclass(frozen=True)
class Lost:
    """How many weights of a layer saturate, and how many that are not 0 become 0 for being too small."""

    saturated: int = 0
    vanished: int = 0


def scaled_weights(layer: Layer, outputs: slice = slice(None)) -> np.ndarray:
    """The weights of some outputs times their gain, multiplied in float64 and rounded to float32 once."""
    assert layer.weights is not None
    if layer.gain is None:
        return layer.weights[outputs]
    return (layer.weights[outputs] * layer.gain[outputs, None, None, None]).astype(np.float32)


def check_constants(layers: Sequence[Layer]) -> None:
    """Raise InvalidInputError where folded constants do not fit float32; what passes can be quantised."""
    for layer in layers:
        parts = {"scale": layer.gain if layer.op == "affine" else None, "bias": layer.bias}
        if layer.weights is not None and layer.gain is not None:
            largest = np.maximum(layer.weights.max((1, 2, 3)), -layer.weights.min((1, 2, 3)))
            parts["weights"] = largest.astype(np.float64) * layer.gain
        for what, values in parts.items():
            with np.errstate(over="ignore"):
                fits = values is None or bool(np.isfinite(values.astype(np.float32)).all())
            if not fits:
                raise InvalidInputError(f"the {what} of {layer.name} does not fit float32 after folding what follows")


def quantised(layer: Layer, blocking: str, fmt: BlockFormat) -> tuple[np.ndarray, np.ndarray, Lost]:
    """Mantissas int8 [outputs, taps, blocks, length], exponents int32 [outputs, taps, blocks], and what was lost."""
    assert layer.weights is not None
    outputs, height, width, channels = layer.weights.shape
    row = width * channels
    taps, vector, length = (height, row, row + -row % 4) if blocking == "rows" else (height * width, channels, 0)
    length = length or block_length(channels, fmt)
    mantissas = np.empty((outputs, taps, -(-vector // length), length), np.int8)
    exponents = np.empty(mantissas.shape[:3], np.int32)
    step, saturated, vanished = max(1, _PART // (taps * vector)), 0, 0
    lowest, highest = fmt.exponent_range
    for first in range(0, outputs, step):
        part = slice(first, first + step)
        blocks = pad_last(scaled_weights(layer, part).reshape(-1, taps, vector), length).reshape(
            -1, *mantissas.shape[1:]
        )
        maxima = np.abs(blocks).max(-1)
        exponents[part] = block_exponents(maxima, fmt)
        mantissas[part] = mantissas_of(blocks, exponents[part, ..., None], fmt)
        large, small = maxima >= 2.0 ** (highest + 1), (maxima < 2.0**lowest) & (maxima > 0)
        if large.any():
            saturated += int((np.abs(blocks[large]) >= 2.0 ** (highest + 1)).sum())
        if small.any():
            vanished += int(((blocks[small] != 0) & (mantissas[part][small] == 0)).sum())
    return mantissas, exponents, Lost(saturated, vanished)


def lost_weights(lost: Mapping[str, Lost], fmt: BlockFormat) -> list[str]:
    """A sentence for each kind of weights beyond the format's exponents, with the layer that has the most."""
    said = []
    kinds = {
        "saturated": "are beyond the exponent range of {} and saturate",
        "vanished": "are too small for {} and become 0",
    }
    for field, what in kinds.items():
        counts = {name: getattr(one, field) for name, one in lost.items() if getattr(one, field)}
        if counts:
            worst = max(counts, key=lambda name: counts[name])
            said.append(
                f"{sum(counts.values())} weights in {len(counts)} layers {what.format(fmt)} "
                f"(most in {worst}: {counts[worst]}); choose a format with 8 exponent bits, or scale the weights"
            )
    return said
