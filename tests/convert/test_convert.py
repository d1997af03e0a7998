import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import ConversionReport, convert_saved_model
from amlrealtimeai.npu import BlockFormat
from tests.convert import networks

PROBABILITIES = "classifier/probabilities:0"


def convert(
    model: Path, out: Path, outputs: Any = "output_alias", inputs: str = "Placeholder:0", **options: Any
) -> ConversionReport:
    return convert_saved_model(model, inputs, outputs, out, name="small", **options)


def kinds(report: ConversionReport) -> list[tuple[str, str]]:
    return [(stage.kind, stage.name) for stage in report.stages]


def tensorflow_says(model: Path, tensors: list[str], feed: dict[str, Any]) -> list[np.ndarray]:
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.saved_model.loader.load(session, ["serve"], str(model))
        return session.run(tensors, feed)


def test_quantised_network_predicts_like_tensorflow(quantised: Path, tmp_path: Path, picture: bytes) -> None:
    report = convert(quantised, tmp_path / "small.accelonnx", PROBABILITIES)

    assert kinds(report) == [("preprocess", "preprocess"), ("npu", "featurizer"), ("onnx", "classifier")]
    assert report.stages[1].inputs == {"map/TensorArrayV2Stack/TensorListStack:0": (None, 32, 32, 3)}
    assert report.stages[1].outputs == {"small/pool:0": (None, 1, 1, 32)}
    preprocess, features, host, whole = report.checks
    assert preprocess.measured == 0.0
    assert features.against == "the quantised graph" and features.measured < 1e-5
    assert host.measured < 1e-5 and whole.measured < 1e-5
    assert report.number_format.startswith("msfp14: blocks of 16, 1 sign + 5 mantissa bits")
    assert report.size == (tmp_path / "small.accelonnx").stat().st_size

    loaded = ConvertedModel.load(tmp_path / "small.accelonnx")
    expected, expected_features = tensorflow_says(
        quantised, [PROBABILITIES, networks.FEATURES], {"Placeholder:0": [picture]}
    )
    answer = loaded.predict({"images": np.array([picture], dtype=object)})
    np.testing.assert_allclose(answer.outputs["output_alias"], expected, atol=1e-5)
    assert np.ptp(expected) > 0.01 and np.ptp(expected_features) > 0.1  # a constant answer would prove nothing


def test_file_holds_the_documented_definition(quantised: Path, tmp_path: Path) -> None:
    convert(quantised, tmp_path / "small.accelonnx")
    with zipfile.ZipFile(tmp_path / "small.accelonnx") as archive:
        assert sorted(archive.namelist()) == ["classifier.onnx", "featurizer.npu", "service_def.json"]
        definition = json.loads(archive.read("service_def.json"))
    assert definition["signature"] == {
        "name": "serving_default",
        "inputs": {"images": {"tensor": "Placeholder:0", "dtype": "string", "shape": [None]}},
        "outputs": {"output_alias": {"tensor": PROBABILITIES, "dtype": "float32", "shape": [None, 10]}},
    }
    assert definition["pipeline"][0]["parameters"] == {
        "order": "RGB",
        "scaling_factor": 1.0,
        "output_height": 32,
        "output_width": 32,
        "preserve_aspect_ratio": True,
    }
    assert definition["pipeline"][2]["inputs"] == {"small/pool:0": "small/pool:0"}


