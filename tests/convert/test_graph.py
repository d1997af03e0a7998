from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.convert import convert_saved_model
from amlrealtimeai.convert.graph import drop_quantisers
from amlrealtimeai.convert.saved_model import load
from tests.convert import networks

CLASSES = 40_000


def wide(features: Any) -> Any:
    """Features [n, 1, 1, 32] -> sums [n, CLASSES], with a large matrix and a large bias."""
    flat = tf.reshape(features, [-1, 32])
    return tf.identity(
        flat @ networks.weights("wide", [32, CLASSES]) + networks.weights("bias", [CLASSES], 1.0), "sums"
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.whole(tmp_path_factory.mktemp("wide") / "model", wide)


def test_copies_of_a_graph_share_large_weights(saved: Path) -> None:
    model = load(saved, "images", "output_alias")
    float_graph, dropped = drop_quantisers(model.graph, model.outputs)

    assert dropped > 0
    assert sorted(value.size for value in model.graph.weights.values()) == [CLASSES, 32 * CLASSES]
    assert all(float_graph.weights[name] is value for name, value in model.graph.weights.items())
    assert max(graph.graph_def.ByteSize() for graph in (model.graph, float_graph)) < 4 * CLASSES


def test_the_graph_def_that_holds_all_computes_what_the_graph_does(saved: Path) -> None:
    graph = load(saved, "images", "output_alias").graph
    feed = {networks.FEATURES: np.random.default_rng(1).normal(size=(2, 1, 1, 32)).astype(np.float32)}
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph.as_graph_def(), name="")
        expected = session.run("sums:0", feed)

    assert np.ptp(expected) > 1
    assert np.array_equal(graph.run(["sums:0"], feed)[0], expected)


def test_large_weights_convert(saved: Path, tmp_path: Path) -> None:
    report = convert_saved_model(saved, "images", "output_alias", tmp_path / "wide.accelonnx", name="wide")

    assert report.size > 4 * 33 * CLASSES
    assert all(check.passed for check in report.checks)
