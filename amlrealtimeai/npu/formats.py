"""Block floating point: N signed mantissas share one power-of-two exponent.

Element i of a block with exponent E is `q_i * 2**(E - (m - 1))`; q_i is an integer of m magnitude bits plus a sign.
"""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from amlrealtimeai.errors import InvalidInputError

# An 8-bit field covers more; inside this range every product of two steps is a normal float32 (exact products).
_RANGES = {8: (-48, 48), 5: (-15, 16)}
_MAX_BLOCK = 400
_MAX_MANTISSA_BITS = 7


@dataclass(frozen=True)
class BlockFormat:
    """A block floating point format.

    block: elements that share an exponent (a multiple of 4, at most 400).
    mantissa_bits: magnitude bits m of an element, without its sign (1..7); there is no hidden bit.
    exponent_bits: width of the shared exponent, 8 (range -48..48) or 5 (range -15..16).
    """

    block: int
    mantissa_bits: int
    exponent_bits: int
    name: str = ""

    def __post_init__(self) -> None:
        for name in ("block", "mantissa_bits", "exponent_bits"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise InvalidInputError(f"{name} must be a whole number, got {value!r:.40}")
            object.__setattr__(self, name, int(value))  # NumPy's integers cannot be written to files
        if not isinstance(self.name, str):
            raise InvalidInputError(f"name must be a text, got {self.name!r:.40}")
        if not (4 <= self.block <= _MAX_BLOCK and self.block % 4 == 0):
            raise InvalidInputError(f"block must be a multiple of 4 from 4 to {_MAX_BLOCK}, got {self.block}")
        if not 1 <= self.mantissa_bits <= _MAX_MANTISSA_BITS:
            raise InvalidInputError(f"mantissa_bits must be 1..{_MAX_MANTISSA_BITS}, got {self.mantissa_bits}")
        if self.exponent_bits not in _RANGES:
            raise InvalidInputError(f"exponent_bits must be one of {sorted(_RANGES)}, got {self.exponent_bits}")

    @property
    def exponent_range(self) -> tuple[int, int]:
        """Smallest and largest shared exponent."""
        return _RANGES[self.exponent_bits]

    @property
    def largest_mantissa(self) -> int:
        """2**m - 1: beyond it an element saturates."""
        return 2**self.mantissa_bits - 1

    @property
    def bits_per_value(self) -> float:
        """Storage of one element: sign, mantissa and its share of the exponent."""
        return 1 + self.mantissa_bits + self.exponent_bits / self.block

    def __str__(self) -> str:
        label = f"{self.name}: " if self.name else ""
        return (
            f"{label}blocks of {self.block}, 1 sign + {self.mantissa_bits} mantissa bits, "
            f"{self.exponent_bits}-bit shared exponent ({self.bits_per_value:.2f} bits per value)"
        )


def _presets() -> dict[str, BlockFormat]:
    msfp = [BlockFormat(16, m, 8, f"msfp{m + 9}") for m in range(2, 8)]
    brainwave = [BlockFormat(128, 2, 5, "ms_fp8"), BlockFormat(128, 3, 5, "ms_fp9"), BlockFormat(128, 5, 5, "bw_cnn")]
    return {fmt.name: fmt for fmt in msfp + brainwave}


formats: dict[str, BlockFormat] = _presets()
"""Presets by name.

msfp11..msfp16: Microsoft Floating Point (B. Darvish Rouhani et al., NeurIPS 2020), 8-bit exponents.
ms_fp8, ms_fp9: Project Brainwave (E. Chung et al., Hot Chips 2017; J. Fowers et al., ISCA 2018): one 5-bit exponent for
a native vector; the vector length of 128 is that of bw_a10.
bw_cnn: 1s.5e.5m of the Arria 10 ResNet-50 in ISCA 2018 (assumed: quoted from memory).
"""


def as_format(fmt: "BlockFormat | str") -> BlockFormat:
    """The format itself, or the preset of that name."""
    if isinstance(fmt, BlockFormat):
        return fmt
    if not isinstance(fmt, str) or fmt not in formats:
        raise InvalidInputError(f"unknown number format {fmt!r}; presets: {', '.join(formats)}; or give a BlockFormat")
    return formats[fmt]


def block_exponents(maxima: np.ndarray, fmt: BlockFormat) -> np.ndarray:
    """Shared exponents (int32) of blocks whose largest magnitudes are `maxima` (float32, any shape).

    The exponent is read from the number's bits; log2 in float32 is wrong just below powers of two.
    """
    lowest, highest = fmt.exponent_range
    exponents = (maxima.astype(np.float32).view(np.int32) >> 23 & 0xFF) - 127
    return np.clip(exponents, lowest, highest).astype(np.int32)


def mantissas_of(x: np.ndarray, exponents: np.ndarray, fmt: BlockFormat) -> np.ndarray:
    """Mantissas (int8) of float32 `x` under int32 `exponents` (broadcast): round half to even, then saturate."""
    steps = exponents - (fmt.mantissa_bits - 1)
    scaled = np.rint(x * np.ldexp(np.float32(1), -steps))
    return np.clip(scaled, -fmt.largest_mantissa, fmt.largest_mantissa).astype(np.int8)


def pad_last(x: np.ndarray, multiple: int) -> np.ndarray:
    """`x` with zeros appended to its last axis up to a multiple of `multiple`."""
    missing = -x.shape[-1] % multiple
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x


def block_length(channels: int, fmt: BlockFormat) -> int:
    """Elements in one block of a vector of `channels`: never longer than the vector itself (padded to 4)."""
    return min(fmt.block, channels + -channels % 4)


def quantize(x: np.ndarray, fmt: BlockFormat | str) -> tuple[np.ndarray, np.ndarray]:
    """Quantise float32 `x` [..., C] along its last axis in blocks of `fmt.block`.

    Returns mantissas int8 [..., C] and shared exponents int32 [..., ceil(C / block)]. NaN and infinity are refused.
    """
    fmt = as_format(fmt)
    x = np.asarray(x, np.float32)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InvalidInputError(f"expected an array with at least one element on its last axis, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise InvalidInputError(f"block floating point has no NaN or infinity; {np.sum(~np.isfinite(x))} values are")
    blocks = pad_last(x, fmt.block).reshape(*x.shape[:-1], -1, fmt.block)
    exponents = block_exponents(np.abs(blocks).max(-1), fmt)
    mantissas = mantissas_of(blocks, exponents[..., None], fmt)
    return mantissas.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]], exponents


def dequantize(mantissas: np.ndarray, exponents: np.ndarray, fmt: BlockFormat | str) -> np.ndarray:
    """Values (float32 [..., C]) of `mantissas` [..., C] with `exponents` [..., ceil(C / block)]."""
    fmt = as_format(fmt)
    mantissas, exponents = np.asarray(mantissas), np.asarray(exponents)
    expected = (*mantissas.shape[:-1], -(-mantissas.shape[-1] // fmt.block))
    if exponents.shape != expected:
        raise InvalidInputError(f"expected exponents of shape {expected} for {fmt}, got {exponents.shape}")
    steps = np.ldexp(np.float32(1), exponents - (fmt.mantissa_bits - 1))
    return mantissas.astype(np.float32) * np.repeat(steps, fmt.block, axis=-1)[..., : mantissas.shape[-1]]
