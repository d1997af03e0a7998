"""The plan of src/plan.h for one program: what `steps` found, with addresses."""

from ctypes import c_float, c_int32

import numpy as np

from amlrealtimeai.npu.formats import block_length, pad_last
from amlrealtimeai.npu.native import layout
from amlrealtimeai.npu.native.packing import group_channels, lanes_of, pack_weights, place
from amlrealtimeai.npu.native.steps import NONE, Node, Steps, Stored, intervals
from amlrealtimeai.npu.program import Program


class PlanBuilder:
    """Builds `plan`; owns the memory that the plan points to."""

    def __init__(self, program: Program, keep: bool) -> None:
        self._format = program.config.number_format
        self._sizes = layout.sizes()
        self.steps = Steps(program, keep)
        self.alive: list[np.ndarray] = []
        self._operations: list[layout.Operation] = []
        self._scratch = 0
        self._tensors = [self._tensor(one) for one in self.steps.stored]
        arena = self._place(keep)
        steps = [self._step(node) for node in self.steps.nodes]
        outputs = self.steps.outputs
        self.arrays = (
            (layout.Tensor * len(self._tensors))(*self._tensors),
            (layout.Step * len(steps))(*steps),
            (layout.Operation * max(1, len(self._operations)))(*self._operations),
            (c_int32 * len(outputs))(*outputs),
        )
        self.plan = layout.Plan(
            *self.arrays,
            len(self._tensors),
            len(steps),
            len(outputs),
            self.steps.numbers[program.input_ports[0].tensor],
            self._format.mantissa_bits,
            *self._format.exponent_range,
            arena,
            self._scratch,
        )

    def _tensor(self, one: Stored) -> layout.Tensor:
        height, width, channels = one.shape
        dense = one.whole or one.external or one.parts > 1
        lanes = channels if dense else lanes_of(channels, self._format)
        length = channels if one.whole else block_length(channels // max(1, one.parts), self._format)
        return layout.Tensor(
            height=height,
            width=width,
            channels=channels,
            lanes=lanes,
            has_floats=one.external or one.last_float >= 0,
            length=length,
            blocks=lanes // length if one.last_quantized >= 0 else 0,
            whole=one.whole,
            is_signed=one.is_signed,
            top=one.halo[0],
            left=one.halo[1],
            bottom=one.halo[2],
            right=one.halo[3],
            floats=-1,
        )

    def _place(self, keep: bool) -> int:
        stored = self.steps.stored
        needs = list(intervals(stored, len(self.steps.nodes), keep))
        sizes = []
        for number, form, first, last in needs:
            size = self._bytes_of(self._tensors[number], form)
            sizes.append((size + -size % 64, first, last))
        offsets, total = place(sizes)
        for (number, form, _, _), offset in zip(needs, offsets, strict=True):
            tensor = self._tensors[number]
            if form == "floats":
                tensor.floats = offset
            else:
                tensor.steps = offset
                step_bytes = _step_bytes(tensor)
                tensor.mantissas = offset + step_bytes + -step_bytes % 64
        for number, one in enumerate(stored):
            if one.floats_in != NONE:
                self._tensors[number].floats = self._tensors[one.floats_in].floats
        return total

    def _bytes_of(self, tensor: layout.Tensor, form: str) -> int:
        if form == "floats":
            return int(4 * tensor.height * tensor.width * tensor.lanes + self._sizes.slack)
        return int(_step_bytes(tensor) + 64 + _pixels(tensor) * tensor.lanes + self._sizes.slack)

    def _step(self, node: Node) -> layout.Step:
        window = node.window
        step = layout.Step(
            kind=node.kind,
            source=node.sources[0],
            destination=node.destination,
            residual=node.residual,
            relu=node.relu,
            kernel_h=window.kernel[0],
            kernel_w=window.kernel[1],
            stride_h=window.strides[0],
            stride_w=window.strides[1],
            dilation_h=window.dilations[0],
            dilation_w=window.dilations[1],
            pad_top=window.pads[0],
            pad_left=window.pads[1],
            first_operation=len(self._operations),
            operations=len(node.operations),
            counted=node.counted,
            axis=node.axis,
            fill=node.fill,
        )
        for i, positions in enumerate(node.lists):
            step.lists[i] = None if positions is None else self._keep(np.ascontiguousarray(positions))
        if node.factors is not None:
            step.factors = self._keep(_in_sixteens(node.factors))
        lanes = self._tensors[node.destination].lanes
        if node.kind == layout.CONV:
            self._add_weights(node, step)
        else:
            self._scratch = max(self._scratch, self._sizes.pixels * (lanes + -lanes % 16) + node.work)
        for one in node.operations:
            constant = None if one.constant is None else self._constant(one.constant, lanes)
            numbers = (c_float * 4)(*one.numbers)
            self._operations.append(layout.Operation(one.kind, one.tensor, one.channel, numbers, constant))
        return step

    def _add_weights(self, node: Node, step: layout.Step) -> None:
        assert node.matrix is not None
        target, panel = self._tensors[node.destination], self._sizes.panel
        _, step.taps, step.blocks, step.length = node.matrix.mantissas.shape
        is_signed, step.parts = bool(self._tensors[step.source].is_signed), node.matrix.groups
        if step.parts > 1:
            packed = pack_weights(node.matrix, self._format, node.matrix.outputs // step.parts, panel, is_signed)
            step.group_channels, step.groups = target.lanes, 1
        else:
            group = group_channels(node.matrix, target.length, panel)
            packed = pack_weights(node.matrix, self._format, group, panel, is_signed)
            step.group_channels, step.groups = group, packed.shape[0]
        step.group_bytes = packed[0].nbytes
        step.weights = self._keep(packed.reshape(-1))
        if node.bias is not None:
            step.bias = self._constant(node.bias, target.lanes)
        self._add_taps(node, step)
        # the last panel of a part reaches into the next one
        row = step.group_channels + -step.group_channels % panel + (panel if step.parts > 1 else 0)
        self._scratch = max(self._scratch, 2 * self._sizes.run_pixels * row)

    def _add_taps(self, node: Node, step: layout.Step) -> None:
        """Where each tap lies, from the corner of the halo at the first output pixel on."""
        source, window = self._tensors[step.source], node.window
        columns = 1 if source.whole else window.kernel[1]
        down, right = np.divmod(np.arange(step.taps, dtype=np.int64), columns)
        row_pixels = source.left + source.width + source.right
        pixels = (down * window.dilations[0] + source.top - window.pads[0]) * row_pixels
        pixels += right * window.dilations[1] + source.left - window.pads[1]
        step.tap_bytes = self._keep(pixels * source.lanes)
        step.tap_steps = self._keep(pixels * (0 if source.whole else source.blocks))

    def _constant(self, vector: np.ndarray, lanes: int) -> int:
        # a group of channels may begin anywhere and is read in sixteens
        return self._keep(_in_sixteens(np.pad(vector, (0, lanes + 16 - len(vector)))))

    def _keep(self, array: np.ndarray) -> int:
        self.alive.append(array)
        return array.ctypes.data


def _in_sixteens(values: np.ndarray) -> np.ndarray:
    """float32 [..., n] with zeros up to a multiple of 16, the width of the vector functions."""
    return np.ascontiguousarray(pad_last(values, 16))


def _pixels(tensor: layout.Tensor) -> int:
    height = tensor.height + tensor.top + tensor.bottom
    return int(height * (tensor.width + tensor.left + tensor.right))


def _step_bytes(tensor: layout.Tensor) -> int:
    return 4 * (1 if tensor.whole else _pixels(tensor) * tensor.blocks)
