"""The NPU program: chains of instructions (listed in amlrealtimeai.npu.instructions), and what they work with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu import magnitudes, program_file
from amlrealtimeai.npu.config import NpuConfig
from amlrealtimeai.npu.instructions import Chain, Instruction, Matrix, Port, Shape, Window
from amlrealtimeai.npu.validation import check

__all__ = ["Chain", "Instruction", "Matrix", "Port", "Program", "Shape", "Window", "load"]


@dataclass(frozen=True, eq=False)
class Program:
    """What the compiler makes and the reference, the native kernel and the timing model read.

    vectors: float32 constants by name, [channels], or [kernel height, kernel width, outputs] for v_filter.
    indices: int32 lists of rows, columns or channels by name, for v_pick and v_blend.
    """

    name: str
    config: NpuConfig
    input_ports: tuple[Port, ...]
    output_ports: tuple[Port, ...]
    tensors: Mapping[str, Shape]
    chains: tuple[Chain, ...]
    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    indices: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
        return (batch, *port.array_shape(self.tensors[port.tensor]))

    def check_input(self, x: np.ndarray) -> np.ndarray:
        """`x` as float32 [n, height, width, channels], or an InvalidInputError that says what was expected."""
        port = self.input_ports[0]
        expected = self.port_shape(port)
        x = np.asarray(x)
        is_float32 = x.dtype.newbyteorder("=") == np.float32
        if not is_float32 or x.ndim != len(expected) or x.shape[1:] != expected[1:] or len(x) == 0:
            wanted = ", ".join(["n >= 1", *map(str, expected[1:])])
            raise InvalidInputError(f"{port.name}: expected float32 [{wanted}], got {x.dtype} {list(x.shape)}")
        # the native kernel reads the array as it lies in memory
        x = np.require(port.to_tensor(x, self.tensors[port.tensor]), np.float32, ["C_CONTIGUOUS", "ALIGNED"])
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
        return port.to_array(values)

    @cached_property
    def input_limit(self) -> float:
        """The largest magnitude that the input may have; sums inside could exceed float32 beyond it."""
        return magnitudes.input_limit(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the program, the same on every machine and in every run."""
        return program_file.digest(self)

    def save(self, path: Path | str) -> None:
        """Write the program to one file; a file of that name is replaced only when the new one is whole."""
        program_file.save(self, Path(path))

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
            **dict.fromkeys(("v_pick", "v_blend"), lambda i: self._describe_lists(i.operands)),
        }
        for instruction in chain.instructions:
            note = notes[instruction.op](instruction) if instruction.op in notes else ""
            yield f"{instruction!s:<{width}}  {note}".rstrip()

    def _describe_lists(self, names: tuple[str, ...]) -> str:
        lists = [self.indices[name] for name in names if name in self.indices]
        return ", ".join(f"{values.min()}..{values.max()} ({len(values)})" for values in lists)

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
    groups = f" in {matrix.groups} groups" if matrix.groups > 1 else ""
    return f"{matrix.groups * matrix.channels} -> {matrix.outputs}{groups}, {blocks}"


def load(path: Path | str) -> Program:
    """Read a program file. Raises NotFoundError, or InvalidInputError for a truncated, altered or foreign file."""
    return program_file.load(Path(path), lambda fields: Program(**fields))