def test_converting_twice_gives_the_same_bytes(quantised: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert(quantised, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_float_network_is_checked_in_the_finest_format(tmp_path: Path) -> None:
    model = networks.whole(tmp_path / "model", fmt=None)
    report = convert(model, tmp_path / "out")
    checks = {check.stage: check for check in report.checks}
    assert checks["featurizer before quantising"].measured < 1e-5
    assert checks["featurizer in msfp16"].measured > 30.0 and checks["featurizer in msfp16"].bound == 26.0
    assert 10.0 < checks["featurizer in bw_cnn"].measured < checks["featurizer in msfp16"].measured
    assert checks["featurizer in bw_cnn"].bound is None
    assert report.number_format.startswith("bw_cnn: ")


def test_fmt_replaces_the_format_of_the_graph(quantised: Path, tmp_path: Path) -> None:
    report = convert(quantised, tmp_path / "out", fmt="msfp12")
    assert report.number_format.startswith("msfp12: ")
    assert "featurizer in msfp12" in [check.stage for check in report.checks]


def test_own_operations_before_the_featurizer_run_on_the_host(tmp_path: Path) -> None:
    with networks.session() as session:
        encoded, x = networks.images()
        result = networks.classifier(networks.featurizer(tf.tanh(x / 64.0) * 2.0 + x[:, ::-1] * 0.01))
        model = networks.export(session, tmp_path / "model", {"images": encoded}, {"output_alias": result})
    report = convert(model, tmp_path / "out")
    assert kinds(report) == [
        ("preprocess", "preprocess"),
        ("onnx", "host"),
        ("npu", "featurizer"),
        ("onnx", "classifier"),
    ]


def test_npu_region_is_found_without_notes(tmp_path: Path) -> None:
    model = networks.whole(tmp_path / "model", fmt=None, note=False)
    report = convert(model, tmp_path / "out")
    assert kinds(report) == [("preprocess", "preprocess"), ("npu", "featurizer"), ("onnx", "classifier")]
    assert list(report.stages[1].outputs) == ["small/pool:0"]


def test_quantised_outputs_inside_the_featurizer_keep_its_format(quantised: Path, tmp_path: Path) -> None:
    report = convert(quantised, tmp_path / "out", "small/Relu_2:0")
    assert kinds(report) == [("preprocess", "preprocess"), ("npu", "featurizer")]
    assert report.checks[1].against == "the quantised graph"


def test_several_outputs_by_list_and_by_commas(tmp_path: Path, picture: bytes) -> None:
    with networks.session() as session:
        encoded, x = networks.images()
        features = networks.featurizer(x)
        first, second = (
            networks.classifier(features, "one"),
            tf.argmax(networks.classifier(features, "two"), 1, name="best"),
        )
        model = networks.export(session, tmp_path / "model", {"images": encoded}, {"a": first, "b": second})
    names = ["one/probabilities:0", "best", "small/pool"]
    convert(model, tmp_path / "list", names)
    convert(model, tmp_path / "commas", " , ".join(names))
    assert (tmp_path / "list").read_bytes() == (tmp_path / "commas").read_bytes()
    answer = ConvertedModel.load(tmp_path / "list").predict({"images": np.array([picture], dtype=object)})
    assert {name: value.shape for name, value in answer.outputs.items()} == {
        "a": (1, 10),
        "b": (1,),
        "small/pool:0": (1, 1, 1, 32),
    }


def test_float_images_and_a_training_switch(tmp_path: Path) -> None:
    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, 32, 32, 3], name="pixels")
        training = tf.placeholder_with_default(True, [], name="is_training")
        y = networks.featurizer(x)
        features = tf.cond(training, lambda: tf.nn.dropout(y, rate=0.5), lambda: y * 1.5)
        model = networks.export(session, tmp_path / "model", {"x": x}, {"y": networks.classifier(features)})
    report = convert(model, tmp_path / "out", inputs="pixels", outputs="y")
    assert kinds(report) == [("npu", "featurizer"), ("onnx", "classifier")]
    assert report.checks[-1].measured < 1e-5  # dropout would make the two differ


