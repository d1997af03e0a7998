"""Training in the session: Keras layers on graph tensors, float training, quantised fine-tuning; all seeded."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder
from amlrealtimeai.npu import BlockFormat

CLASSES = 6
NARROW = BlockFormat(16, 1, 8)


def _featurizer(b: Builder, x: tf.Tensor) -> list[tf.Tensor]:
    x = tf.nn.relu(b.conv_bn(b.image(x, "a/input"), 16, 3, scope="a", keras="a", first=True, input_variance=5000.0))
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.nn.relu(b.conv_bn(b.activation(x, "b/input"), 16, 3, scope="b", keras="b"))
    x = tf.nn.relu(b.conv_bn(b.activation(x, "c/input"), 32, 3, scope="c", keras="c", stride=2))
    return [tf.reduce_mean(x, [1, 2], keepdims=True, name="pool")]


NETWORK = Network("small", "small", "0.1.0", [16, 16, 3], [[1, 1, 32]], _featurizer, None, {}, None)


class Small(FloatModel):
    network = NETWORK


class QuantizedSmall(QuantizedModel):
    network = NETWORK


def pictures(count, seed):
    """Gratings in six directions with noise, like pixels minus their means."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    angle = (labels * np.pi / CLASSES + rng.normal(0, 0.06, count))[:, None, None]
    y, x = np.mgrid[0:16, 0:16]
    waves = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 1.1 + rng.uniform(0, 6.3, count)[:, None, None])
    grey = waves * 60 + rng.normal(0, 45, waves.shape)
    return np.repeat(grey[..., None], 3, 3).astype(np.float32), labels


class Classifier:
    """A model with a Keras layer on its features; variables have values once restored."""

    def __init__(self, session, model, is_training=True):
        self.session, self.model = session, model
        features = model.import_graph_def(is_training=is_training)
        self.layer = tf.keras.layers.Dense(CLASSES, name="head")
        self.logits = self.layer(tf.keras.layers.Flatten()(features))
        self.labels = tf.placeholder(tf.int64, [None])
        self.loss = tf.losses.sparse_softmax_cross_entropy(self.labels, self.logits)
        session.run(self.layer.kernel.initializer)
        session.run(self.layer.bias.initializer)
        model.restore_weights(session)

    def train(self, data, steps, rate, feed=None, variables=None):
        before = set(tf.global_variables())
        step = tf.train.AdamOptimizer(rate).minimize(self.loss, var_list=variables)
        self.session.run(tf.variables_initializer([v for v in tf.global_variables() if v not in before]))
        rng = np.random.default_rng(0)
        for _ in range(steps):
            part = rng.integers(0, len(data[1]), 64)
            images = {self.model.input_tensor_list[0]: data[0][part], self.labels: data[1][part]}
            self.session.run(step, {**images, **(feed or {})})

    def accuracy(self, data, feed=None):
        found = self.session.run(self.logits, {self.model.input_tensor_list[0]: data[0], **(feed or {})})
        return 100 * (found.argmax(1) == data[1]).mean()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder with a trained checkpoint, the head's weights, float accuracy, training pictures, held-out ones)."""
    folder = tmp_path_factory.mktemp("trained")
    taught, held = pictures(2048, 1), pictures(1024, 2)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        phase = tf.placeholder(tf.bool, [])
        float_net = Classifier(session, Small(folder, weights="random"), phase)
        untrained = float_net.accuracy(held, {phase: False})
        float_net.train(taught, 400, 3e-3, {phase: True})
        accuracy = float_net.accuracy(held, {phase: False})
        float_net.model.save_weights(folder / "saved" / "weights", session)
        head = session.run([float_net.layer.kernel, float_net.layer.bias])
    assert untrained < 40
    return folder / "saved", head, accuracy, taught, held


def test_fine_tuning_wins_back_what_a_narrow_format_costs(trained, tmp_path):
    folder, head, before, taught, held = trained
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        model = QuantizedSmall(tmp_path, custom_weights_directory=folder, number_format=NARROW)
        quantized = Classifier(session, model)
        quantized.layer.kernel.load(head[0], session)
        quantized.layer.bias.load(head[1], session)
        narrow = quantized.accuracy(held)
        quantized.train(taught, 300, 1e-3)
        tuned = quantized.accuracy(held)

    print(f"float {before:.1f} %, narrow {narrow:.1f} %, fine-tuned {tuned:.1f} %")
    assert before > 90
    assert before - narrow >= 2
    assert tuned - narrow >= 0.8 * (before - narrow)


def test_transfer_learning_leaves_a_frozen_network_alone(trained, tmp_path):
    folder, _, before, taught, held = trained
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(2)
        model = QuantizedSmall(tmp_path, is_frozen=True, custom_weights_directory=folder, number_format="msfp16")
        classifier = Classifier(session, model)
        assert [v.op.name for v in tf.trainable_variables()] == ["head/kernel", "head/bias"]
        kernels = [v for v in tf.global_variables() if v.op.name.startswith("small/")]
        start = session.run(kernels)
        classifier.train(taught, 150, 3e-2)
        end = session.run(kernels)
        accuracy = classifier.accuracy(held)

    assert all(np.array_equal(a, b) for a, b in zip(start, end, strict=True))
    assert accuracy > before - 5


def test_labels_of_the_wrong_length_are_named(trained, tmp_path):
    folder, _, _, taught, _ = trained
    with tf.Graph().as_default(), tf.Session() as session:
        classifier = Classifier(session, Small(tmp_path, weights=folder))
        feed = {classifier.model.input_tensor_list[0]: taught[0][:4], classifier.labels: taught[1][:3]}
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"logits shape \[4,6\] and labels shape \[3\]"):
            session.run(classifier.loss, feed)
