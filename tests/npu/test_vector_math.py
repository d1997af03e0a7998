"""The functions of the vector units against float64."""

import numpy as np

from amlrealtimeai.npu import vector_math

HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
SIGMOID_BITS = (
    "3f066509 3ef335ed 3f3b26a7 3e89b2b0 3f76e4ce 3d11b319 3f7fffff 3331cf18 3f800000 0041edc4 3f800000 00000001"
)
SILU_BITS = (
    "3d57080f bd42918b 3f3b26a7 be89b2b0 404baff7 bdf06782 41880000 b53cec0a 42b00000 83354ddc 42c90000 80000088"
)
GRID = HALVES[np.isfinite(HALVES)]


def points(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.sign(rng.normal(size=400_000)) * 2.0 ** rng.uniform(-149, 128, 400_000)
    found = np.concatenate([GRID, rng.uniform(-112, 112, 400_000), rng.uniform(-8, 8, 400_000), spread])
    return found.astype(np.float32)


def units(found: np.ndarray, true: np.ndarray) -> float:
    """The largest error in units of the last place of float32."""
    exponents = np.maximum(np.frexp(true)[1] - 1, -126)
    return float(np.max(np.abs(found.astype(np.float64) - true) / 2.0 ** (exponents - 23)))


def true_sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def test_sigmoid_and_silu_are_within_two_units_of_the_true_value():
    x = points(0)
    exact = x.astype(np.float64)
    with np.errstate(under="ignore"):
        assert units(vector_math.sigmoid(x), true_sigmoid(exact)) < 1.6
        assert units(vector_math.silu(x), exact * true_sigmoid(exact)) < 1.9


def test_functions_at_their_ends():
    ends = np.float32([0, -0.0, 104, -103, 200, -200, 3e38, -3e38, np.inf, -np.inf])
    assert vector_math.sigmoid(ends).tolist() == [0.5, 0.5, 1, 1.401298464324817e-45, 1, 0, 1, 0, 1, 0]
    silu = vector_math.silu(ends)
    assert silu[[0, 1, 2, 4, 5, 6, 7, 8, 9]].tolist() == [0, 0, 104, 200, 0, np.float32(3e38), 0, np.inf, 0]


def test_bits_of_sigmoid_and_silu():
    """The sequence is part of the machine: these bits must stay."""
    x = np.float32([0.1, -0.1, 1, -1, 3.3, -3.3, 17, -17, 88, -88, 100.5, -103])
    sigmoid, silu = (f(x).view(np.uint32).tolist() for f in (vector_math.sigmoid, vector_math.silu))
    assert " ".join(f"{v:08x}" for v in sigmoid) == SIGMOID_BITS
    assert " ".join(f"{v:08x}" for v in silu) == SILU_BITS


def test_clip_takes_its_ends_from_the_instruction():
    x = np.float32([-1, -0.0, 0, 3, 6, 7])
    assert vector_math.clip(x, 0, 6).view(np.int32).tolist() == np.float32([0, 0, 0, 3, 6, 6]).view(np.int32).tolist()
    assert vector_math.clip(x, -np.inf, 3).tolist() == [-1, 0, 0, 3, 3, 3]
    assert vector_math.clip(x, 5, 2).tolist() == [2] * 6


def test_local_response_normalisation_by_hand():
    """Channels 1, 2, 3 with size 3, alpha 3, beta 0.5, bias 4: 5, 14, 13 are the sums of squares."""
    found = vector_math.lrn(np.float32([[1, 2, 3]]), 3, 3, 0.5, 4)
    np.testing.assert_allclose(found, [[1 / 3, 2 / 18**0.5, 3 / 17**0.5]], rtol=1e-6)
    even = vector_math.lrn(np.float32([[1, 2, 3]]), 2, 2, 1.0, 0.5)
    np.testing.assert_allclose(even, [[1 / 5.5, 2 / 13.5, 3 / 9.5]], rtol=1e-6)
