"""One float and one quantised ResNet-50, built once: their graphs and sessions serve all tests that only read."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import QuantizedResnet50, Resnet50, utils
from amlrealtimeai.accel.models.base import FloatModel


@dataclass(frozen=True)
class Classifier:
    """A network from encoded images to probabilities, with its weights restored."""

    model: FloatModel
    graph: tf.Graph
    session: tf.Session
    images: tf.Tensor
    pixels: tf.Tensor
    features: tf.Tensor
    probabilities: tf.Tensor

    def classify(self, pictures: list[bytes]) -> np.ndarray:
        """Most probable class of each encoded picture."""
        return self.session.run(self.probabilities, {self.images: pictures}).argmax(axis=1)


def _classifier(model: FloatModel) -> Iterator[Classifier]:
    graph = tf.Graph()
    session = tf.Session(graph=graph)
    with graph.as_default():
        images = tf.placeholder(tf.string)
        pixels = utils.preprocess_array(images)
        features = model.import_graph_def(pixels)
        probabilities = model.get_default_classifier(features)
        model.restore_weights(session)
    # outside of as_default: while a session fixture lives, other tests have their own default graph
    yield Classifier(model, graph, session, images, pixels, features, probabilities)
    session.close()


@pytest.fixture(scope="session")
def float_resnet(tmp_path_factory) -> Iterator[Classifier]:
    yield from _classifier(Resnet50(tmp_path_factory.mktemp("models"), is_frozen=True, weights="workshop"))


@pytest.fixture(scope="session")
def quantized_resnet(tmp_path_factory) -> Iterator[Classifier]:
    yield from _classifier(QuantizedResnet50(tmp_path_factory.mktemp("models"), weights="workshop"))
