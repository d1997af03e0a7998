"""The vector units' functions as fixed sequences of float32 operations, which every reader repeats bit for bit.

Each operation rounds once (nearest, ties to even): additions, multiplications, comparisons, one division, square
roots, and work on a number's bits. There is no fused multiply-add and no call of a mathematical library.

exp(m) for -110 <= m <= 0 is 2**n * (y + y_low), with
    n = (m * log2(e) + 1.5 * 2**23) - 1.5 * 2**23                   the nearest whole number
    r = (m - n * C1) - n * C2                                       C1 + C2 = ln 2; n * C1 is exact
    q = (r * r) * P(r) + r                                          P by Horner's rule; exp(r) = 1 + q
    y = q + 1,  y_low = (1 - y) + q                                 what the rounding of y lost
and with t = 2**n * y and s = t + 1 the denominator is s * (1 + k), where
    k = ((t - (s - 1)) + 2**n * y_low) * (1.457 - 0.5 * s)          the last factor is about 1 / s
sigmoid(x) is (1 - k) / s for x >= 0, and 2**n * (y + (y_low - y * k)) / s below; silu(x) is (x - x * k) / s, and
2**n * (a + (b - a * k)) / s, where a + b is m * (y + y_low): a the product of the upper 12 bits of m and y, b the rest.
2**n is multiplied in two steps, 2**max(n, -100) and then 2**(n - max(n, -100)), so that it can be as small as float32
goes. The largest errors that were found are 1.53 (sigmoid) and 1.78 (silu) units in the last place.
"""

import numpy as np

_F = np.float32
_LOG2_E, _ROUNDER = _F(1.44269504), _F(1.5 * 2**23)
_LN2_HIGH, _LN2_LOW = _F(0.693359375), _F(-2.12194440e-4)
_POLYNOMIAL = tuple(
    _F(float.fromhex(c))
    for c in ("0x1.000000p-1", "0x1.555556p-3", "0x1.5554e8p-5", "0x1.1110c6p-7", "0x1.6d44bcp-10", "0x1.a1531ep-13")
)
_FARTHEST, _SMALLEST_STEP = _F(110), _F(-100)
_UPPER_BITS = np.uint32(0xFFFFF000)


def _power(n: np.ndarray) -> np.ndarray:
    return ((n.astype(np.int32) + 127) << 23).view(np.float32)


def _scaled(v: np.ndarray, n: np.ndarray) -> np.ndarray:
    first = np.maximum(n, _SMALLEST_STEP)
    return (v * _power(first)) * _power(n - first)


def _exponential(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n, y and y_low of the sequence above."""
    n = (m * _LOG2_E + _ROUNDER) - _ROUNDER
    r = (m - n * _LN2_HIGH) - n * _LN2_LOW
    polynomial = np.full_like(r, _POLYNOMIAL[-1])
    for coefficient in _POLYNOMIAL[-2::-1]:
        polynomial = polynomial * r + coefficient
    q = (r * r) * polynomial + r
    y = q + _F(1)
    return n, y, (_F(1) - y) + q


def _denominator(n: np.ndarray, y: np.ndarray, y_low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s and k of the sequence above."""
    t = _scaled(y, n)
    s = t + _F(1)
    return s, ((t - (s - _F(1))) + _scaled(y_low, n)) * (_F(1.457) - _F(0.5) * s)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) of float32 x, any shape; float32."""
    m = -np.minimum(np.abs(x), _FARTHEST)
    n, y, y_low = _exponential(m)
    s, k = _denominator(n, y, y_low)
    return np.where(x < 0, _scaled(y + (y_low - y * k), n), _F(1) - k) / s


def silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + exp(-x)) of float32 x, any shape; float32. Above 110 it is x."""
    m = -np.minimum(np.abs(x), _FARTHEST)
    n, y, y_low = _exponential(m)
    s, k = _denominator(n, y, y_low)
    m_high, y_high = ((v.view(np.uint32) & _UPPER_BITS).view(np.float32) for v in (m, y))
    a = m_high * y_high
    b = (m - m_high) * y_high + m * ((y - y_high) + y_low)
    near = np.where(np.abs(x) > _FARTHEST, _F(0), x)
    found = np.where(x < 0, _scaled(a + (b - a * k), n), near - near * k) / s
    return np.where(x > _FARTHEST, x, found)


def clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """x where it is > low, else low; then that where it is < high, else high."""
    raised = np.where(x > _F(low), x, _F(low))
    return np.where(raised < _F(high), raised, _F(high))


def hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """alpha * x + beta, clipped to 0 and 1."""
    return clip(x * _F(alpha) + _F(beta), 0, 1)


def lrn(x: np.ndarray, size: int, alpha: float, beta: float, bias: float) -> np.ndarray:
    """Local response normalisation over the last axis of float32 x [..., channels].

    total = the squares of channels c - (size - 1) // 2 to c + size // 2, added in that order from +0;
    z = total * float32(alpha / size) + bias; x / z**beta, where z**0.5 = sqrt(z) and z**0.75 = sqrt(z) * sqrt(sqrt(z)).
    """
    with np.errstate(over="ignore"):
        return _lrn(x, size, alpha, beta, bias)


def _lrn(x: np.ndarray, size: int, alpha: float, beta: float, bias: float) -> np.ndarray:
    squares, channels = x * x, x.shape[-1]
    total = np.zeros_like(x)
    for offset in range(-((size - 1) // 2), size // 2 + 1):
        first, last = max(0, -offset), min(channels, channels - offset)
        if first < last:
            total[..., first:last] += squares[..., first + offset : last + offset]
    z = total * _F(alpha / size) + _F(bias)
    if beta == 1:
        return x / z
    root = np.sqrt(z)
    return x / (root if beta == 0.5 else root * np.sqrt(root))
