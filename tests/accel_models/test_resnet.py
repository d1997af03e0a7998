"""Names, shapes, what is trainable, and what the workshop weights see."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai import resources
from amlrealtimeai.accel.models import QuantizedResnet50, Resnet50, weights
from amlrealtimeai.accel.models.layers import BATCH_NORM_EPSILON
from amlrealtimeai.errors import InvalidInputError, UnsupportedError
from amlrealtimeai.lab import images
from amlrealtimeai.npu import BlockFormat, dequantize, quantize

SAMPLES = {
    "african_elephant": 386,
    "electric_guitar": 546,
    "espresso": 967,
    "king_penguin": 145,
    "red_fox": 277,
    "sailing_boat": 914,
    "tabby_cat": 281,
    "zebra": 340,
}


def test_names_and_shapes(float_resnet):
    assert float_resnet.features.name == "resnet_v1_50/pool5:0"
    assert float_resnet.features.shape.as_list() == [None, 1, 1, 2048]
    assert float_resnet.probabilities.name == "classifier/resnet_v1_50/predictions/Softmax:0"
    assert float_resnet.probabilities.shape.as_list() == [None, 1000]
    model = float_resnet.model
    assert (model.get_input_dims(), model.get_output_dims()) == ([None, 224, 224, 3], [None, 1, 1, 2048])
    assert model.input_tensor_list == [float_resnet.pixels.name]
    assert model.output_tensor_list == ["resnet_v1_50/pool5:0"]
    assert (model.model_ref, model.model_version, model.version) == ("resnet50", "1.0.0", "1.0.0")
    assert model.model_path.endswith("resnet50/1.0.0")


def test_a_second_classifier_gets_the_next_name(float_resnet):
    with tf.Graph().as_default():
        features = tf.placeholder(tf.float32, [None, 1, 1, 2048])
        first = float_resnet.model.get_default_classifier(features)
        second = float_resnet.model.get_default_classifier(features)
        other = float_resnet.model.get_default_classifier(features, prefix="top")

    assert first.name == "classifier/resnet_v1_50/predictions/Softmax:0"
    assert second.name == "classifier_1/resnet_v1_50/predictions/Softmax:0"
    assert other.name == "top/resnet_v1_50/predictions/Softmax:0"


def test_both_twins_have_the_same_variables(float_resnet, quantized_resnet):
    def variables(classifier):
        return {(v.name, tuple(v.shape)) for v in classifier.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}

    assert len(variables(float_resnet)) == 265
    assert variables(float_resnet) == variables(quantized_resnet)
    assert ("resnet_v1_50/conv1/weights:0", (7, 7, 3, 64)) in variables(float_resnet)
    assert ("resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/BatchNorm/gamma:0", (2048,)) in variables(float_resnet)


def test_frozen_means_that_nothing_is_trainable(float_resnet, quantized_resnet):
    trainable = tf.GraphKeys.TRAINABLE_VARIABLES

    assert float_resnet.graph.get_collection(trainable) == []
    names = [variable.op.name.rpartition("/")[2] for variable in quantized_resnet.graph.get_collection(trainable)]
    assert len(names) == 53 * 3
    assert set(names) == {"weights", "gamma", "beta"}


def test_the_graphs_say_what_they_are(float_resnet, quantized_resnet):
    (plain,) = float_resnet.graph.get_collection("amlrealtimeai_featurizer")
    (quantized,) = quantized_resnet.graph.get_collection("amlrealtimeai_featurizer")

    assert json.loads(quantized) == {
        "model": "resnet50",
        "version": "1.0.0",
        "inputs": [quantized_resnet.pixels.name],
        "outputs": ["resnet_v1_50/pool5:0"],
        "quantized": True,
        "format": {"block": 128, "mantissa_bits": 5, "exponent_bits": 5},
    }
    assert (json.loads(plain)["quantized"], json.loads(plain)["format"]) == (False, None)


def test_every_convolution_and_every_input_is_quantised(quantized_resnet):
    operations = quantized_resnet.graph.get_operations()
    quantisers = {op.name.removesuffix("/output") for op in operations if op.name.endswith("/bfp_quantize/output")}
    convolutions = [op for op in operations if op.type == "Conv2D"]

    assert len(convolutions) == 53
    for convolution in convolutions:
        kernel = convolution.inputs[1].op.name
        assert kernel.endswith("/bfp_quantize/output")
        source = convolution.inputs[0].op
        while source.type == "Pad":
            source = source.inputs[0].op
        assert source.name.endswith("/bfp_quantize/output")
    assert len(quantisers) == 53 + 49  # four units share their input between two convolutions
    starts = {op.name for op in operations if op.name.endswith("/bfp_quantize/input")}
    assert starts == {f"{name}/input" for name in quantisers}


def test_quantised_kernels_are_the_folded_ones(quantized_resnet):
    """Folded in float64, rounded once to float32, then quantised: the NPU compiler computes the same bits."""
    place, keras = "resnet_v1_50/block2/unit_1/bottleneck_v1/conv2", "conv3_block1_2"
    folded = f"{place}/bfp_quantize"
    got, quantized = quantized_resnet.session.run([f"{folded}/input:0", f"{folded}/output:0"])
    arrays = weights.codec.load(resources.path("weights/resnet50.npz"), "resnet50")
    gamma, variance = (arrays[f"{keras}_bn/{kind}"].astype(np.float64) for kind in ("gamma", "moving_variance"))
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    expected = (arrays[f"{keras}_conv/kernel"].astype(np.float64) * scale).astype(np.float32)

    assert np.array_equal(got, expected)
    fmt = BlockFormat(128, 5, 5)
    taps = np.ascontiguousarray(np.swapaxes(expected, 2, 3))
    assert np.array_equal(np.swapaxes(quantized, 2, 3), dequantize(*quantize(taps, fmt), fmt))


@pytest.mark.parametrize("which", ["float_resnet", "quantized_resnet"])
def test_the_sample_images_are_recognised(which, request):
    classifier = request.getfixturevalue(which)
    pictures = [resources.path(f"images/{name}.jpg").read_bytes() for name in SAMPLES]

    assert classifier.classify(pictures).tolist() == list(SAMPLES.values())


def test_the_workshop_weights_recognise_composites(float_resnet):
    """Measured: all of 96 plain composites. A wrong colour order or epsilon costs far more than the margin."""
    composites = images.dataset(32, size=256, seed=11, variety=0)
    pairs = [(images.jpeg_bytes(picture), label) for picture, label in composites]
    found = float_resnet.classify([data for data, _ in pairs])

    assert (found == [label for _, label in pairs]).sum() >= 30


def test_quantised_features_are_close_to_the_float_ones(float_resnet, quantized_resnet):
    data = [images.jpeg_bytes(images.compose(340, seed=2))]
    plain = float_resnet.session.run(float_resnet.features, {float_resnet.images: data})
    quantized = quantized_resnet.session.run(quantized_resnet.features, {quantized_resnet.images: data})

    difference = np.abs(plain - quantized).max() / np.abs(plain).max()
    assert 1e-4 < difference < 0.3
    assert np.corrcoef(plain.ravel(), quantized.ravel())[0, 1] > 0.98


def test_an_input_of_another_size_or_type_is_refused(tmp_path):
    with tf.Graph().as_default():
        with pytest.raises(InvalidInputError, match=r"expects images float32 \(None, 224, 224, 3\), got float32"):
            Resnet50(tmp_path).import_graph_def(tf.placeholder(tf.float32, [None, 300, 300, 3]))
        with pytest.raises(InvalidInputError, match="got string"):
            Resnet50(tmp_path).import_graph_def(tf.placeholder(tf.string))


def test_calls_before_the_import_say_what_to_call(tmp_path):
    model = Resnet50(tmp_path)
    with tf.Graph().as_default(), tf.Session() as session:
        for call in (lambda: model.restore_weights(session), lambda: model.save_weights(tmp_path / "w", session)):
            with pytest.raises(InvalidInputError, match="call import_graph_def first"):
                call()


def test_a_number_format_by_name_or_value(tmp_path):
    assert QuantizedResnet50(tmp_path, number_format="msfp12").number_format.mantissa_bits == 3
    assert QuantizedResnet50(tmp_path).number_format.name == "bw_cnn"
    assert QuantizedResnet50(tmp_path, number_format=BlockFormat(32, 4, 8)).number_format.block == 32
    with pytest.raises(InvalidInputError, match="unknown number format 'msfp99'"):
        QuantizedResnet50(tmp_path, number_format="msfp99")


def test_a_phase_tensor_needs_the_float_twin(tmp_path):
    with tf.Graph().as_default():
        phase = tf.placeholder(tf.bool, [])
        with pytest.raises(UnsupportedError, match="True or False, not a tensor"):
            QuantizedResnet50(tmp_path).import_graph_def(is_training=phase)
