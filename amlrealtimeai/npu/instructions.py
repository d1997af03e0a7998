"""The parts of an NPU program: chains of Brainwave-style instructions over named vectors, and what they work on.

A tensor is an image of `height x width` vectors of `channels` float32 values. A chain reads one (v_rd), passes it
through the units, and writes one (v_wr). All arithmetic is float32, one rounding for each operation named:

    v_rd t [u ...]     read the tensor; several names are concatenated along the channels
    mv_mul M  window   quantise what was read into blocks and multiply it with matrix M at every output pixel
    vv_mul v | t       multiply every vector with the constant v, or element by element with the tensor t, which is of
                       the same shape or of size 1 in some of its directions
    vv_add v | t       add the constant v to every vector, or the tensor t like vv_mul
    v_relu             x where x > 0, else +0
    v_prelu v          x, or x * v where x < 0
    v_clip low high    x where x > low, else low; then that where it is < high, else high
    v_threshold a      x where x > a, else +0
    v_sigmoid          1 / (1 + exp(-x)), v_silu: x / (1 + exp(-x)); the order of their operations is in vector_math
    v_hsigmoid a b     x * a + b, then v_clip 0 1; v_hswish a b: x * (v_hsigmoid a b of x)
    v_lrn n alpha beta bias   x / (bias + alpha / n * the sum of squares of n channels) ** beta (vector_math)
    v_filter f window  each channel's window times its own filters f, summed from +0 in row order (depthwise); padding
                       adds nothing
    v_max window       maximum over the window (padding never wins)
    v_avg window       sum over the window in row order, times the float32 reciprocal of how many positions count: those
                       in the image, and in as much of the padding as its four values (top, left, bottom, right) say
    v_pick r c k fill  the rows r, columns c and channels k, lists of positions; "" takes all, -1 is the value `fill`
    v_blend i j v axis the rows (axis 0) or columns (axis 1) i times 1 - v, plus those of j times v
    v_shape h w c      the same values in the same order (rows, columns, channels) as an image of that shape
    v_wr t             write the tensor
"""

from dataclasses import dataclass

import numpy as np

from amlrealtimeai.npu.formats import BlockFormat, block_length

Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Window:
    """A sliding window. Pairs are (vertical, horizontal); pads are (top, left, bottom, right)."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output pixels (vertical, horizontal) for an input of that size."""
        padded = (height + self.pads[0] + self.pads[2], width + self.pads[1] + self.pads[3])
        reach = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        rows, columns = ((p - r) // s + 1 for p, r, s in zip(padded, reach, self.strides, strict=True))
        return rows, columns

    def positions_counted(self, height: int, width: int, counted: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        """How many rows and columns of each window lie in the image and the `counted` padding around it.

        counted: (top, left, bottom, right), or () for none. Returns int arrays [output rows], [output columns].
        """
        before_after = [int(n) for n in counted] or [0, 0, 0, 0]
        found = []
        for axis, size in enumerate((height, width)):
            first = np.arange(self.output_size(height, width)[axis]) * self.strides[axis] - self.pads[axis]
            positions = first[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
            inside = (positions >= -before_after[axis]) & (positions < size + before_after[axis + 2])
            found.append(inside.sum(1))
        return found[0], found[1]

    def __str__(self) -> str:
        text = f"{self.kernel[0]}x{self.kernel[1]}"
        if self.strides != (1, 1):
            text += f" stride {self.strides[0]}x{self.strides[1]}"
        if self.dilations != (1, 1):
            text += f" dilation {self.dilations[0]}x{self.dilations[1]}"
        if any(self.pads):
            text += " pad " + ",".join(map(str, self.pads))
        return text


@dataclass(frozen=True, eq=False)
class Matrix:
    """Quantised weights of a convolution or dense layer.

    groups: the input's channels and the outputs are dealt to that many groups in order, and each output sees the
    `channels` channels of its own group only; no block goes beyond its group.
    blocking "channels": one tap per kernel position (row by row), blocks of consecutive input channels.
    blocking "rows": one tap per kernel row, whose kernel-width x channels weights are one block; what it multiplies is
    quantised with one exponent for the whole tensor (the image with its three channels).
    mantissas: int8 [outputs, taps, blocks, block length], zero-padded. exponents: int32 [outputs, taps, blocks].
    """

    mantissas: np.ndarray
    exponents: np.ndarray
    kernel: tuple[int, int]
    channels: int
    blocking: str = "channels"
    groups: int = 1

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.mantissas.shape[0]

    def expected_shape(self, fmt: BlockFormat) -> tuple[int, int, int]:
        """Taps, blocks and block length that these weights must have in `fmt`."""
        height, width = self.kernel
        if self.blocking == "rows":
            row = width * self.channels
            return height, 1, row + -row % 4
        length = block_length(self.channels, fmt)
        return height * width, -(-self.channels // length), length


@dataclass(frozen=True)
class Instruction:
    """One instruction: its operation, the names and numbers it works with, and its window where it has one."""

    op: str
    operands: tuple[str, ...] = ()
    window: Window | None = None
    values: tuple[float, ...] = ()

    def __str__(self) -> str:
        words = [name or "all" for name in self.operands] + [f"{value:g}" for value in self.values]
        return f"{self.op:<6} " + "  ".join([*words, *([f"[{self.window}]"] if self.window else [])])


@dataclass(frozen=True)
class Chain:
    """Instructions that one vector passes without leaving the units; `name` is that of the layer."""

    name: str
    instructions: tuple[Instruction, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that its v_rd names."""
        return self.instructions[0].operands

    @property
    def writes(self) -> str:
        """The tensor that its v_wr names."""
        return self.instructions[-1].operands[0]


@dataclass(frozen=True)
class Port:
    """An input or output: its name and layout in the source model, and the tensor that holds it.

    layout: the order of its axes, n before some order of h, w and c; "nc" for the channels of a single pixel.
    shape: its sizes behind the batch where they group or split those axes: the same values in the same order.
    """

    name: str
    tensor: str
    layout: str = "nhwc"
    shape: tuple[int, ...] = ()

    def array_shape(self, tensor: Shape) -> tuple[int, ...]:
        """Sizes behind the batch of this port's arrays, for a tensor of that shape."""
        if self.shape or self.layout == "nc":
            return self.shape or (tensor[2],)
        return self._ordered(tensor)

    def _ordered(self, tensor: Shape) -> tuple[int, ...]:
        sizes = dict(zip("hwc", tensor, strict=True))
        return tuple(sizes[letter] for letter in ("hwc" if self.layout == "nc" else self.layout[1:]))

    def to_tensor(self, array: np.ndarray, tensor: Shape) -> np.ndarray:
        """An array of this port as float32 [n, height, width, channels], contiguous."""
        letters = "hwc" if self.layout == "nc" else self.layout[1:]
        values = array.reshape(len(array), *self._ordered(tensor))
        return np.ascontiguousarray(values.transpose(0, *(1 + letters.index(letter) for letter in "hwc")))

    def to_array(self, values: np.ndarray) -> np.ndarray:
        """float32 [n, height, width, channels] as an array of this port."""
        letters = "hwc" if self.layout == "nc" else self.layout[1:]
        ordered = np.ascontiguousarray(values.transpose(0, *(1 + "hwc".index(letter) for letter in letters)))
        tensor: Shape = values.shape[1:]
        return ordered.reshape(len(values), *self.array_shape(tensor))