@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_conditionals_take_their_inference_branch(tmp_path: Path, control_flow: str) -> None:
    (tf.disable_control_flow_v2 if control_flow == "v1" else tf.enable_control_flow_v2)()
    try:
        with networks.session() as session:
            encoded, x = networks.images()
            training = tf.placeholder(tf.bool, [], name="phase/is_training")
            features = networks.featurizer(x)
            kept = tf.cond(training, lambda: tf.nn.dropout(features, rate=0.9), lambda: features * 1.5)
            model = networks.export(session, tmp_path / "model", {"images": encoded}, {"y": networks.classifier(kept)})
    finally:
        tf.enable_control_flow_v2()
    convert(model, tmp_path / "out", "y")
    feed = {"Placeholder:0": [_grey()], "phase/is_training:0": False}
    expected = tensorflow_says(model, [PROBABILITIES], feed)[0]
    got = ConvertedModel.load(tmp_path / "out").predict({"images": np.array([_grey()], dtype=object)})
    np.testing.assert_allclose(got.outputs["y"], expected, atol=1e-5)


def _grey() -> bytes:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(tf.io.encode_jpeg(tf.fill([64, 64, 3], tf.constant(130, tf.uint8))))


def test_keras_classifier_with_dropout(tmp_path: Path, picture: bytes) -> None:
    layers = tf.keras.layers
    # Small enough that no probability is 0 or 1: float32's rounding of a logit of 100 is worth 1e-5 of a probability.
    kernel = tf.keras.initializers.RandomNormal(stddev=0.03, seed=1)
    with networks.session() as session:
        tf.keras.backend.set_session(session)
        encoded, x = networks.images()
        flat = layers.Flatten()(networks.featurizer(x))
        hidden = layers.Dropout(0.5)(layers.Dense(16, activation="relu", kernel_initializer=kernel)(flat))
        result = layers.Dense(10, activation="softmax", kernel_initializer=kernel, name="top")(hidden)
        model = networks.export(session, tmp_path / "model", {"images": encoded}, {"output_alias": result})
        expected = session.run(result, {encoded: [picture], tf.keras.backend.learning_phase(): 0})
        report = convert(model, tmp_path / "out", result.name)
        assert tf.keras.backend.get_session() is session
    assert expected.min() > 0.01 and expected.max() < 0.5
    assert kinds(report) == [("preprocess", "preprocess"), ("npu", "featurizer"), ("onnx", "classifier")]
    answer = ConvertedModel.load(tmp_path / "out").predict({"images": np.array([picture], dtype=object)})
    np.testing.assert_allclose(answer.outputs["output_alias"], expected, atol=1e-5)


def test_saved_model_of_tensorflow_2(tmp_path: Path) -> None:
    import tensorflow as tf2

    class Small(tf2.Module):
        def __init__(self) -> None:
            random = np.random.default_rng(2)
            self.kernel = tf2.Variable(random.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32))
            self.dense = tf2.Variable(random.normal(0, 0.3, (8, 4)).astype(np.float32))

        @tf2.function(input_signature=[tf2.TensorSpec([None, 16, 16, 3], tf2.float32, name="pixels")])
        def serve(self, pixels: Any) -> dict[str, Any]:
            x = tf2.nn.relu(tf2.nn.conv2d(pixels, self.kernel, 1, "SAME") + np.ones(8, np.float32))
            return {"scores": tf2.reduce_mean(x, [1, 2]) @ self.dense}

    module = Small()
    tf2.saved_model.save(module, str(tmp_path / "model"), signatures=module.serve)
    report = convert(tmp_path / "model", tmp_path / "out", "scores", "pixels")
    assert kinds(report) == [("npu", "featurizer"), ("onnx", "classifier")]
    x = np.random.default_rng(3).normal(0, 50, (2, 16, 16, 3)).astype(np.float32)
    answer = ConvertedModel.load(tmp_path / "out").predict({"pixels": x}).outputs["scores"]
    expected = module.serve(x)["scores"].numpy()
    assert np.abs(answer - expected).max() < 0.05 * np.abs(expected).max()


