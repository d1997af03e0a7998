"""TensorFlow's TF1 switches, which old code sets in its first line: conversion and stages work under each of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks a process with TensorFlow")

SWITCHES = (
    "disable_v2_behavior",
    "disable_v2_tensorshape disable_eager_execution",
    "disable_control_flow_v2",
    "disable_resource_variables",
)
# Switches hold for a whole process: every line of standard input gets a fork of its own.
CODE = """
import os, random, sys, tempfile, traceback
from pathlib import Path
import numpy as np
from amlrealtimeai.convert.quiet import tensorflow
tensorflow()
import tensorflow.compat.v1 as tf
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import convert_saved_model
from amlrealtimeai.pipeline import KerasStage, ServiceDefinition, TensorflowStage
from tests.convert import networks

def answer(path, images):
    (value,) = ConvertedModel.load(path).predict({"images": images}).outputs.values()
    return value

def saved(stages, path, images):
    definition = ServiceDefinition()
    definition.pipeline += stages
    definition.save(path)
    return answer(path, images)

def work(folder):
    report = convert_saved_model(networks.whole(folder / "noted"), "images", "output_alias", folder / "out", name="m")
    assert [stage.kind for stage in report.stages] == ["preprocess", "npu", "onnx"]
    assert report.checks[1].measured < 1e-4
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        # Where weights cancel each other, narrow numbers leave more than the tolerance below.
        random.seed(0)  # Keras draws its seeds from here
        tf.set_random_seed(0)
        layers = tf.keras.layers
        x = tf.placeholder(tf.float32, [None, 16, 16, 3], name="x")
        maps = tf.nn.relu(tf.nn.conv2d(x, networks.weights("k", [3, 3, 3, 8]), 2, "SAME"))
        top = [layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.5), layers.Dense(3)]
        head = tf.keras.Sequential(top)
        head.build(maps.shape)
        hidden = head(maps)
        session.run(tf.global_variables_initializer())
        head.save_weights(str(folder / "w.h5"))
        head.load_weights(str(folder / "w.h5"))
        matrix = tf.get_variable("matrix", [3, 3])
        session.run(matrix.initializer)
        scores = tf.matmul(hidden, matrix)
        feed = {x: images, tf.keras.backend.learning_phase(): 0}
        features, middle, expected = session.run([maps, hidden, scores], feed)
        stages = [TensorflowStage(session, x, maps, name="t"), KerasStage(head, name="k")]
        np.testing.assert_allclose(saved(stages, folder / "a.zip", images), middle, atol=1e-4)
        cut = [TensorflowStage(session, maps, scores)]
        np.testing.assert_allclose(saved(cut, folder / "b.zip", features), expected, atol=1e-4)
        tf.saved_model.simple_save(session, str(folder / "model"), {"images": x}, {"scores": scores})
    convert_saved_model(folder / "model", "x", "scores", folder / "whole", name="m", fmt="msfp16")
    np.testing.assert_allclose(answer(folder / "whole", images), expected, atol=0.05 * np.abs(expected).max())

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            for switch in line.split():
                getattr(tf, switch)()
            with tempfile.TemporaryDirectory() as folder:
                work(Path(folder))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_conversion_and_stages_work_under_every_switch() -> None:
    process = subprocess.run(
        [sys.executable, "-c", CODE],
        input="\n".join(SWITCHES),
        text=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.stdout.split() == ["0"] * len(SWITCHES), process.stderr[-3000:]
