import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError


def test_a_block_of_four_by_hand():
    # largest 6.5 -> E = 2; m = 3 -> step 2**(2-2) = 1; halves go to the even neighbour, 6.5 -> 6, 2.5 -> 2, -1.5 -> -2
    mantissas, exponents = npu.quantize(np.float32([6.5, 2.5, -1.5, 0.25]), npu.BlockFormat(4, 3, 8))
    assert mantissas.tolist() == [6, 2, -2, 0]
    assert exponents.tolist() == [2]
    assert npu.dequantize(mantissas, exponents, npu.BlockFormat(4, 3, 8)).tolist() == [6.0, 2.0, -2.0, 0.0]


def test_rounding_up_saturates_and_keeps_the_exponent():
    mantissas, exponents = npu.quantize(np.float32([7.9, -7.9, 0, 0]), npu.BlockFormat(4, 3, 8))
    assert (mantissas.tolist(), exponents.tolist()) == ([7, -7, 0, 0], [2])


def test_zero_and_subnormal_blocks_take_the_smallest_exponent():
    for value in (0.0, 1e-40):
        mantissas, exponents = npu.quantize(np.full(16, value, np.float32), "msfp16")
        assert exponents.tolist() == [-48] and not mantissas.any()
    assert npu.quantize(np.zeros(128, np.float32), "bw_cnn")[1].tolist() == [-15]


def test_five_bit_exponents_clamp_at_both_ends():
    big, small = npu.quantize(np.float32([[2.0**20] + [0] * 127, [2.0**-17] + [0] * 127]), "bw_cnn")
    assert small.tolist() == [[16], [-15]]
    assert big[0, 0] == 31  # saturated
    assert big[1, 0] == 4  # 2**-17 with step 2**-19


@pytest.mark.parametrize("power", range(-47, 48))
def test_exponent_is_exact_next_to_every_power_of_two(power):
    one = np.float32(2.0**power)
    below, above = np.nextafter(one, np.float32(0)), np.nextafter(one, np.float32(np.inf))
    x = np.zeros((3, 4), np.float32)
    x[:, 0] = below, one, above
    assert npu.quantize(x, npu.BlockFormat(4, 7, 8))[1][:, 0].tolist() == [power - 1, power, power]


def test_presets_cost_what_the_papers_say():
    assert [npu.formats[f"msfp{n}"].bits_per_value for n in range(11, 17)] == [3.5, 4.5, 5.5, 6.5, 7.5, 8.5]
    assert npu.formats["bw_cnn"].bits_per_value == 6 + 5 / 128


@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.floats(-1e6, 1e6, width=32)))
def test_a_value_moves_by_at_most_half_a_step_unless_saturated(x):
    fmt = npu.formats["msfp14"]
    mantissas, exponents = npu.quantize(x, fmt)
    step = np.ldexp(1.0, np.repeat(exponents, 16, -1)[:, : x.shape[1]] - (fmt.mantissa_bits - 1))
    error = np.abs(npu.dequantize(mantissas, exponents, fmt).astype(float) - x)
    assert (error <= np.where(np.abs(mantissas) == 31, step, step / 2)).all()


@given(arrays(np.float32, 32, elements=st.floats(-1e6, 1e6, width=32)), st.integers(-20, 20))
def test_quantising_twice_changes_nothing_and_scaling_by_two_moves_only_the_exponent(x, shift):
    fmt = npu.formats["msfp13"]
    once = npu.dequantize(*npu.quantize(x, fmt), fmt)
    assert np.array_equal(npu.dequantize(*npu.quantize(once, fmt), fmt), once)
    x = np.where(np.abs(x) < 1e-3, 0, x)
    q, e = npu.quantize(x, fmt)
    q2, e2 = npu.quantize(np.ldexp(x, shift), fmt)
    assert np.array_equal(q, q2)
    assert np.array_equal(e2[e > -48], e[e > -48] + shift)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((10, 3, 8), "multiple of 4"), ((404, 3, 8), "400"), ((16, 8, 8), "1..7"), ((16, 3, 6), "[5, 8]")],
)
def test_impossible_formats_are_refused(arguments, said):
    with pytest.raises(InvalidInputError, match=said.replace("[", r"\[")):
        npu.BlockFormat(*arguments)


def test_nan_infinity_and_unknown_names_are_refused():
    with pytest.raises(InvalidInputError, match="1 values"):
        npu.quantize(np.float32([1, np.nan, 2, 3]), "msfp16")
    with pytest.raises(InvalidInputError, match="msfp12"):
        npu.quantize(np.zeros(4), "msfp99")


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((16.0, 7, 8), "block must be a whole number, got 16.0"), ((16, 2.5, 8), "mantissa_bits .* got 2.5"),
     ((16, True, 8), "mantissa_bits .* got True"), ((16, 7, "8"), "exponent_bits .* got '8'")],
)  # fmt: skip
def test_halves_and_texts_are_no_numbers_of_bits(numbers, said):
    with pytest.raises(InvalidInputError, match=said):
        npu.BlockFormat(*numbers)


def test_numpy_integers_are_numbers_of_bits():
    assert npu.BlockFormat(np.int64(16), np.int8(7), np.int32(8)) == npu.BlockFormat(16, 7, 8)
    assert type(npu.BlockFormat(np.int64(16), 7, 8).block) is int
