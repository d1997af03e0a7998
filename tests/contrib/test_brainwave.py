"""The middle edition (autumn 2018): its networks, stages and services, by its names."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import amlrealtimeai.contrib.brainwave.models.utils as utils
from amlrealtimeai import resources
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.contrib.brainwave.client import PredictionClient
from amlrealtimeai.contrib.brainwave.models import Densenet121, QuantizedResnet50, QuantizedVgg16, Resnet50
from amlrealtimeai.contrib.brainwave.models.networks import FloatBrainwaveModel, QuantizedBrainwaveModel
from amlrealtimeai.contrib.brainwave.pipeline import BrainWaveStage, KerasStage, ModelDefinition, TensorflowStage
from amlrealtimeai.errors import InvalidInputError
from tests.accel_models.test_training import NETWORK as SMALL
from tests.client.endpoints import echo, predicting

FOX, FOX_CLASS = resources.path("images/red_fox.jpg"), 277


def test_a_network_answers_by_its_old_names(tmp_path):
    model = QuantizedResnet50(tmp_path, is_frozen=True)

    assert (model.model_ref, model.version, model.is_frozen) == ("resnet50", model.model_version, True)
    assert (model.input_dims, model.output_dims) == ([None, 224, 224, 3], [None, 1, 1, 2048])
    assert (model.input_tensor_name, model.output_tensor_name) == ("InputImage:0", "resnet_v1_50/pool5:0")
    assert (model.classifier_input, model.classifier_output) == (
        "resnet_v1_50/pool5:0",
        "resnet_v1_50/predictions/Softmax:0",
    )
    assert Densenet121("unused", True, weights="random").output_dims == [None, 1, 1, 1024]


def test_the_quickstart_s_network_needs_no_restored_weights(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        in_images = tf.placeholder(tf.string)
        model = QuantizedResnet50(tmp_path, is_frozen=True)
        feature_tensor = model.import_graph_def(utils.preprocess_array(in_images))
        assert (feature_tensor.name, feature_tensor.shape.as_list()) == ("resnet_v1_50/pool5:0", [None, 1, 1, 2048])
        classifier_output = model.get_default_classifier(feature_tensor)
        assert tf.global_variables() == []
        model.restore_weights(sess)
        found = sess.run(classifier_output, {in_images: [FOX.read_bytes()]})
        assert found.argmax() == FOX_CLASS
        with pytest.raises(InvalidInputError, match=r"resnet50 is frozen: its weights are constants"):
            model.save_weights(tmp_path / "w" / "rn50")


class Small(FloatBrainwaveModel):
    network = SMALL


class QuantizedSmall(QuantizedBrainwaveModel):
    network = SMALL


def test_own_weights_go_through_the_session(tmp_path):
    """Train in float, write, read into the quantised network, and convert what the session holds."""
    pictures = np.random.default_rng(0).uniform(-120, 120, (1, 16, 16, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        model = Small(tmp_path, weights="random")
        model.import_graph_def()
        tf.global_variables_initializer().run()
        model.restore_weights(sess)
        beta = next(v for v in tf.trainable_variables() if v.op.name == "small/c/BatchNorm/beta")
        sess.run(beta.assign_add(10 * tf.ones_like(beta)))
        model.save_weights(tmp_path / "custom" / "rn50", sess)
    with tf.Graph().as_default(), tf.Session() as sess:
        model = QuantizedSmall(tmp_path, custom_weights_directory=tmp_path / "custom")
        features = model.import_graph_def(is_training=False)
        model.restore_weights(sess)
        expected = sess.run(features, {model.input_tensor_name: pictures})
        model_def = ModelDefinition()
        model_def.pipeline.append(BrainWaveStage(sess, model))
        model_def.save(tmp_path / "own.zip")
    found = []
    for frozen in (
        QuantizedSmall(tmp_path, True, tmp_path / "custom"),
        Small(tmp_path, True, tmp_path / "custom"),
        Small(tmp_path, True, weights="random"),
    ):
        with tf.Graph().as_default(), tf.Session() as sess:
            found.append(sess.run(frozen.import_graph_def(), {"InputImage:0": pictures}))

    answer = ConvertedModel.load(tmp_path / "own.zip").predict({"images": pictures}).outputs["output_alias"]
    np.testing.assert_allclose(answer, expected, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert np.corrcoef(found[1].ravel(), expected.ravel())[0, 1] > 0.98
    assert 8 < np.mean(found[1] - found[2]) < 11


def test_a_frozen_network_imported_twice_has_its_latest_names(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        model = QuantizedSmall(tmp_path, is_frozen=True, weights="random")
        first = model.import_graph_def()
        pixels = tf.placeholder(tf.float32, [None, 16, 16, 3], name="pixels")
        second = model.import_graph_def(pixels)
        assert (model.input_tensor_name, model.output_tensor_name) == ("pixels:0", second.name)
        values = np.ones((1, 16, 16, 3), np.float32)
        one, other = sess.run([first, second], {"InputImage:0": values, "pixels:0": values})
        np.testing.assert_array_equal(one, other)
        assert first.name != second.name


def test_a_classifier_of_the_class_as_it_was_at_first(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, 1, 1, 2048])
        classifier_input, classifier_output = Resnet50.get_default_classifier(features, str(tmp_path))
        assert classifier_input is features
        found = session.run(classifier_output, {features: np.zeros((2, 1, 1, 2048))})
    assert found.shape == (2, 1000)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_a_keras_classifier_follows_the_featurizer(tmp_path):
    layers = tf.keras.layers
    with tf.Graph().as_default():
        session = tf.Session()
        tf.keras.backend.set_session(session)
        model = tf.keras.Sequential()
        model.add(layers.Dropout(0.2, input_shape=(1, 1, 32)))
        model.add(layers.Dense(8, activation="relu", input_dim=(1, 1, 32)))
        model.add(layers.Flatten())
        model.add(layers.Dense(2, activation="softmax", input_dim=8))
        session.run(tf.global_variables_initializer())
        in_images = tf.placeholder(tf.string)
        image_tensors = utils.preprocess_array(in_images, output_height=16, output_width=16)
        featurizer = QuantizedSmall(tmp_path, is_frozen=True, weights="random")
        features = featurizer.import_graph_def(input_tensor=image_tensors)
        with tf.Session() as sess:
            seen = sess.run([features], feed_dict={in_images: [FOX.read_bytes()]})[0]
        expected = model.predict(seen)
        model_def = ModelDefinition()
        model_def.pipeline.append(TensorflowStage(tf.Session(), in_images, image_tensors))
        model_def.pipeline.append(BrainWaveStage(tf.Session(), featurizer))
        model_def.pipeline.append(KerasStage(model))
        model_def.save(tmp_path / "a" / "b" / "model_def")
    loaded = ConvertedModel.load(tmp_path / "a" / "b" / "model_def")
    answer = loaded.predict({"images": np.array([FOX.read_bytes()], object)}).outputs["output_alias"]
    np.testing.assert_allclose(answer, expected, atol=0.01)


def test_a_stage_wants_a_session_and_a_network(tmp_path):
    with pytest.raises(InvalidInputError, match=r"BrainWaveStage\(session, model\) expects a model of .*contrib"):
        BrainWaveStage(QuantizedVgg16(tmp_path, weights="random"), None)


def test_the_client_scores_the_bytes_of_a_file():
    with predicting(echo) as port, PredictionClient("127.0.0.1", port) as client:
        assert client.score_file(FOX.read_bytes()) == client.score_file(str(FOX)) == client.score_image(FOX)
        assert client.score_numpy_array(np.ones((1, 3))).shape == (1, 3)
        assert [dim.size for dim in client.score_tensor(b"x", [1], 7).tensor_shape.dim] == [1]
