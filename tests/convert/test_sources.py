"""Whatever TensorFlow wrote: conditionals, loops, variables of every kind, shapes that were set from Python."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import ConversionReport, convert_saved_model
from amlrealtimeai.convert.saved_model import from_session
from amlrealtimeai.errors import ConversionError, InvalidInputError
from tests.convert import networks

Build = Callable[[Any, Any], Any]
IMAGES = np.random.default_rng(11).normal(0, 1, (3, 16, 16, 3)).astype(np.float32)


@contextmanager
def control_flow(version: int) -> Any:
    (tf.disable_control_flow_v2 if version == 1 else tf.enable_control_flow_v2)()
    try:
        yield
    finally:
        tf.enable_control_flow_v2()


def features(x: Any) -> Any:
    """Images [n, 16, 16, 3] -> [n, 8], a small convolutional network."""
    return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, networks.weights("kernel", [3, 3, 3, 8]), 2, "SAME")), [1, 2])


def export(folder: Path, build: Build, feed: dict[str, Any] | None = None) -> np.ndarray:
    """Save build(session, images placeholder) as a SavedModel x -> y; returns TensorFlow's answer for IMAGES."""
    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, 16, 16, 3], name="x")
        y = build(session, x)
        done = {name.decode() for name in session.run(tf.report_uninitialized_variables())}
        session.run([v.initializer for v in tf.global_variables() if v.op.name in done])
        tf.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})
        expected: np.ndarray = session.run(y, {x: IMAGES, **(feed or {})})
    assert np.ptp(expected) > 0.01, "a constant answer would prove nothing"
    return expected


def converts(folder: Path, expected: np.ndarray, **options: Any) -> ConversionReport:
    """Convert and compare with TensorFlow; msfp16 keeps the NPU's part close to float32."""
    report = convert_saved_model(folder, "x", "y", folder.parent / "out", name="m", fmt="msfp16", **options)
    answer = ConvertedModel.load(folder.parent / "out").predict({"x": IMAGES}, ["y"]).outputs["y"]
    assert answer.shape == expected.shape and answer.dtype == expected.dtype
    np.testing.assert_allclose(answer, expected, atol=0.03 * np.abs(expected).max())
    assert report.stages[0].kind == "npu"
    return report


def positive(h: Any) -> Any:
    return tf.reduce_mean(h) > 0.01


CONDITIONALS: dict[str, Build] = {
    "constant branches, training switch": lambda s, x: (
        features(x)
        * tf.cond(
            tf.placeholder_with_default(True, [], name="is_training"),
            lambda: tf.constant(9.0),
            lambda: tf.constant(2.0),
        )
    ),
    "constant branches, constant predicate": lambda s, x: (
        features(x) * tf.cond(tf.logical_not(tf.constant(True)), lambda: tf.constant(9.0), lambda: tf.constant(2.0))
    ),
    "constant branches that the images choose": lambda s, x: (
        (h := features(x)) * tf.cond(positive(h), lambda: tf.constant(2.0), lambda: tf.constant(9.0))
    ),
    "branches that the images choose": lambda s, x: tf.cond(
        positive(h := features(x)), lambda: tf.nn.sigmoid(h), lambda: -h
    ),
    "variables in the branches": lambda s, x: tf.cond(
        positive(h := features(x)), lambda: h * networks.weights("a", [8]), lambda: h - networks.weights("b", [8])
    ),
    "a conditional in a branch that is never taken": lambda s, x: (
        features(x)
        * tf.cond(
            tf.constant(False),
            lambda: tf.cond(tf.constant(True), lambda: tf.constant(9.0), lambda: tf.constant(8.0)),
            lambda: tf.cond(tf.constant(True), lambda: tf.constant(2.0), lambda: tf.constant(7.0)),
        )
    ),
    "a loop": lambda s, x: tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 1.5 + 0.1), [0, features(x)])[1],
    "a loop that reads a variable": lambda s, x: (
        w := networks.weights("w", [8]),
        tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * w + 0.1), [0, features(x)])[1],
    )[1],
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", CONDITIONALS)
def test_control_flow_converts(tmp_path: Path, name: str, version: int) -> None:
    with control_flow(version):
        expected = export(tmp_path / "m", CONDITIONALS[name], {"is_training:0": False} if "training" in name else None)
    converts(tmp_path / "m", expected)


def test_a_branch_follows_the_images(tmp_path: Path) -> None:
    def build(session: Any, x: Any) -> Any:
        return features(x) * tf.cond(
            tf.reduce_mean(x) > 0, lambda: tf.constant(2.0), lambda: tf.constant(9.0), name="c"
        )

    with control_flow(1):
        converts(tmp_path / "m", export(tmp_path / "m", build))
    loaded = ConvertedModel.load(tmp_path / "out")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.saved_model.loader.load(session, ["serve"], str(tmp_path / "m"))
        for images in (IMAGES + 1, IMAGES - 1):
            expected = session.run("mul:0", {"x:0": images})
            got = loaded.predict({"x": images}, ["y"]).outputs["y"]
            np.testing.assert_allclose(got, expected, atol=0.01 * expected.max())


