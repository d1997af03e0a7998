import math
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai.convert import Check, ConversionReport, StageReport
from amlrealtimeai.convert.checks import relative_error, saturated_error, signal_bound, signal_to_noise


def test_relative_error() -> None:
    expected = np.array([1.0, -4.0, 2.0], np.float32)
    assert relative_error(expected, expected.copy()) == 0.0
    assert relative_error(expected, np.array([1.0, -4.0, 3.0], np.float32)) == 0.25
    assert relative_error(expected, np.array([1.0, math.nan, 2.0], np.float32)) == math.inf
    assert relative_error(np.zeros(2, np.float32), np.ones(2, np.float32)) > 1e30
    assert relative_error(np.array(["a"], object), np.array(["b"], object)) == math.inf


def test_infinities_and_nan_have_to_stand_where_they_are_expected() -> None:
    expected = np.array([1.0, -math.inf, math.nan, 4.0], np.float32)
    assert relative_error(expected, expected.copy()) == 0.0
    assert relative_error(expected, np.array([1.0, -math.inf, math.nan, 3.0], np.float32)) == 0.25
    for wrong in ([1, math.inf, math.nan, 4], [1, -math.inf, 0, 4], [math.nan, -math.inf, math.nan, 4], [1, 9, 9, 4]):
        assert relative_error(expected, np.array(wrong, np.float32)) == math.inf
    assert relative_error(np.full(2, math.nan, np.float32), np.full(2, math.nan, np.float32)) == math.inf
    infinite = np.full(2, math.inf, np.float32)
    assert relative_error(infinite, infinite.copy()) == 0.0 and relative_error(infinite, -infinite) == math.inf


def test_signal_to_noise() -> None:
    expected = np.array([3.0, 4.0], np.float32)
    assert signal_to_noise(expected, expected) == math.inf
    assert signal_to_noise(expected, np.array([3.0, 4.5], np.float32)) == pytest.approx(20.0)
    assert signal_to_noise(expected, np.array([3.0, math.nan], np.float32)) == -math.inf


def test_signal_bound_falls_with_depth() -> None:
    assert signal_bound(1) == signal_bound(53) == 26.0
    assert signal_bound(530) == pytest.approx(16.0)


def test_nan_never_passes() -> None:
    assert not Check("s", "t", math.nan, 1.0, "dB").passed
    assert not Check("s", "t", math.nan, 1.0, "of the largest value").passed


def test_report_reads_well() -> None:
    report = ConversionReport(
        name="small",
        path=Path("folder/small.accelonnx"),
        stages=(
            StageReport("preprocess", "preprocess", {"a:0": (None,)}, {"b:0": (None, 8, 8, 3)}, 0.001, 0, "decode"),
            StageReport("npu", "featurizer", {"b:0": (None, 8, 8, 3)}, {"c:0": None}, 1.5, 2**20, "3 chains, <bw_cnn>"),
        ),
        checks=(
            Check("preprocess", "TensorFlow", 0.0, 0.0, "of the largest value"),
            Check("featurizer", "the quantised graph", 3e-7, 0.01, "of the largest value"),
            Check("featurizer", "the float graph", 24.55, 20.0, "dB"),
        ),
        seconds=2.25,
        size=3 * 2**19,
    )
    assert str(report) == (
        "small: small.accelonnx, 1.5 MiB, converted in 2.2 s\n"
        "  preprocess  preprocess [?] -> [?, 8, 8, 3]  decode  0.00 s\n"
        "  featurizer  npu        [?, 8, 8, 3] -> ?  3 chains, <bw_cnn>  1.50 s\n"
        "compared with TensorFlow on a sample\n"
        "  preprocess against TensorFlow: equal to the bit (at most 0)\n"
        "  featurizer against the quantised graph: 3.0e-07 of the largest value (at most 0.01)\n"
        "  featurizer against the float graph: 24.6 dB (at least 20)"
    )
    html = report._repr_html_()
    assert "&lt;bw_cnn&gt;" in html and "<bw_cnn>" not in html and html.count("<li>") == 3


def test_a_saturated_sigmoid_is_no_difference() -> None:
    tiny = np.array([1e-35, 1.2e-16], np.float32)
    assert saturated_error(tiny, np.zeros(2, np.float32)) < 1e-15
    assert saturated_error(tiny, np.full(2, 1.5e-8, np.float32)) < 1e-7
    assert saturated_error(tiny, np.full(2, 1e-6, np.float32)) > 1
    assert saturated_error(np.array([1.0, 0.0], np.float32), np.array([0.9, 0.0], np.float32)) > 0.09
    assert saturated_error(tiny, np.array([math.nan, 0], np.float32)) == math.inf
