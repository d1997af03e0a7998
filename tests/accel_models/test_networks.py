"""The other networks: names, shapes, variables of both twins, and keras.applications' own output."""

import functools
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel import models
from amlrealtimeai.accel.models import Densenet121, QuantizedDensenet121, QuantizedSsdVgg, SsdVgg, Vgg16
from amlrealtimeai.errors import InvalidInputError, UnsupportedError, WeightsError
from tests.accel_models.test_keras import random_like

BLOCKS = (4, 7, 8, 9, 10, 11)


@functools.cache
def imported(name):
    """(model, its outputs, its graph) without weights."""
    with tf.Graph().as_default() as graph:
        model = getattr(models, name)("unused", weights="random")
        return model, model.import_graph_def(is_training=False), graph


@pytest.mark.parametrize(
    ("name", "reference", "dims", "feature", "answer"),
    [
        (
            "Resnet152",
            "resnet152",
            [1, 1, 2048],
            "resnet_v1_152/pool5:0",
            "classifier/resnet_v1_152/predictions/Softmax:0",
        ),
        (
            "Densenet121",
            "densenet121",
            [1, 1, 1024],
            "densenet121/pool5:0",
            "classifier/densenet121/predictions/Softmax:0",
        ),
        ("Vgg16", "vgg16", [1, 1, 4096], "vgg_16/fc7/Relu:0", "classifier/vgg_16/fc8/squeezed:0"),
    ],
)
def test_names_and_shapes(name, reference, dims, feature, answer):
    model, features, graph = imported(name)
    with graph.as_default():
        classified = model.get_default_classifier(features)

    assert model.model_ref == reference
    assert (model.get_input_dims(), model.get_output_dims()) == ([None, 224, 224, 3], [None, *dims])
    assert features.name == feature and model.output_tensor_list == [feature]
    assert features.shape.as_list() == [None, *dims]
    assert classified.name == answer
    assert classified.shape.as_list() == [None, 1000]


def test_names_and_shapes_of_ssd():
    model, outputs, graph = imported("SsdVgg")

    expected = [f"ssd_300_vgg/block{b}_box/Reshape_1:0" for b in BLOCKS]
    expected += [f"ssd_300_vgg/block{b}_box/Reshape:0" for b in BLOCKS]
    assert [tensor.name for tensor in outputs] == model.output_tensor_list == expected
    assert model.get_input_dims() == [None, 300, 300, 3]
    shapes = [(37, 37, 4), (19, 19, 6), (10, 10, 6), (5, 5, 6), (3, 3, 4), (1, 1, 4)]
    wanted = [[*shape, 21] for shape in shapes] + [[*shape, 4] for shape in shapes]
    assert [tensor.shape.as_list()[1:] for tensor in outputs] == wanted
    assert [model.get_output_dims(index=i) for i in range(12)] == [[None, *dims] for dims in wanted]
    with graph.as_default(), pytest.raises(UnsupportedError, match="ssdvgg has no classifier"):
        model.get_default_classifier(outputs[0])
    parts = [json.loads(note) for note in graph.get_collection("amlrealtimeai_featurizer")]
    assert [len(part["outputs"]) for part in parts] == [11, 2]
    assert parts[0]["outputs"][0] == "ssd_300_vgg/conv4/conv4_3/Relu:0"
    assert parts[1]["inputs"] == ["ssd_300_vgg/block4_box/L2Normalization/scaled:0"]


@pytest.mark.parametrize(
    ("name", "count", "example"),
    [
        ("Vgg16", 30, ("vgg_16/fc6/weights", (7, 7, 512, 4096))),
        ("SsdVgg", 71, ("ssd_300_vgg/block4_box/L2Normalization/gamma", (512,))),
    ],
)
def test_both_twins_have_the_same_variables(name, count, example):
    found = []
    for twin in (name, f"Quantized{name}"):
        _, _, graph = imported(twin)
        variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
        found.append({(v.op.name, tuple(v.shape)) for v in variables})
        convolutions = [op for op in graph.get_operations() if op.type == "Conv2D"]
        quantised = [op.inputs[1].op.name.endswith("/bfp_quantize/output") for op in convolutions]
        assert all(quantised) if twin.startswith("Quantized") else not any(quantised)

    assert found[0] == found[1]
    assert len(found[0]) == count
    assert example in found[0]


