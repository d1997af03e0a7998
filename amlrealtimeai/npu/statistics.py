"""What block floating point makes of a run: which mantissas and shared exponents occur, and what falls out of range."""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amlrealtimeai.npu.formats import BlockFormat, block_exponents, block_length, mantissas_of, pad_last
from amlrealtimeai.npu.program import Chain, Matrix, Program
from amlrealtimeai.npu.table import Table

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often each mantissa and shared exponent occurs among some values.

    mantissas: int64 [2 * largest + 1], counts of -largest..largest (padding is not counted).
    exponents: int64 [Emax - Emin + 1], counts of Emin..Emax, one for each block.
    above: values of 2**(Emax + 1) and more, which saturate. below: values that are not 0 in blocks that are smaller
    than 2**Emin, which lose bits. zeroed: values that are not 0 and whose mantissa is.
    """

    format: BlockFormat
    mantissas: np.ndarray
    exponents: np.ndarray
    above: int
    below: int
    zeroed: int

    @property
    def exponent_span(self) -> tuple[int, int]:
        """Smallest and largest shared exponent that occur."""
        present = np.flatnonzero(self.exponents) + self.format.exponent_range[0]
        return int(present[0]), int(present[-1])

    @property
    def zeros(self) -> float:
        """Share of mantissas that are 0."""
        return float(self.mantissas[self.format.largest_mantissa] / self.mantissas.sum())

    def bars(self) -> str:
        """Shared exponents as a row of bars, from the smallest to the largest that occur."""
        low, high = (end - self.format.exponent_range[0] for end in self.exponent_span)
        counts = self.exponents[low : high + 1]
        return "".join(_BARS[-(-8 * int(count) // int(counts.max()))] for count in counts)


@dataclass(frozen=True)
class ChainHistogram:
    """One product: its chain's place and name, the histograms of what it multiplies."""

    chain: int
    name: str
    activations: Histogram
    weights: Histogram


@dataclass(frozen=True)
class Histograms(Table):
    """Every product of a program, in order."""

    program: str
    format: BlockFormat
    layers: tuple[ChainHistogram, ...]

    def heading(self) -> str:
        """What was counted."""
        return f"{self.program} in {self.format}: shared exponents of activations, range {self.format.exponent_range}"

    def columns(self) -> tuple[str, ...]:
        """Headings of the table."""
        return ("chain", "name", "from", "to", "exponents", "zero", "zeroed", "above", "below", "weights from", "to")

    def rows(self) -> list[tuple[str, ...]]:
        """One row for each product."""
        found = []
        for layer in self.layers:
            seen, low_high = layer.activations, layer.activations.exponent_span
            counts = (f"{seen.zeros:.0%}", str(seen.zeroed), str(seen.above), str(seen.below))
            spans = (*map(str, low_high), seen.bars(), *counts, *map(str, layer.weights.exponent_span))
            found.append((str(layer.chain), layer.name, *spans))
        return found


def histograms(program: Program, x: np.ndarray) -> Histograms:
    """Histograms of every product's activations and weights in a run on float32 `x` (the input's shape, any batch)."""
    fmt = program.config.number_format
    layers = [
        ChainHistogram(number, chain.name, _of_activations(values, matrix, fmt), _of_weights(matrix, fmt))
        for number, chain, matrix, values in _products(program, x)
    ]
    return Histograms(program.name, fmt, tuple(layers))


def saturated(program: Program, x: np.ndarray) -> dict[str, int]:
    """How many activations saturate in a run on float32 `x`, by the name of the chain that multiplies them.

    They are those of 2**(Emax + 1) and more; chains without are left out. A run itself (Native, reference) says
    nothing of them, because counting costs time; this runs the program once more. Warns where there are any.
    """
    limit = 2.0 ** (program.config.number_format.exponent_range[1] + 1)
    counts: Counter[str] = Counter()
    for _, chain, _, values in _products(program, x):
        counts[chain.name] += int((np.abs(values) >= limit).sum())
    counts = +counts  # those above 0
    if counts:
        worst = max(counts, key=lambda name: counts[name])
        warnings.warn(
            f"{sum(counts.values())} activations in {len(counts)} layers are beyond the exponent range of "
            f"{program.config.number_format} and saturate (most in {worst}: {counts[worst]}); scale the input, or "
            "choose a format with 8 exponent bits",
            stacklevel=2,
        )
    return dict(counts)


def _products(program: Program, x: np.ndarray) -> Iterator[tuple[int, Chain, Matrix, np.ndarray]]:
    """Every chain with a product in a run on `x`: its place, itself, its weights, the float32 values they multiply."""
    from amlrealtimeai.npu.native import Native
    from amlrealtimeai.npu.reference import operand

    tensors = Native(program, keep_tensors=True).run(x)
    tensors[program.input_ports[0].tensor] = program.check_input(x)
    for number, chain in enumerate(program.chains):
        for step in chain.instructions:
            if step.op == "mv_mul":
                yield number, chain, program.matrices[step.operands[0]], operand(program, chain, tensors)


def _of_activations(values: np.ndarray, matrix: Matrix, fmt: BlockFormat) -> Histogram:
    """values: float32 [n, h, w, channels]; an image that enters by rows has one exponent."""
    whole = matrix.blocking == "rows"
    length = values[0].size if whole else block_length(matrix.channels, fmt)
    if not whole:
        values = values.reshape(*values.shape[:-1], matrix.groups, matrix.channels)
    real = np.broadcast_to(np.bool_(True), values.shape)
    blocks, real = (a.reshape(-1, length) if whole else pad_last(a, length).reshape(-1, length) for a in (values, real))
    maxima = np.abs(blocks).max(-1)
    exponents = block_exponents(maxima, fmt)
    mantissas = mantissas_of(blocks, exponents[:, None], fmt)
    lowest, highest = fmt.exponent_range
    above = int((np.abs(blocks) >= 2.0 ** (highest + 1)).sum())
    below = int((blocks[maxima < 2.0**lowest] != 0).sum())
    zeroed = int(((mantissas == 0) & (blocks != 0)).sum())
    return _count(mantissas[real], exponents, fmt, above, below, zeroed)


def _of_weights(matrix: Matrix, fmt: BlockFormat) -> Histogram:
    """A program holds no float weights: what fell out of range is not known any more and counts as 0."""
    flat = matrix.mantissas.reshape(*matrix.mantissas.shape[:2], -1)
    real = matrix.channels * (matrix.kernel[1] if matrix.blocking == "rows" else 1)
    return _count(flat[..., :real], matrix.exponents, fmt, 0, 0, 0)


def _count(
    mantissas: np.ndarray, exponents: np.ndarray, fmt: BlockFormat, above: int, below: int, zeroed: int
) -> Histogram:
    largest, (lowest, highest) = fmt.largest_mantissa, fmt.exponent_range
    mantissa_counts = np.bincount(mantissas.reshape(-1).astype(np.int64) + largest, minlength=2 * largest + 1)
    exponent_counts = np.bincount(exponents.reshape(-1).astype(np.int64) - lowest, minlength=highest - lowest + 1)
    return Histogram(fmt, mantissa_counts, exponent_counts, above, below, zeroed)
