"""The NPU program: chains of Brainwave-style instructions over named vectors, and the matrices and vectors they use.

A tensor is an image of `height x width` vectors of `channels` float32 values. A chain reads one (v_rd), passes it
through the units, and writes one (v_wr):

    v_rd t [u ...]     read the tensor; several names are concatenated along the channels
    mv_mul M  window   quantise what was read into blocks and multiply it with matrix M at every output pixel
    vv_mul v           multiply every vector with the constant v
    vv_add v | t       add the constant v to every vector, or the tensor t element by element
    v_relu             x where x > 0, else +0
    v_max window       maximum over the window (padding never wins)
    v_avg window       sum over the window in row order, times the float32 reciprocal of its size (no padding)
    v_wr t             write the tensor
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu import magnitudes
from amlrealtimeai.npu.config import NpuConfig
from amlrealtimeai.npu.formats import BlockFormat, block_length

Shape = tuple[int, int, int]  # height, width, channels
LAYOUTS = ("nhwc", "nchw", "nc")


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
    """One instruction: its operation, the names it works on, and its window where it has one."""

    op: str
    operands: tuple[str, ...] = ()
    window: Window | None = None

    def __str__(self) -> str:
        return f"{self.op:<7}" + "  ".join([*self.operands, *([f"[{self.window}]"] if self.window else [])])


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
    """An input or output: its name and layout in the source model, and the tensor that holds it."""

    name: str
    tensor: str
    layout: str = "nhwc"


@dataclass(frozen=True, eq=False)
class Program:
    """What the compiler makes and the reference, the native kernel and the timing model read."""

    name: str
    config: NpuConfig
    input_ports: tuple[Port, ...]
    output_ports: tuple[Port, ...]
    tensors: Mapping[str, Shape]
    chains: tuple[Chain, ...]
    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from amlrealtimeai.npu.validation import check

        check(self)

    @property
    def inputs(self) -> list[tuple[str, tuple[int, ...]]]:
        """(name, shape) of every input; the first dimension is the batch, shown as 1."""
        return [(port.name, self.port_shape(port)) for port in self.input_ports]

    @property
    def outputs(self) -> list[tuple[str, tuple[int, ...]]]:
        """(name, shape) of every output; the first dimension is the batch, shown as 1."""
        return [(port.name, self.port_shape(port)) for port in self.output_ports]

    def port_shape(self, port: Port, batch: int = 1) -> tuple[int, ...]:
        """Shape of a port's array in its layout."""
        height, width, channels = self.tensors[port.tensor]
        shapes = {"nhwc": (height, width, channels), "nchw": (channels, height, width), "nc": (channels,)}
        return (batch, *shapes[port.layout])

    def check_input(self, x: np.ndarray) -> np.ndarray:
        """`x` as float32 [n, height, width, channels], or an InvalidInputError that says what was expected."""
        port = self.input_ports[0]
        expected = self.port_shape(port)
        x = np.asarray(x)
        is_float32 = x.dtype.newbyteorder("=") == np.float32
        if not is_float32 or x.ndim != len(expected) or x.shape[1:] != expected[1:] or len(x) == 0:
            wanted = ", ".join(["n >= 1", *map(str, expected[1:])])
            raise InvalidInputError(f"{port.name}: expected float32 [{wanted}], got {x.dtype} {list(x.shape)}")
        if port.layout == "nc":
            x = x.reshape(len(x), 1, 1, -1)
        elif port.layout == "nchw":
            x = x.transpose(0, 2, 3, 1)
        # the native kernel reads the array as it lies in memory
        x = np.require(x, np.float32, ["C_CONTIGUOUS", "ALIGNED"])
        low, high = float(x.min()), float(x.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InvalidInputError(f"{port.name}: expected finite values, got NaN or infinity")
        largest = max(-low, high)
        if largest > self.input_limit:
            raise InvalidInputError(
                f"{port.name}: expected values of at most {self.input_limit:.1e}, got {largest:.1e}; "
                "sums inside the program could exceed float32"
            )
        return x

    def to_port(self, port: Port, values: np.ndarray) -> np.ndarray:
        """`values` [n, height, width, channels] in the layout of `port`."""
        if port.layout == "nchw":
            return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        return values.reshape(len(values), -1) if port.layout == "nc" else values

    @cached_property
    def input_limit(self) -> float:
        """The largest magnitude that the input may have; sums inside could exceed float32 beyond it."""
        return magnitudes.input_limit(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the program, the same on every machine and in every run."""
        from amlrealtimeai.npu.program_file import digest

        return digest(self)

    def save(self, path: Path | str) -> None:
        """Write the program to one file; a file of that name is replaced only when the new one is whole."""
        from amlrealtimeai.npu.program_file import save

        save(self, Path(path))

    def listing(self, chains: slice = slice(None)) -> str:
        """The program as text for people."""
        lines = [f"program {self.name} on {self.config.name}, {self.config.number_format}"]
        lines += [f"input  {name} {list(shape)}" for name, shape in self.inputs]
        chosen = list(enumerate(self.chains))[chains]
        width = max((len(str(step)) for _, chain in chosen for step in chain.instructions), default=0)
        for number, chain in chosen:
            lines += ["", f"chain {number}  {chain.name}", *(f"    {line}" for line in self._lines(chain, width))]
        return "\n".join([*lines, "", *(f"output {name} {list(shape)}" for name, shape in self.outputs)])

    def _lines(self, chain: Chain, width: int) -> Iterator[str]:
        notes: dict[str, Callable[[Instruction], str]] = {
            "v_rd": lambda i: ", ".join("x".join(map(str, self.tensors[name])) for name in i.operands),
            "v_wr": lambda i: "x".join(map(str, self.tensors[i.operands[0]])),
            "mv_mul": lambda i: _describe(self.matrices[i.operands[0]]),
        }
        for instruction in chain.instructions:
            note = notes[instruction.op](instruction) if instruction.op in notes else ""
            yield f"{instruction!s:<{width}}  {note}".rstrip()

    def __repr__(self) -> str:
        return (
            f"Program({self.name!r}, {len(self.chains)} chains, {self.config.name}, "
            f"{self.config.number_format}, inputs={self.inputs}, outputs={self.outputs})"
        )


def _describe(matrix: Matrix) -> str:
    blocks = (
        "one block per filter row, one exponent for the tensor"
        if matrix.blocking == "rows"
        else f"{matrix.mantissas.shape[2]} block{'s'[: matrix.mantissas.shape[2] - 1]} of {matrix.mantissas.shape[3]}"
    )
    return f"{matrix.channels} -> {matrix.outputs}, {blocks}"


def load(path: Path | str) -> Program:
    """Read a program file. Raises NotFoundError, or InvalidInputError for a truncated, altered or foreign file."""
    from amlrealtimeai.npu.program_file import load as read

    return read(Path(path))