def keras_says(name, width, folder):
    """(weights file, pictures as the network takes them, Keras' output at the feature layer, Keras' probabilities)."""
    import tf_keras

    rng = np.random.default_rng(1)
    pictures = rng.uniform(-120, 120, (1, 224, 224, 3)).astype(np.float32)
    model = getattr(tf_keras.applications, name)(weights=None)
    model.set_weights([_milder(random_like(weight, rng), weight.name) for weight in model.weights])
    model.save_weights(folder / "weights.h5")
    both = tf_keras.Model(model.input, [model.get_layer(width).output, model.output])
    seen = pictures * 0.017 if name == "DenseNet121" else pictures[..., ::-1]
    features, probabilities = (output.numpy() for output in both(seen, training=False))
    tf_keras.backend.clear_session()
    return folder / "weights.h5", pictures * (0.017 if name == "DenseNet121" else 1), features, probabilities


def _milder(value, name):
    """The first kernel takes grey levels to about 1, so that biases matter."""
    return value / 70 if name.startswith("block1_conv1/kernel") else value


@pytest.mark.parametrize(("name", "width"), [("DenseNet121", "avg_pool"), ("VGG16", "fc2")])
def test_the_float_graph_gives_keras_output(name, width, tmp_path):
    path, pictures, features, probabilities = keras_says(name, width, tmp_path)
    with tf.Graph().as_default(), tf.Session() as session:
        model = {"DenseNet121": Densenet121, "VGG16": Vgg16}[name](tmp_path, weights=path)
        result = model.import_graph_def(is_training=False)
        classified = model.get_default_classifier(result)
        model.restore_weights(session)
        answers = tf.nn.softmax(classified) if name == "VGG16" else classified
        ours, ours_classified = session.run([result, answers], {model.input_tensor_list[0]: pictures})

    assert np.abs(ours[:, 0, 0] - features).max() / np.abs(features).max() < 1e-4
    assert features.std() > 0.05 and 0.001 < probabilities.max() < 0.9
    assert np.abs(ours_classified - probabilities).max() < 1e-4


def test_weights_move_from_the_quantised_twin_to_the_float_one(tmp_path):
    picture = np.random.default_rng(0).uniform(-2, 2, (1, 224, 224, 3)).astype(np.float32)
    results, variables = [], []
    for twin, source in ((QuantizedDensenet121, "random"), (Densenet121, tmp_path / "saved")):
        with tf.Graph().as_default(), tf.Session() as session:
            model = twin(tmp_path, weights=source)
            features = model.import_graph_def(is_training=False)
            model.restore_weights(session)
            results.append(session.run(features, {model.input_tensor_list[0]: picture}))
            model.save_weights(tmp_path / "saved" / "weights", session)
            variables.append({(v.op.name, tuple(v.shape)) for v in tf.global_variables()})

    assert variables[0] == variables[1] and len(variables[0]) == 604
    assert ("densenet121/dense_block1/conv_block6/BatchNorm/gamma", (224,)) in variables[0]
    quantized, plain = results
    assert 1e-4 < np.abs(plain - quantized).max() / np.abs(plain).max() < 0.3
    assert np.corrcoef(plain.ravel(), quantized.ravel())[0, 1] > 0.98


def test_dropout_follows_the_phase_tensor(tmp_path):
    with tf.Graph().as_default() as graph:
        phase = tf.placeholder(tf.bool, [])
        Vgg16(tmp_path, weights="random").import_graph_def(is_training=phase)
        assert "vgg_16/dropout6" in {op.name for op in graph.get_operations()}
    _, _, graph = imported("Vgg16")
    assert not any("dropout" in op.name for op in graph.get_operations())


def test_ssd_has_no_imagenet_weights(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        model = QuantizedSsdVgg(tmp_path, weights="imagenet")
        model.import_graph_def()
        with pytest.raises(WeightsError, match="there are no ImageNet weights of ssdvgg"):
            model.restore_weights(session)


def test_what_falls_back_to_random_weights_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("AMLREALTIMEAI_DATA", str(tmp_path))
    Vgg16(tmp_path)
    SsdVgg(tmp_path)

    assert caplog.messages == [
        "No workshop weights ship for vgg16 yet: using random ones; weights='imagenet' downloads real ones.",
        "No workshop weights ship for ssdvgg yet: using random ones.",
    ]


def test_features_of_another_network_are_refused(tmp_path):
    with (
        tf.Graph().as_default(),
        pytest.raises(InvalidInputError, match=r"densenet121 expects its features.*2048.*import_graph_def"),
    ):
        Densenet121(tmp_path, weights="random").get_default_classifier(tf.placeholder(tf.float32, [None, 1, 1, 2048]))
