"""The timing reader: how long a program takes on an NPU, by a first-order model of a Brainwave matrix-vector unit.

Mechanisms (s: stated by J. Fowers et al., ISCA 2018, quoted from memory; a: assumed here):
1. A tile multiplies an N x N matrix with an N vector in N / L cycles; T tiles work at once (s).
2. A native vector holds one kernel position's channels, because a vector has one shared exponent: a product of `taps`
   positions with C channels takes taps * ceil(C / N) * ceil(outputs / N) tile operations for a pixel. The image enters
   by filter rows, as its matrix says (a; it follows from the number format).
3. The tile operations of one pixel are dealt to the T tiles in rounds, and an unfinished round is not shared with the
   next pixel. A matrix of t <= T / 2 tile operations is kept floor(T / t) times, so that as many pixels go at once (a).
4. The vector units take one native vector a cycle. Behind a product they work while it runs: a chain takes the longer
   of the two. A pool or a depthwise filter takes a cycle for every native vector and window position, and nothing
   runs beside it; functions (sigmoid, silu) are pipelined and take one cycle for a native vector like all others (a).
   Each group of a grouped convolution has tiles of its own, because a native vector holds one group's channels (a).
5. A chain starts when the one before it is written. Filling its pipeline takes N / L cycles and one cycle for each
   level of the adder trees over L lanes, N / L cycles and T tiles, and 8 cycles for each instruction (a).
6. float32 inputs and outputs cross PCIe 3.0 x8, 7.88 GB/s, before and after everything else; no driver time (a).
Weights are on the chip before the first image. Host stages are not in these figures.

ResNet-50 at batch 1 on bw_a10 comes to 1.89 ms (1.81 without PCIe); the published figure is 1.8 ms (s). Mechanism 3
decides: rounds shared between pixels would give 1.54 ms, every matrix kept only once 2.41 ms. It was chosen among such
schedules with the anchor known: the model explains 1.8 ms, it does not predict it.
"""

from dataclasses import dataclass
from math import ceil, log2, prod

from amlrealtimeai.npu.config import NpuConfig, as_config
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Program
from amlrealtimeai.npu.table import Table

_PCIE_BYTES_PER_SECOND = 7.88e9
_CYCLES_PER_INSTRUCTION = 8
_HEADINGS = ("chain", "work", "result", "products", "cycles", "ms", "busy")


@dataclass(frozen=True)
class ChainTime:
    """Cycles of one chain: the matrix unit's, the vector units', the pipeline's fill, and what they add up to.

    products: multiplications that the layer needs; utilisation: their share of what the multipliers could do meanwhile.
    """

    name: str
    work: str
    result: str
    products: int
    matrix_cycles: int
    vector_cycles: int
    fill_cycles: int
    cycles: int
    milliseconds: float
    utilisation: float


@dataclass(frozen=True)
class Report(Table):
    """What `estimate` found for one image.

    latency_ms: milliseconds from the first byte in to the last byte out; cycles: the NPU's part of it;
    transfer_ms: the part that is PCIe; utilisation: needed products over what all multipliers could do in `cycles`.
    """

    name: str
    config: NpuConfig
    chains: tuple[ChainTime, ...]
    transfer_ms: float

    @property
    def cycles(self) -> int:
        """Cycles of all chains, one after the other."""
        return sum(chain.cycles for chain in self.chains)

    @property
    def latency_ms(self) -> float:
        """Milliseconds for one image, input and output over PCIe included."""
        return self.cycles / self.config.clock_hz * 1e3 + self.transfer_ms

    @property
    def utilisation(self) -> float:
        """Share of the multipliers' cycles that the layers needed, 0..1."""
        return sum(chain.products for chain in self.chains) / (self.cycles * _multipliers(self.config))

    def heading(self) -> str:
        """The whole program in one line."""
        return (
            f"{self.name} on {self.config.name}: {self.latency_ms:.3f} ms for one image (modelled), "
            f"{self.cycles:,} cycles, {self.transfer_ms:.3f} ms PCIe, {self.utilisation:.0%} of the multipliers busy"
        )

    def columns(self) -> tuple[str, ...]:
        """Headings of the table."""
        return _HEADINGS

    def left_columns(self) -> tuple[int, ...]:
        """Name, work and result."""
        return (0, 1, 2)

    def rows(self) -> list[tuple[str, ...]]:
        """One row for each chain."""
        return [
            (
                c.name,
                c.work,
                c.result,
                f"{c.products:,}",
                f"{c.cycles:,}",
                f"{c.milliseconds:.4f}",
                f"{c.utilisation:.0%}",
            )
            for c in self.chains
        ]


def estimate(program: Program, config: NpuConfig | str | None = None) -> Report:
    """Cycles and milliseconds of `program` for one image, on its own configuration or on another one."""
    config = program.config if config is None else as_config(config)
    ports = [*program.input_ports, *program.output_ports]
    transferred = sum(4 * prod(program.port_shape(port)) for port in ports)
    chains = tuple(_chain_time(program, chain, config) for chain in program.chains)
    return Report(program.name, config, chains, transferred / _PCIE_BYTES_PER_SECOND * 1e3)


def _multipliers(config: NpuConfig) -> int:
    return config.tiles * config.lanes * config.native_dimension


def _chain_time(program: Program, chain: Chain, config: NpuConfig) -> ChainTime:
    height, width, channels = program.tensors[chain.writes]
    pixels = height * width
    products, matrix_cycles, work = 0, 0, chain.instructions[1].op
    written = pixels * ceil(channels / config.native_dimension)
    vectors = max(written, sum(_vectors(program, name, config) for name in chain.reads))
    for instruction in chain.instructions:
        if instruction.op == "mv_mul":
            matrix = program.matrices[instruction.operands[0]]
            products = pixels * prod(matrix.kernel) * matrix.channels * matrix.outputs
            matrix_cycles = _product_cycles(matrix, pixels, config)
        if instruction.window is not None:
            work = f"{instruction.op} {instruction.window}"
        if instruction.op in ("v_max", "v_avg", "v_filter") and instruction.window is not None:
            vectors = max(vectors, written * prod(instruction.window.kernel))
    fill = _fill_cycles(chain.instructions, config)
    cycles = max(matrix_cycles, vectors) + fill
    busy = products / (cycles * _multipliers(config))
    milliseconds = cycles / config.clock_hz * 1e3
    result = f"{height}x{width}x{channels}"
    return ChainTime(chain.name, work, result, products, matrix_cycles, vectors, fill, cycles, milliseconds, busy)


def _vectors(program: Program, tensor: str, config: NpuConfig) -> int:
    height, width, channels = program.tensors[tensor]
    return height * width * ceil(channels / config.native_dimension)


def _product_cycles(matrix: Matrix, pixels: int, config: NpuConfig) -> int:
    n, tiles = config.native_dimension, config.tiles
    taps, blocks, length = matrix.mantissas.shape[1:]
    outputs = matrix.outputs // matrix.groups
    operations = matrix.groups * taps * ceil(blocks * length / n) * ceil(outputs / n)
    rounds = pixels * ceil(operations / tiles) if operations > tiles else ceil(pixels / (tiles // operations))
    return rounds * ceil(n / config.lanes)


def _fill_cycles(instructions: tuple[Instruction, ...], config: NpuConfig) -> int:
    fill = _CYCLES_PER_INSTRUCTION * len(instructions)
    if any(instruction.op == "mv_mul" for instruction in instructions):
        steps = ceil(config.native_dimension / config.lanes)
        fill += steps + sum(ceil(log2(width)) for width in (config.lanes, steps, config.tiles))
    return fill
