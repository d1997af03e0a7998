"""Every kind of layer that DenseNet, VGG and SSD add, in one small network: converted, served, scored."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel import PredictionClient
from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel
from amlrealtimeai.accel.models.layers import Builder
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import convert_saved_model
from amlrealtimeai.serving.server import Server

OUTPUTS = ["mixed/scores:0", "mixed/dense:0"]


def _featurizer(b: Builder, x: tf.Tensor) -> list[tf.Tensor]:
    images = x
    x = tf.nn.relu(b.conv_bn(b.image(x, "first/input"), 24, 3, scope="first", keras="first", first=True))
    early = x
    y = tf.nn.relu(b.batch_norm(x, scope="before", keras="before_bn"))
    y = b.conv(b.activation(y, "thin/input"), 12, 3, scope="thin", keras="thin", bias=False)
    x = tf.nn.avg_pool2d(tf.concat([x, y], 3), 2, 2, "VALID")
    x = b.conv(b.activation(x, "wide/input"), 20, 3, scope="wide", keras="wide", dilation=3)
    x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "SAME")
    x = b.activation(x, "fc/input")
    x = b.conv(x, 32, 4, padding="VALID", scope="fc", keras="fc", stored_shape=(4 * 4 * 20, 32))
    dense = tf.nn.relu(b.dropout(x, 0.5, "dropout"), name="dense")
    b.parts.append((images, [early, dense]))
    seen = b.l2_normalize(early, scope="norm", keras="norm", typical=20.0)
    scores = b.conv(b.activation(seen, "head/input"), 6, 3, scope="head", keras="head", stride=2)
    b.parts.append((seen, [scores]))
    return [tf.reshape(scores, [-1, 8, 8, 2, 3], name="scores"), dense]


NETWORK = Network("mixed", "mixed", "0.1.0", [16, 16, 3], [[8, 8, 2, 3], [1, 1, 32]], _featurizer, None, {}, None)


class Mixed(FloatModel):
    network = NETWORK


class QuantizedMixed(QuantizedModel):
    network = NETWORK


def exported(model: FloatModel, folder: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, 16, 16, 3], name="pixels")
        outputs = model.import_graph_def(images, is_training=False)
        model.restore_weights(session)
        tf.saved_model.simple_save(session, folder, {"images": images}, {t.name: t for t in outputs})


@pytest.mark.parametrize("kind", [QuantizedMixed, Mixed])
def test_two_parts_with_host_work_between_them_convert(kind, tmp_path):
    exported(kind(tmp_path, weights="random"), str(tmp_path / "model"))

    report = convert_saved_model(tmp_path / "model", "pixels", OUTPUTS, tmp_path / "mixed.zip", name="mixed")

    assert [stage.kind for stage in report.stages] == ["npu", "onnx", "npu", "onnx"]
    if kind is QuantizedMixed:
        # bit for bit but for the order of sums
        compared = [check for check in report.checks if check.against == "the quantised graph"]
        assert len(compared) == 3 and all(check.measured < 1e-5 for check in compared)


def test_only_the_parts_that_an_output_needs_are_converted(tmp_path):
    exported(QuantizedMixed(tmp_path, weights="random"), str(tmp_path / "model"))

    report = convert_saved_model(tmp_path / "model", "pixels", "mixed/dense:0", tmp_path / "mixed.zip", name="mixed")

    assert [stage.kind for stage in report.stages] == ["npu"]


def test_a_service_answers_with_both_outputs(tmp_path):
    model = QuantizedMixed(tmp_path, weights="random", number_format="msfp16")
    exported(model, str(tmp_path / "model"))
    convert_saved_model(tmp_path / "model", "pixels", OUTPUTS, tmp_path / "mixed.zip", name="mixed")
    pixels = np.random.default_rng(2).uniform(-120, 120, (1, 16, 16, 3)).astype(np.float32)
    server = Server()
    server.add_model("mixed", ConvertedModel.load(tmp_path / "mixed.zip"))
    server.start()
    try:
        client = PredictionClient("127.0.0.1", server.port)
        answers = client.score_numpy_arrays({"images": pixels}, outputs=model_outputs(tmp_path))
    finally:
        server.stop()

    with tf.Graph().as_default(), tf.Session() as session:
        tf.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        expected = session.run(OUTPUTS, {"pixels:0": pixels})
    assert [answer.shape for answer in answers] == [(1, 8, 8, 2, 3), (1, 1, 1, 32)]
    for answer, wanted in zip(answers, expected, strict=True):
        assert np.abs(answer - wanted).max() < 1e-5 * np.abs(wanted).max()
        assert np.ptp(wanted) > 0.5


def model_outputs(folder):
    with tf.Graph().as_default():
        model = Mixed(folder, weights="random")
        model.import_graph_def()
        return model.output_tensor_list


def test_dropout_and_batch_statistics_follow_the_phase(tmp_path):
    pixels = np.random.default_rng(2).uniform(-120, 120, (4, 16, 16, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(5)
        phase = tf.placeholder(tf.bool, [])
        model = Mixed(tmp_path, weights="random")
        _, dense = model.import_graph_def(is_training=phase)
        model.restore_weights(session)
        mean = next(v for v in tf.global_variables() if v.op.name == "mixed/before/BatchNorm/moving_mean")
        before = session.run(mean)
        feed = {model.input_tensor_list[0]: pixels}
        plain, again = (session.run(dense, {**feed, phase: False}) for _ in range(2))
        assert np.array_equal(plain, again) and np.array_equal(session.run(mean), before)
        dropped = session.run(dense, {**feed, phase: True})
        assert not np.array_equal(session.run(mean), before)

    assert (dropped == 0).mean() > (plain == 0).mean() + 0.15


def test_gradients_reach_every_trainable_variable(tmp_path):
    pixels = np.random.default_rng(2).uniform(-120, 120, (4, 16, 16, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        model = QuantizedMixed(tmp_path, weights="random", number_format="ms_fp9")
        outputs = model.import_graph_def()
        loss = tf.add_n([tf.reduce_mean(tf.square(output - 1)) for output in outputs])
        variables = tf.trainable_variables()
        gradients = tf.gradients(loss, variables)
        model.restore_weights(session)
        found = session.run(gradients, {model.input_tensor_list[0]: pixels})

    assert len(variables) == 3 + 2 + 1 + 2 + 2 + 1 + 2
    for variable, gradient in zip(variables, found, strict=True):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.name


def test_a_graph_with_a_phase_converts_for_inference(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, 16, 16, 3], name="pixels")
        phase = tf.placeholder_with_default(False, [], name="training")
        model = Mixed(tmp_path, weights="random")
        _, dense = model.import_graph_def(images, is_training=phase)
        model.restore_weights(session)
        tf.saved_model.simple_save(session, str(tmp_path / "model"), {"images": images}, {"dense": dense})

    report = convert_saved_model(tmp_path / "model", "pixels", "dense", tmp_path / "mixed.zip", name="mixed")

    assert [stage.kind for stage in report.stages] == ["npu"]
