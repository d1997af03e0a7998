"""What old code asks of a network before it imports it, and what an import changes of the answers."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel import models
from amlrealtimeai.errors import InvalidInputError

BLOCKS = (4, 7, 8, 9, 10, 11)
SSD = [f"ssd_300_vgg/block{b}_box/Reshape_1:0" for b in BLOCKS] + [
    f"ssd_300_vgg/block{b}_box/Reshape:0" for b in BLOCKS
]
NETWORKS = {
    "Resnet50": (224, ["resnet_v1_50/pool5:0"], [[None, 1, 1, 2048]], "resnet_v1_50/predictions/Softmax:0"),
    "Resnet152": (224, ["resnet_v1_152/pool5:0"], [[None, 1, 1, 2048]], "resnet_v1_152/predictions/Softmax:0"),
    "Densenet121": (224, ["densenet121/pool5:0"], [[None, 1, 1, 1024]], "densenet121/predictions/Softmax:0"),
    "Vgg16": (224, ["vgg_16/fc7/Relu:0"], [[None, 1, 1, 4096]], "vgg_16/fc8/squeezed:0"),
    "SsdVgg": (
        300,
        SSD,
        [
            [None, sites, sites, anchors, last]
            for last in (21, 4)
            for sites, anchors in ((37, 4), (19, 6), (10, 6), (5, 6), (3, 4), (1, 4))
        ],
        None,
    ),
}
TWINS = [f"{twin}{name}" for name in NETWORKS for twin in ("", "Quantized")]


@pytest.mark.parametrize("name", TWINS)
def test_a_network_answers_before_its_import(name, tmp_path):
    size, outputs, dims, classifier = NETWORKS[name.removeprefix("Quantized")]
    network = getattr(models, name)
    model = network(tmp_path, is_frozen=True, weights="random")

    assert model.input_tensor_list == ["InputImage:0"]
    assert model.output_tensor_list == outputs
    assert model.get_input_dims() == model.get_input_dims(index=0) == [None, size, size, 3]
    assert [model.get_output_dims(index=number) for number in range(len(dims))] == dims
    assert model.get_output_dims() == model.get_output_dims(np.int64(0)) == dims[0]
    assert model.is_frozen is True and network(tmp_path, weights="random").is_frozen is False
    assert model.classifier_output == network.classifier_output == classifier
    assert model.classifier_input == network.classifier_input == (outputs[0] if classifier else None)
    for ask, number in ((model.get_output_dims, len(dims)), (model.get_input_dims, 1), (model.get_output_dims, -13)):
        with pytest.raises(IndexError, match=r"expected an (in|out)put from 0 to"):
            ask(number)
    model.get_output_dims()[0] = 7
    model.output_tensor_list.clear()
    assert model.get_output_dims() == dims[0] and model.output_tensor_list == outputs


@pytest.mark.parametrize("name", ["SsdVgg", "Densenet121", "QuantizedVgg16"])
def test_an_import_without_an_input_adds_the_placeholder(name, tmp_path):
    size, outputs, dims, classifier = NETWORKS[name.removeprefix("Quantized")]
    with tf.Graph().as_default() as graph:
        model = getattr(models, name)(tmp_path, weights="random")
        result = model.import_graph_def()
        results = result if isinstance(result, list) else [result]
        assert [tensor.name for tensor in results] == model.output_tensor_list == outputs
        assert [tensor.shape.as_list() for tensor in results] == dims
        assert model.input_tensor_list == ["InputImage:0"]
        assert graph.get_tensor_by_name("InputImage:0").shape.as_list() == [None, size, size, 3]
        if classifier:
            answer = model.get_default_classifier(results[0])
            assert answer.name == f"classifier/{model.classifier_output}"


def test_a_second_import_into_a_graph_gets_the_next_names(tmp_path):
    with tf.Graph().as_default():
        model = models.SsdVgg(tmp_path, weights="random")
        model.import_graph_def()
        pixels = tf.placeholder(tf.float32, [None, 300, 300, 3], name="pixels")
        again = model.import_graph_def(pixels, False)
        assert model.input_tensor_list == ["pixels:0"]
        assert [tensor.name for tensor in again] == [name.replace("vgg/", "vgg_1/") for name in SSD]
        model.import_graph_def()
        assert model.input_tensor_list == ["InputImage_1:0"]
    with tf.Graph().as_default():
        assert model.import_graph_def()[0].name == SSD[0]


def test_a_network_without_a_classifier_says_so_as_the_original_did(tmp_path):
    from amlrealtimeai.accel.models.doesnotexisterror import DoesNotExistError

    with tf.Graph().as_default():
        features = tf.placeholder(tf.float32, [None, 1, 1, 2048])
        for kind in (DoesNotExistError, ValueError, NotImplementedError):
            with pytest.raises(kind, match="ssdvgg has no classifier"):
                models.SsdVgg(tmp_path, weights="random").get_default_classifier(features)


@pytest.mark.parametrize("phase", [0, 1, np.bool_(True), np.bool_(False), True, False])
def test_a_phase_that_is_known_may_be_any_truth_value(phase, tmp_path):
    with tf.Graph().as_default():
        models.QuantizedVgg16(tmp_path, weights="random").import_graph_def(is_training=phase)
        assert bool(tf.trainable_variables()) == bool(phase)


def test_weights_need_an_import(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session, pytest.raises(InvalidInputError, match="import_graph_def"):
        models.Resnet50(tmp_path).restore_weights(session)
