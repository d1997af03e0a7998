"""Compares two runs tensor by tensor: to the bit, with the place where they part, or as signal to noise in decibels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.formats import block_length
from amlrealtimeai.npu.program import Chain, Program
from amlrealtimeai.npu.table import Table


def first_difference(program: Program, expected: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> str | None:
    """A report on the first chain whose tensors are not the same bits, or None when all are.

    expected, got: every tensor by name, float32 [n, height, width, channels], as reference.run(trace=True) and
    Native(keep_tensors=True).run give them.
    """
    for number, chain in enumerate(program.chains):
        differs = expected[chain.writes].view(np.int32) != got[chain.writes].view(np.int32)
        if differs.any():
            return _report(program, number, chain, differs, expected, got)
    return None


def _report(
    program: Program,
    number: int,
    chain: Chain,
    differs: np.ndarray,
    expected: dict[str, np.ndarray],
    got: dict[str, np.ndarray],
) -> str:
    image, y, x, channel = (int(i) for i in np.argwhere(differs)[0])
    length = block_length(differs.shape[-1], program.config.number_format)
    lines = [
        f"chain {number} ({chain.name}): {int(differs.sum())} of {differs.size} values of {chain.writes} differ",
        f"  first at image {image}, y {y}, x {x}, channel {channel} (block {channel // length} of {length})",
        f"  expected {describe(expected[chain.writes][image, y, x, channel])}",
        f"  got      {describe(got[chain.writes][image, y, x, channel])}",
    ]
    for name in chain.reads:
        source = expected.get(name)
        if source is not None and source.shape[1:3] == differs.shape[1:3]:
            first = source[image, y, x, :4]
            lines.append(f"  input {name} there begins " + " ".join(float(v).hex() for v in first))
    return "\n".join([*lines, *(f"    {instruction}" for instruction in chain.instructions)])


def describe(value: np.float32) -> str:
    """A float32 as decimal, bits, and sign, exponent and 24-bit mantissa."""
    bits = int(np.float32(value).view(np.uint32))
    exponent, fraction = bits >> 23 & 0xFF, bits & 0x7FFFFF
    mantissa = fraction | 0x800000 if exponent else fraction
    sign = "-" if bits >> 31 else "+"
    return f"{value!s:>14} = 0x{bits:08x} = {sign}{mantissa} * 2**{max(exponent, 1) - 150}"


@dataclass(frozen=True)
class ChainSnr:
    """One chain's result: root mean square of what it should be (signal) and of its error (noise).

    decibels: 20 * log10(signal / noise); infinite where the values are equal.
    """

    chain: int
    name: str
    tensor: str
    signal: float
    noise: float
    decibels: float


@dataclass(frozen=True)
class SnrReport(Table):
    """Signal and noise of every chain that both runs have, in order."""

    program: str
    format: str
    against: str
    layers: tuple[ChainSnr, ...]

    @property
    def worst(self) -> ChainSnr:
        """The chain with the smallest ratio."""
        return min(self.layers, key=lambda layer: layer.decibels)

    def heading(self) -> str:
        """What was compared."""
        return f"{self.program} in {self.format}, against {self.against}"

    def columns(self) -> tuple[str, ...]:
        """Headings of the table."""
        return "chain", "name", "signal", "noise", "dB"

    def rows(self) -> list[tuple[str, ...]]:
        """One row for each chain."""
        return [(str(s.chain), s.name, f"{s.signal:.4g}", f"{s.noise:.4g}", f"{s.decibels:.1f}") for s in self.layers]


def snr(
    program: Program, x: np.ndarray, against: Program | Mapping[str, np.ndarray], layout: str = "nhwc"
) -> SnrReport:
    """Signal-to-noise ratio of every chain of a run of `program` on float32 `x`.

    against: the same network compiled in a finer format, which is run too, or float results by tensor name (what ONNX
    Runtime gives for every layer), each [n, h, w, c], or [n, c, h, w] with layout="nchw"; chains without one are left
    out. Raises InvalidInputError where none or a shape fits.
    """
    from amlrealtimeai.npu.native import Native

    found = Native(program, keep_tensors=True).run(x)
    if isinstance(against, Program):
        label = str(against.config.number_format)
        expected: Mapping[str, np.ndarray] = Native(against, keep_tensors=True).run(x)
    else:
        label = "float32"
        swap = layout == "nchw"
        expected = {n: v.transpose(0, 2, 3, 1) if swap and np.ndim(v) == 4 else v for n, v in against.items()}
    layers = [
        _signal_and_noise(number, chain, expected[chain.writes], found[chain.writes])
        for number, chain in enumerate(program.chains)
        if chain.writes in expected
    ]
    if not layers:
        names = ", ".join(chain.writes for chain in program.chains[:3])
        raise InvalidInputError(f"expected values of some of the program's tensors ({names}, ...), got none of them")
    return SnrReport(program.name, str(program.config.number_format), label, tuple(layers))


def _signal_and_noise(number: int, chain: Chain, expected: np.ndarray, found: np.ndarray) -> ChainSnr:
    if expected.shape != found.shape:
        wanted = f"{chain.writes}: expected float values of shape {list(found.shape)}"
        raise InvalidInputError(f"{wanted}, got {list(expected.shape)}; ONNX Runtime's may need layout='nchw'")
    exact = expected.astype(np.float64)
    signal, noise = (float(np.sqrt(np.mean(values**2))) for values in (exact, found - exact))
    with np.errstate(divide="ignore"):
        decibels = 20 * float(np.log10(signal) - np.log10(noise)) if noise else float("inf")
    return ChainSnr(number, chain.name, chain.writes, signal, noise, decibels)
