"""TensorFlow 1's switches, each alone; tests/core/test_old_programs.py throws all of them."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import utils
from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder

SWITCHES = {
    "v2_tensorshape": (tf.disable_v2_tensorshape, tf.enable_v2_tensorshape),
    "resource_variables": (tf.disable_resource_variables, tf.enable_resource_variables),
    "control_flow_v2": (tf.disable_control_flow_v2, tf.enable_control_flow_v2),
    "tensor_equality": (
        tf.compat.v1.disable_tensor_equality,
        tf.compat.v1.enable_tensor_equality,
    ),
}


def _featurizer(b: Builder, x: tf.Tensor) -> list[tf.Tensor]:
    """Every layer that a builder has."""
    x = tf.nn.relu(b.conv_bn(b.image(x, "a/input"), 8, 3, scope="a", keras="a", first=True))
    x = tf.nn.relu(b.batch_norm(x, scope="b", keras="b"))
    x = b.conv(b.activation(x, "c/input"), 12, 1, scope="c", keras="c", stored_shape=(8, 12))
    x = b.dropout(b.l2_normalize(x, scope="d", keras="d", typical=2.0), 0.5, "dropped")
    return [tf.reduce_mean(x, [1, 2], keepdims=True, name="mean")]


def _classifier(features: tf.Tensor, kernel: np.ndarray) -> tf.Tensor:
    return tf.nn.softmax(tf.matmul(tf.reshape(features, [-1, 12]), kernel), name="answer")


NETWORK = Network(
    "all", "all", "0.1.0", [16, 16, 3], [[1, 1, 12]], _featurizer, _classifier, {"top/kernel": (12, 5)}, None
)


class All(FloatModel):
    network = NETWORK


class QuantizedAll(QuantizedModel):
    network = NETWORK


@pytest.fixture(params=SWITCHES)
def switch(request):
    off, on = SWITCHES[request.param]
    off()
    yield request.param
    on()


def _flow(folder):
    """Train a float network a step, save it, load it into its twin; returns the answers of both."""
    pictures = np.random.default_rng(0).uniform(-100, 100, (4, 16, 16, 3)).astype(np.float32)
    answers = []
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)  # dropout
        phase = tf.placeholder(tf.bool, [])
        model = All(folder, weights="random")
        classified = model.get_default_classifier(model.import_graph_def(is_training=phase))
        step = tf.train.GradientDescentOptimizer(1e-3).minimize(tf.reduce_sum(classified[:, 0]))
        session.run(tf.global_variables_initializer())
        model.restore_weights(session)
        feed = {model.input_tensor_list[0]: pictures}
        session.run(step, {**feed, phase: True})
        answers.append(session.run(classified, {**feed, phase: False}))
        model.save_weights(folder / "saved" / "weights", session)
    with tf.Graph().as_default(), tf.Session() as session:
        model = QuantizedAll(folder, custom_weights_directory=folder / "saved")
        features = model.import_graph_def()
        classified = All(folder, weights="random").get_default_classifier(features)
        gradients = tf.gradients(classified[:, 0], tf.trainable_variables())
        model.restore_weights(session)
        found, *slopes = session.run([classified, *gradients], {model.input_tensor_list[0]: pictures})
        assert all(np.isfinite(slope).all() for slope in slopes)
        answers.append(found)
    return answers


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return _flow(tmp_path_factory.mktemp("usual"))


def test_a_network_is_the_same_under_each_switch(usual, switch, tmp_path):
    for expected, found in zip(usual, _flow(tmp_path), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(usual[0] - usual[1]).max() < 0.05


def test_preprocessing_under_each_switch(switch):
    from amlrealtimeai import resources

    with tf.Graph().as_default(), tf.Session() as session:
        encoded = tf.placeholder(tf.string)
        pixels = utils.preprocess_array(encoded)
        assert pixels.shape.as_list() == [None, 224, 224, 3]
        found = session.run(pixels, {encoded: [resources.path("images/red_fox.jpg").read_bytes()]})
    assert found.shape == (1, 224, 224, 3) and 20 < found.std() < 100