def test_images_may_enter_behind_the_preprocessing(quantised: Path, tmp_path: Path) -> None:
    report = convert(quantised, tmp_path / "out", inputs="map/TensorArrayV2Stack/TensorListStack:0")
    assert kinds(report) == [("npu", "featurizer"), ("onnx", "classifier")]
    assert ConvertedModel.load(tmp_path / "out").signature.inputs["images"].shape == (None, 32, 32, 3)


def test_two_featurizers_in_one_model(tmp_path: Path) -> None:
    with networks.session() as session:
        encoded, x = networks.images()
        both = networks.featurizer(x) + networks.featurizer(x, fmt=BlockFormat(16, 3, 8))
        result = networks.classifier(both)
        model = networks.export(session, tmp_path / "model", {"images": encoded}, {"output_alias": result})
    report = convert(model, tmp_path / "out")
    assert [stage.name for stage in report.stages] == ["preprocess", "featurizer", "featurizer_2", "classifier"]
    assert [check.measured < 1e-5 for check in report.checks] == [True] * 5


def test_bytes_as_pixels_are_cast_on_the_host(tmp_path: Path) -> None:
    with networks.session() as session:
        x = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="x")
        features = networks.featurizer(tf.cast(x, tf.float32) - 120.0)
        model = networks.export(session, tmp_path / "model", {"x": x}, {"y": features})
    report = convert(model, tmp_path / "out", "y", "x")
    assert kinds(report) == [("onnx", "host"), ("npu", "featurizer")]


def test_two_conversions_at_once(quantised: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda name: convert(quantised, tmp_path / name), ("a", "b")))
    assert [kinds(report)[1] for report in reports] == [("npu", "featurizer")] * 2
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_host_only_when_the_fpga_is_not_required(tmp_path: Path) -> None:
    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, 32], name="x")
        model = networks.export(session, tmp_path / "model", {"x": x}, {"y": networks.classifier(x)})
    report = convert(model, tmp_path / "out", "y", "x", require_fpga=False)
    assert kinds(report) == [("onnx", "model")]
    assert [check.against for check in report.checks] == ["TensorFlow", "TensorFlow, end to end"]


def test_progress_rises_to_one(quantised: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    convert(quantised, tmp_path / "out", progress=lambda step, fraction: seen.append((step, fraction)))
    assert [step for step, _ in seen][:3] == ["load", "plan", "convert preprocess"]
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] == 1.0


def test_caller_is_not_disturbed(quantised: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        mine = tf.Variable(4.0)
        session.run(mine.initializer)
        before = len(graph.get_operations())
        convert(quantised, tmp_path / "out")
        assert tf.get_default_graph() is graph and tf.get_default_session() is session
        assert len(graph.get_operations()) == before
        assert session.run(mine) == 4.0
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_resnet50_end_to_end(tmp_path: Path, picture: bytes) -> None:
    from amlrealtimeai.accel.models.resnet import QuantizedResnet50
    from amlrealtimeai.accel.models.utils import preprocess_array

    with networks.session() as session:
        encoded = tf.placeholder(tf.string, [None], name="Placeholder")
        network = QuantizedResnet50(tmp_path, is_frozen=True, weights="random")
        output = network.get_default_classifier(network.import_graph_def(preprocess_array(encoded), is_training=False))
        network.restore_weights(session)
        inputs, outputs = {"images": encoded}, {"output_alias": output}
        tf.saved_model.simple_save(session, str(tmp_path / "model"), inputs=inputs, outputs=outputs)
    report = convert(tmp_path / "model", tmp_path / "out", "classifier/resnet_v1_50/predictions/Softmax:0")
    assert kinds(report) == [("preprocess", "preprocess"), ("npu", "featurizer"), ("onnx", "classifier")]
    assert report.checks[1].measured < 1e-4
    answer = ConvertedModel.load(tmp_path / "out").predict({"images": np.array([picture], dtype=object)})
    assert answer.outputs["output_alias"].shape == (1, 1000)
    assert BlockFormat(128, 5, 5, "bw_cnn").name in report.number_format
