"""Weights in the order in which the kernel reads them, and tensors' places in the arena."""

from math import lcm

import numpy as np

from amlrealtimeai.npu.formats import BlockFormat, block_length
from amlrealtimeai.npu.program import Matrix

# A group's weights should stay in a core's L2 cache while all pixels pass.
_GROUP_BYTES = 600_000
_GROUP_CHANNELS = 256


def lanes_of(channels: int, fmt: BlockFormat) -> int:
    """Channels rounded up to whole blocks: what a pixel takes in memory. The lanes behind the channels hold +0."""
    return channels + -channels % block_length(channels, fmt)


def group_channels(matrix: Matrix, length: int, panel: int) -> int:
    """Output channels that are worked on together: whole blocks of `length` and panels, as many as the cache holds."""
    taps, blocks, block = matrix.mantissas.shape[1:]
    fitting = max(length, min(_GROUP_CHANNELS, _GROUP_BYTES // (taps * blocks * block)))
    padded = matrix.outputs + -matrix.outputs % length
    whole = lcm(length, panel)
    whole = whole if whole <= _GROUP_CHANNELS else length
    return padded if padded <= fitting else max(whole, fitting // whole * whole)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """A new uint8 array that begins on a cache line, so that no vector load crosses one."""
    size = int(np.prod(shape))
    room = np.empty(size + 63, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].reshape(shape)


def pack_weights(matrix: Matrix, fmt: BlockFormat, group: int, panel: int, is_signed: bool) -> np.ndarray:
    """Weights as uint8 [groups, panels, taps, blocks, bytes] in the order of plan.h, zeros behind the last output."""
    outputs, taps, blocks, length = matrix.mantissas.shape
    groups, panels = -(-outputs // group), -(-group // panel)
    packed = np.zeros((groups, panels * panel, taps, blocks, length), np.int8)
    steps = np.zeros((groups, panels * panel, taps, blocks), np.int32)
    for number in range(groups):
        part = matrix.mantissas[number * group : (number + 1) * group]
        packed[number, : len(part)] = part
        steps[number, : len(part)] = matrix.exponents[number * group : (number + 1) * group]
    steps = (steps - (fmt.mantissa_bits - 1) + 127) << 23
    header = panel * 4 * (2 if is_signed else 1)
    out = aligned((groups, panels, taps, blocks, header + panel * length))
    by_panel = (groups, panels, panel, taps, blocks)
    out[..., : panel * 4] = _last(steps.reshape(by_panel)).view(np.uint8)
    if is_signed:
        starts = -128 * packed.sum(-1, dtype=np.int32)
        out[..., panel * 4 : header] = _last(starts.reshape(by_panel)).view(np.uint8)
    quads = packed.reshape(*by_panel, length // 4, 4).transpose(0, 1, 3, 4, 5, 2, 6)
    body = out[..., header:].reshape(groups, panels, taps, blocks, length // 4, panel, 4)
    body[...] = quads.view(np.uint8)
    return out


def _last(values: np.ndarray) -> np.ndarray:
    """[groups, panels, panel, taps, blocks] -> [groups, panels, taps, blocks, panel], contiguous."""
    return np.ascontiguousarray(np.moveaxis(values, 2, -1))


def place(sizes: list[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets for (bytes, first step, last step), and the total; tensors alive at the same step never overlap."""
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i][0])
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for i in order:
        size, first, last = sizes[i]
        alive = sorted(
            (offsets[j], offsets[j] + sizes[j][0]) for j in placed if sizes[j][1] <= last and first <= sizes[j][2]
        )
        offset = 0
        for begin, finish in alive:
            if offset + size <= begin:
                break
            offset = max(offset, finish)
        offsets[i] = offset
        placed.append(i)
    return offsets, max((offsets[i] + sizes[i][0] for i in order), default=0)
