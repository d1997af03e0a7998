"""Compares two runs of one program tensor by tensor, to the bit, and says where they part."""

import numpy as np

from amlrealtimeai.npu.formats import block_length
from amlrealtimeai.npu.program import Chain, Program


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