def keras_head(*layers: Any, saved: bool) -> Build:
    def build(session: Any, x: Any) -> Any:
        tf.keras.backend.set_session(session)
        maps = tf.nn.relu(tf.nn.conv2d(x, networks.weights("kernel", [3, 3, 3, 8]), 2, "SAME"))
        model = tf.keras.Sequential([getattr(tf.keras.layers, name)(*given) for name, *given in layers])
        model.build(maps.shape)
        y = model(maps)
        if saved:
            session.run(tf.global_variables_initializer())
            random = np.random.default_rng(4)
            model.set_weights([np.abs(random.normal(1, 0.3, w.shape)) for w in model.get_weights()])
            model.save_weights("weights.h5")
            model.load_weights("weights.h5")
        return y

    return build


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("saved", [False, True], ids=["initialised", "load_weights"])
def test_keras_heads_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: bool, version: int) -> None:
    monkeypatch.chdir(tmp_path)
    head = [
        ("BatchNormalization",),
        ("GlobalAveragePooling2D",),
        ("BatchNormalization",),
        ("Dense", 4),
        ("Dropout", 0.5),
    ]
    with control_flow(version):
        expected = export(tmp_path / "m", keras_head(*head, saved=saved), {})
    converts(tmp_path / "m", expected)


def test_batch_norm_whose_gradient_was_taken_converts(tmp_path: Path) -> None:
    def build(session: Any, x: Any) -> Any:
        y = keras_head(("BatchNormalization",), ("Flatten",), ("Dense", 4), saved=False)(session, x)
        tf.gradients(y, tf.trainable_variables())  # adds results of type variant to the conditionals
        return y

    converts(tmp_path / "m", export(tmp_path / "m", build))


@pytest.mark.parametrize("resource", [True, False])
def test_variables_of_both_kinds_and_a_partitioned_one(tmp_path: Path, resource: bool) -> None:
    def build(session: Any, x: Any) -> Any:
        with tf.variable_scope("top", use_resource=resource):
            matrix = tf.get_variable("matrix", [8, 6], partitioner=tf.fixed_size_partitioner(2))
            rows = tf.get_variable("rows", [5, 6])
        return features(x) @ tf.convert_to_tensor(matrix) + tf.nn.embedding_lookup(rows, 3) + rows[0]

    converts(tmp_path / "m", export(tmp_path / "m", build))


def test_what_only_counts_is_left_out_but_what_changes_the_answer_is_refused(tmp_path: Path) -> None:
    def counted(session: Any, x: Any) -> Any:
        with tf.control_dependencies([tf.Variable(0, use_resource=True).assign_add(1)]):
            return tf.identity(features(x))

    def changing(session: Any, x: Any) -> Any:
        scale = tf.Variable(1.0, use_resource=True, name="scale")
        with tf.control_dependencies([scale.assign_add(1.0)]):
            return features(x) * scale.read_value()

    converts(tmp_path / "m", export(tmp_path / "m", counted))
    export(tmp_path / "n", changing)
    with pytest.raises(ConversionError, match=r"\(AssignAddVariableOp\) writes a variable that the outputs read"):
        convert_saved_model(tmp_path / "n", "x", "y", tmp_path / "out2", name="m")


def test_shapes_that_python_set_are_known(tmp_path: Path) -> None:
    with networks.session() as session:
        x = tf.placeholder(tf.float32, name="x")
        x.set_shape([None, 16, 16, 3])
        size = tf.placeholder_with_default([-1, 16, 16, 3], [4])
        images = tf.reshape(x, size)
        images.set_shape([None, 16, 16, 3])
        y = features(images)
        session.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": y})
        expected = session.run(y, {x: IMAGES})
    report = convert_saved_model(tmp_path / "m", "x", "y", tmp_path / "out", name="m", fmt="msfp16")
    assert ("npu", "featurizer") in [(stage.kind, stage.name) for stage in report.stages]
    loaded = ConvertedModel.load(tmp_path / "out")
    assert loaded.signature.inputs["x"].shape == (None, 16, 16, 3)
    np.testing.assert_allclose(loaded.predict({"x": IMAGES}, ["y"]).outputs["y"], expected, atol=0.01)


def test_a_finalized_session_is_only_read(tmp_path: Path) -> None:
    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, 16, 16, 3], name="x")
        y = features(x)
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="hidden")
        with tf.control_dependencies([tf.placeholder(tf.float32, [])]):
            hidden = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
        session.run([tf.global_variables_initializer(), tf.raw_ops.AssignVariableOp(resource=handle, value=2.0)])
        z = y * hidden
        tf.get_default_graph().finalize()
        assert from_session(session, x, y).outputs == [y.name]
        with pytest.raises(
            InvalidInputError, match=r"the session's graph is finalized, and the variable 'VarHandleOp'"
        ):
            from_session(session, x, z)
