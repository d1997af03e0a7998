"""Signal-to-noise ratios and histograms of runs small enough to follow by hand."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError
from benchmarks import resnet50
from tests.npu.graphs import model, node

M3 = npu.BlockFormat(4, 3, 5)  # exponents -15..16, mantissas -7..7


def one_product():
    """8 channels in two blocks of 4, times the 1x1 weights [1, 2, 4, -7] and [1, 0, 0, 0]."""
    weights = np.float32([1, 2, 4, -7, 1, 0, 0, 0]).reshape(1, 8, 1, 1)
    return model([node("Conv", "x w", "y"), node("Relu", "y", "z")], [1, 8, 1, 1], {"w": weights}, ["y", "z"])


def test_signal_to_noise_by_hand():
    program = npu.compile(one_product(), fmt=M3)
    x = np.float32([6.5, 1, -3, 0, 0.5, 0, 0, 0]).reshape(1, 8, 1, 1)
    # 6.5 becomes 6: the result is -3.5 where float32 gives -3
    report = npu.snr(program, x, {"y": np.float32([[[[-3]]]]), "z": np.zeros((1, 1, 1, 1), np.float32)})
    assert [(s.chain, s.tensor, s.signal, s.noise) for s in report.layers] == [(0, "y", 3, 0.5), (1, "z", 0, 0)]
    assert report.layers[0].decibels == pytest.approx(15.563, abs=1e-3)  # 20 * log10(6)
    assert report.layers[1].decibels == float("inf")
    assert report.worst.name == "y_node"
    assert str(report) == (
        "small in blocks of 4, 1 sign + 3 mantissa bits, 5-bit shared exponent (5.25 bits per value), against float32\n"
        "chain  name    signal  noise    dB\n"
        "    0  y_node       3    0.5  15.6\n"
        "    1  z_node       0      0   inf"
    )
    assert "<td>y_node</td><td>3</td><td>0.5</td><td>15.6</td>" in report._repr_html_()
    against = npu.snr(program, x, npu.compile(one_product(), fmt=npu.BlockFormat(4, 7, 5)))
    assert [(s.signal, s.noise) for s in against.layers] == [(3, 0.5), (0, 0)]
    assert "against blocks of 4, 1 sign + 7 mantissa bits" in str(against)


def test_noise_without_signal_is_minus_infinity():
    program = npu.compile(one_product(), fmt=M3)
    # 1 + 2 + 4 - 7 + 1 = 1
    report = npu.snr(program, np.ones((1, 8, 1, 1), np.float32), {"z": np.zeros((1, 1, 1, 1), np.float32)})
    assert (report.layers[0].noise, report.layers[0].decibels) == (1, float("-inf"))


def test_values_that_do_not_fit_are_refused():
    program, x = npu.compile(one_product(), fmt=M3), np.ones((1, 8, 1, 1), np.float32)
    with pytest.raises(InvalidInputError, match=r"some of the program's tensors \(y, z, ...\), got none"):
        npu.snr(program, x, {"other": np.ones((1, 1, 1, 1), np.float32)})
    with pytest.raises(
        InvalidInputError, match=r"y: expected float values of shape \[1, 1, 1, 1\], got \[1, 2, 1, 1\]"
    ):
        npu.snr(program, x, {"y": np.ones((1, 2, 1, 1), np.float32)})


def float_results(document: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every value that ONNX Runtime computes, NCHW."""
    everything = onnx.ModelProto()
    everything.CopyFrom(document)
    names = [name for n in document.graph.node for name in n.output]
    del everything.graph.output[:]
    everything.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(everything.SerializeToString(), options)
    return dict(zip(names, session.run(names, {document.graph.input[0].name: x}), strict=True))


