"""The cut: the compiler says what the NPU runs; the host takes the rest, in turn, and the report says why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import ConversionReport, convert_saved_model
from amlrealtimeai.errors import ConversionError
from tests.convert import networks

IMAGES = np.random.default_rng(11).normal(0, 1, (2, 16, 16, 3)).astype(np.float32)


def conv(x: Any, name: str, filters: int = 8, size: int = 3, stride: int = 1) -> Any:
    return tf.nn.relu(
        tf.nn.conv2d(x, networks.weights(name, [size, size, x.shape[3], filters]), stride, "SAME", name=name),
        name=f"{name}_relu",
    )


def convert(folder: Path, build: Callable[[Any], Any], tolerance: float = 0.03, **options: Any) -> ConversionReport:
    """Export build(images), convert, and compare with TensorFlow on images of ours."""
    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, 16, 16, 3], name="x")
        built = build(x)
        outputs = built if isinstance(built, dict) else {"y": built}
        networks.export(session, folder / "m", {"x": x}, outputs)
        expected = dict(zip(outputs, session.run(list(outputs.values()), {x: IMAGES}), strict=True))
    report = convert_saved_model(folder / "m", "x", list(outputs), folder / "out", name="m", fmt="msfp16", **options)
    got = ConvertedModel.load(folder / "out").predict({"x": IMAGES}, list(outputs)).outputs
    for alias, values in expected.items():
        assert got[alias].shape == values.shape and got[alias].dtype == values.dtype
        np.testing.assert_allclose(got[alias], values, atol=tolerance * np.abs(values).max())
    return report


def kinds(report: ConversionReport) -> list[str]:
    return [stage.kind for stage in report.stages]


def pooled(x: Any) -> Any:
    return tf.reduce_mean(x, [1, 2])


def test_the_host_takes_over_at_the_node_that_the_compiler_names(tmp_path: Path) -> None:
    report = convert(tmp_path, lambda x: pooled(networks.sums(conv(x, "c"))))
    assert kinds(report) == ["npu", "onnx"]
    assert list(report.stages[0].outputs) == ["c_relu:0"]
    (blocked,) = report.blocked
    assert (blocked.node, blocked.op, blocked.cut) == ("sums", "Cumsum", "c_relu:0")
    assert "left to the host\n  node 'sums' (Cumsum): " in str(report) and "Cut at c_relu:0." in str(report)
    assert "&#x27;sums&#x27; (Cumsum)" in report._repr_html_()


def test_npu_and_host_take_turns(tmp_path: Path) -> None:
    report = convert(tmp_path, lambda x: pooled(conv(networks.sums(conv(networks.sums(conv(x, "a")), "b", 12)), "c")))
    assert kinds(report) == ["npu", "onnx", "npu", "onnx", "npu"]
    assert [stage.name for stage in report.stages] == ["featurizer", "host", "featurizer_2", "host_2", "featurizer_3"]
    assert [node.node for node in report.blocked] == ["sums", "sums_1"]


def test_a_skip_around_the_host_part_joins_again(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        a = conv(x, "a")
        return {"y": pooled(conv(networks.sums(a) + a, "b")), "also": pooled(a)}

    report = convert(tmp_path, build)
    assert kinds(report)[0] == "npu" and kinds(report).count("npu") == 2


def test_a_part_too_small_to_pay_stays_on_the_host(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        large = conv(conv(x, "a", 32), "b", 32)
        return pooled(conv(networks.sums(tf.nn.max_pool2d(large, 8, 8, "SAME"), "total"), "tiny", 2, size=1))

    report = convert(tmp_path, build)
    assert kinds(report) == ["npu", "onnx"]
    assert [node.node for node in report.blocked] == ["total", "tiny_1"]
    assert "% of the multiplications; 5 % pay" in report.blocked[1].reason


def test_the_classifier_stays_in_float(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        flat = tf.reshape(conv(x, "a", 8, stride=4), [-1, 128])
        return tf.nn.relu(flat @ networks.weights("w", [128, 6], 0.1)) @ networks.weights("v", [6, 3], 0.5)

    report = convert(tmp_path, build)
    assert kinds(report) == ["npu", "onnx"] and report.blocked == ()
    assert list(report.stages[0].outputs) == ["a_relu:0"]


def test_several_outputs_of_every_kind(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        maps = conv(conv(x, "a"), "b")
        scores = tf.nn.softmax(pooled(maps) @ networks.weights("w", [8, 5]))
        return {
            "maps": maps,
            "scores": scores,
            "picked": tf.gather(scores, [3, 1], axis=1),
            "wide": tf.nn.conv2d_transpose(maps, networks.weights("t", [2, 2, 4, 8]), [2, 32, 32, 4], 2),
            "mean": tf.reduce_mean(scores),
        }

    assert kinds(convert(tmp_path, build)) == ["npu", "onnx"]


@pytest.mark.parametrize("version", [1, 2])
def test_convolutions_in_loops_and_branches_stay_there(tmp_path: Path, version: int) -> None:
    def build(x: Any) -> Any:
        kernel, other = networks.weights("k", [3, 3, 4, 4]), networks.weights("other", [3, 3, 4, 4])
        start = conv(x, "a", 4)
        turn = lambda i, m: (i + 1, tf.nn.conv2d(m, kernel, 1, "SAME"))  # noqa: E731
        return {
            "looped": pooled(tf.while_loop(lambda i, m: i < 2, turn, [0, start])[1]),
            "chosen": pooled(
                tf.cond(tf.reduce_mean(x) > 9, lambda: start, lambda: tf.nn.conv2d(start, other, 1, "SAME"))
            ),
        }

    (tf.disable_control_flow_v2 if version == 1 else tf.enable_control_flow_v2)()
    try:
        assert kinds(convert(tmp_path, build)) == ["npu", "onnx"]
    finally:
        tf.enable_control_flow_v2()


def test_noted_featurizers_are_cut_when_the_fpga_is_not_required(tmp_path: Path, picture: bytes) -> None:
    model = networks.whole(tmp_path / "model", middle=networks.sums)
    with pytest.raises(ConversionError, match=r"node 'small/sums' \(Cumsum\)"):
        convert_saved_model(model, "images", "output_alias", tmp_path / "out", name="m")
    seen: list[float] = []
    report = convert_saved_model(
        model,
        "images",
        "output_alias",
        tmp_path / "out",
        name="m",
        require_fpga=False,
        progress=lambda _, done: seen.append(done),
    )
    assert kinds(report) == ["preprocess", "npu", "onnx", "npu", "onnx"]
    assert [check.against for check in report.checks if check.stage.startswith("feat")] == ["the quantised graph"] * 2
    assert all(check.measured < 1e-4 for check in report.checks)
    assert seen == sorted(seen)
    answer = ConvertedModel.load(tmp_path / "out").predict({"images": np.array([picture], object)})
    assert answer.outputs["output_alias"].shape == (1, 10)


def test_all_goes_to_the_host_with_the_reason(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        broken = tf.constant(np.full((3, 3, 3, 4), np.inf, np.float32))
        return pooled(tf.nn.sigmoid(tf.nn.conv2d(x, broken, 1, "SAME")))

    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, 16, 16, 3], name="x")
        networks.export(session, tmp_path / "m", {"x": x}, {"y": build(tf.square(x) + 1)})
    with pytest.raises(ConversionError, match="infinity"):
        convert_saved_model(tmp_path / "m", "x", "y", tmp_path / "out", name="m")
    seen: list[float] = []
    report = convert_saved_model(
        tmp_path / "m",
        "x",
        "y",
        tmp_path / "out",
        name="m",
        require_fpga=False,
        progress=lambda _, done: seen.append(done),
    )
    assert kinds(report) == ["onnx"] and "infinity" in str(report.blocked[0]) and seen == sorted(seen)


@pytest.mark.parametrize("aligned", [False, True])
def test_a_nearest_neighbour_resize_takes_the_pixels_that_tensorflow_takes(tmp_path: Path, aligned: bool) -> None:
    def build(x: Any) -> Any:
        sized = conv(x, "a")[:, :14]
        return {
            f"y{h}": tf.image.resize_nearest_neighbor(sized, [h, w], align_corners=aligned)
            for h, w in ((8, 10), (9, 7), (28, 32), (31, 49))
        }

    report = convert(tmp_path, build)
    assert all(check.measured == 0 for check in report.checks if check.stage.startswith("classifier"))