def test_mantissa_bits_of_resnet50_are_worth_six_decibels_or_more_each():
    """Against float32, layer by layer; the workshop's weights and a real picture."""
    document, x = resnet50.onnx_model(), resnet50.sample_image()
    floats = float_results(document, x)
    ratios = {}
    for fmt in ("msfp12", "msfp14", "msfp16"):
        report = npu.snr(npu.compile(document, fmt=fmt), x, floats, layout="nchw")
        assert len(report.layers) == 55
        ratios[fmt] = np.array([s.decibels for s in report.layers])
    assert ratios["msfp16"].min() > 25
    assert (ratios["msfp12"] < ratios["msfp14"]).all() and (ratios["msfp14"] < ratios["msfp16"]).all()
    # 6.02 for one product; over 50 layers a finer input gains a little more, though errors of coarse ones saturate
    assert 6.02 < (ratios["msfp16"] - ratios["msfp12"]).mean() / 4 < 8


def test_histograms_by_hand():
    program = npu.compile(one_product(), fmt=M3)
    x = np.float32([6.5, 1, -3, 0.25, 0.5, 0, 0, 0]).reshape(1, 8, 1, 1)
    report = npu.histograms(program, x)
    assert [(h.chain, h.name) for h in report.layers] == [(0, "y_node")]
    seen, weights = report.layers[0].activations, report.layers[0].weights
    # E = 2, step 1: 6, 1, -3, 0 (0.25 is lost); E = -1, step 1/8: 4, 0, 0, 0
    assert {q - 7: int(n) for q, n in enumerate(seen.mantissas) if n} == {-3: 1, 0: 4, 1: 1, 4: 1, 6: 1}
    assert {e - 15: int(n) for e, n in enumerate(seen.exponents) if n} == {-1: 1, 2: 1}
    assert (seen.above, seen.below, seen.zeroed) == (0, 0, 1)
    assert (seen.exponent_span, seen.zeros, seen.bars()) == ((-1, 2), 0.5, "█  █")
    assert {q - 7: int(n) for q, n in enumerate(weights.mantissas) if n} == {-7: 1, 0: 3, 1: 1, 2: 1, 4: 2}
    assert {e - 15: int(n) for e, n in enumerate(weights.exponents) if n} == {0: 1, 2: 1}
    assert str(report).splitlines()[1:] == [
        "chain  name    from  to  exponents  zero  zeroed  above  below  weights from  to",
        "    0  y_node    -1   2       █  █   50%       1      0      0             0   2",
    ]
    assert "<td>█  █</td>" in report._repr_html_()


def test_values_beyond_the_exponent_range_are_counted():
    program = npu.compile(one_product(), fmt=M3)
    # 2**17 is beyond E = 16; 2**16 is not. 2**-16 and -2**-18 are in a block below E = -15
    x = np.float32([2**17, 2**16, -(2**18), 1, 2**-16, -(2**-18), 0, 0]).reshape(1, 8, 1, 1)
    seen = npu.histograms(program, x).layers[0].activations
    assert (seen.above, seen.below) == (2, 2)
    assert seen.exponent_span == (-15, 16)
    # step 2**14: 7 (not 8), 4, -7 (not -16), 0; step 2**-17: 2, and -1/2 to even is 0
    assert {q - 7: int(n) for q, n in enumerate(seen.mantissas) if n} == {-7: 1, 0: 4, 2: 1, 4: 1, 7: 1}
    assert seen.zeroed == 2


def test_an_image_of_three_channels_has_one_exponent_and_padding_does_not_count():
    w = np.ones((1, 3, 3, 3), np.float32)
    document = model(
        [node("Conv", "x w", "c", pads=[1] * 4), node("Conv", "c v", "y")],
        [1, 3, 5, 4],
        {"w": w, "v": w[:, :1, :1, :1]},
    )
    report = npu.histograms(npu.compile(document, fmt=M3), np.full((2, 3, 5, 4), 4, np.float32))
    image, sums = (layer.activations for layer in report.layers)
    assert (int(image.exponents.sum()), int(image.mantissas.sum()), image.exponent_span) == (2, 120, (2, 2))
    # one channel, padded to a block of four, for each of 2 * 20 pixels
    assert (int(sums.exponents.sum()), int(sums.mantissas.sum())) == (40, 40)
    assert int(report.layers[0].weights.mantissas.sum()) == 27
