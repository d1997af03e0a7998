"""SavedModels as TensorFlow 2 writes them: tf.function with several inputs and signatures, texts, loops over images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import ConversionReport, convert_saved_model
from amlrealtimeai.errors import ConversionError

IMAGE = tf.TensorSpec([None, 16, 16, 3], tf.float32, name="x")
IMAGES = np.random.default_rng(12).normal(0, 1, (3, 16, 16, 3)).astype(np.float32)
Feed = dict[str, np.ndarray]


def constant(*shape: int) -> Any:
    return tf.constant(np.random.default_rng(sum(shape)).normal(0, np.prod(shape[:-1]) ** -0.5, shape), tf.float32)


def conv(x: Any) -> Any:
    return tf.nn.relu(tf.nn.conv2d(x, constant(3, 3, x.shape[-1], 8), 1, "SAME"))


def scores(x: Any) -> Any:
    """Images -> [n, 5]."""
    return tf.reduce_mean(conv(x), [1, 2]) @ constant(8, 5)


def save(folder: Path, *specs: Any, **functions: Callable[..., dict[str, Any]]) -> Any:
    """Save the functions as signatures of these names; returns what tf.saved_model.load gives."""
    module = tf.Module()
    module.functions = {name: tf.function(f, input_signature=specs) for name, f in functions.items()}
    tf.saved_model.save(module, str(folder), signatures=module.functions)
    return tf.saved_model.load(str(folder))


def converts(folder: Path, feed: Feed, signature: Any, tolerance: float = 0.03) -> ConversionReport:
    """Convert and compare names, types, shapes and values with TensorFlow's."""
    expected = signature(**{name: tf.constant(value) for name, value in feed.items()})
    report = convert_saved_model(
        folder, list(feed), list(expected), folder.parent / "out", name="m", fmt="msfp16", require_fpga=False
    )
    answers = ConvertedModel.load(folder.parent / "out").predict(feed).outputs
    assert set(answers) == set(expected)
    for name, values in expected.items():
        assert answers[name].shape == values.shape and answers[name].dtype == values.dtype.as_numpy_dtype
        largest = np.abs(values.numpy().astype(np.float64)).max()
        np.testing.assert_allclose(answers[name], values, atol=tolerance * largest)
    return report


def resized(**options: Any) -> Callable[[Any], Any]:
    return lambda x: tf.image.resize(x, [23, 9], **options)


RESIZES: dict[str, Callable[[Any], Any]] = {
    "area": resized(method="area"),
    "area_of_bytes": lambda x: tf.image.resize(tf.saturate_cast(x * 20 + 120, tf.uint8), [7, 5], method="area"),
    "bicubic": resized(method="bicubic"),
    "corners": lambda x: tf.compat.v1.image.resize_bicubic(x, [23, 9], align_corners=True),
    "lanczos": resized(method="lanczos5"),
    "mitchell": resized(method="mitchellcubic"),
    "antialias": resized(antialias=True),
    "gaussian": resized(method="gaussian", antialias=True),
}


def test_resizes_that_onnx_does_not_have_are_products_of_matrices(tmp_path: Path) -> None:
    loaded = save(
        tmp_path / "m", IMAGE, serving_default=lambda x: {name: resize(x) for name, resize in RESIZES.items()}
    )
    converts(tmp_path / "m", {"x": IMAGES}, loaded.signatures["serving_default"], 1e-5)


def test_what_else_onnx_says_otherwise(tmp_path: Path) -> None:
    def others(x: Any) -> dict[str, Any]:
        turned = tf.TensorArray(tf.float32, 3, element_shape=[None, 5])
        steps = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a.write(i, scores(x) * i_(i))), [0, turned])
        return {
            "gelu": tf.nn.gelu(conv(x)),
            "patches": tf.image.extract_patches(x, [1, 3, 2, 1], [1, 2, 3, 1], [1, 2, 1, 1], "SAME"),
            "map": tf.map_fn(lambda image: tf.reverse(image, [0]) * 2.0, x),
            "steps": tf.transpose(steps[1].stack(), [1, 0, 2]),
        }

    def i_(i: Any) -> Any:
        return tf.cast(i + 1, tf.float32)

    loaded = save(tmp_path / "m", IMAGE, serving_default=others)
    report = converts(tmp_path / "m", {"x": IMAGES}, loaded.signatures["serving_default"])
    assert "npu" in [stage.kind for stage in report.stages]


def test_labels_are_answers(tmp_path: Path) -> None:
    def labelled(x: Any) -> dict[str, Any]:
        names = tf.constant(["ape", "bär", "cat", "dog", "elk"])
        return {"label": tf.gather(names, tf.argmax(scores(x), 1)), "all": names, "scores": scores(x)}

    loaded = save(tmp_path / "m", IMAGE, serving_default=labelled)
    expected = loaded.signatures["serving_default"](x=tf.constant(IMAGES))
    convert_saved_model(tmp_path / "m", "x", ["label", "all"], tmp_path / "out", name="m", fmt="msfp16")
    answers = ConvertedModel.load(tmp_path / "out").predict({"x": IMAGES}).outputs
    assert answers["all"].tolist() == ["ape", "bär", "cat", "dog", "elk"]
    assert [text.encode() for text in answers["label"]] == expected["label"].numpy().tolist()


def table(keys: list[Any], values: list[Any], default: Any) -> Any:
    key_type = tf.string if isinstance(keys[0], str) else tf.int64
    entries = tf.lookup.KeyValueTensorInitializer(tf.constant(keys, key_type), tf.constant(values))
    return tf.lookup.StaticHashTable(entries, default)


def test_labels_come_from_a_table(tmp_path: Path) -> None:
    module = tf.Module()
    module.labels, module.sizes = table([7, -1, 40], ["ape", "bear", "cat"], "?"), table([40], [2.5], -1.0)

    @tf.function(input_signature=[IMAGE, tf.TensorSpec([None], tf.int64, name="kind")])
    def look_up(x: Any, kind: Any) -> dict[str, Any]:
        best = tf.argmax(scores(x), 1)
        buckets = tf.raw_ops.Bucketize(input=kind, boundaries=[-1.0, 7.5])
        sizes = module.sizes.lookup(tf.stack([kind, best], 1))
        return {"label": module.labels.lookup(kind), "sizes": sizes, "bucket": buckets}

    tf.saved_model.save(module, str(tmp_path / "m"), signatures=look_up)
    names = ["label", "sizes", "bucket"]
    convert_saved_model(
        tmp_path / "m", ["x", "kind"], names, tmp_path / "out", name="m", fmt="msfp16", require_fpga=False
    )
    kinds = np.array([40, 8, -1], np.int64)
    answers = ConvertedModel.load(tmp_path / "out").predict({"x": IMAGES, "kind": kinds}).outputs
    assert answers["label"].tolist() == ["cat", "?", "bear"]
    assert answers["sizes"].tolist() == [[2.5, -1.0], [-1.0, -1.0], [-1.0, -1.0]]
    assert answers["bucket"].tolist() == [2, 2, 1]


def test_a_table_of_texts_is_named(tmp_path: Path) -> None:
    module = tf.Module()
    module.numbers = table(["a", "b"], [1.0, 2.0], 0.0)
    words = tf.TensorSpec([None], tf.string, name="x")
    look_up = tf.function(lambda x: {"y": module.numbers.lookup(x)}, input_signature=[words])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=look_up)
    with pytest.raises(ConversionError, match=r"LookupTableFindV2 of node .* keys are whole numbers"):
        convert_saved_model(tmp_path / "m", "x", "y", tmp_path / "out", name="m", require_fpga=False)


def test_inputs_that_are_numbers_or_are_not_used(tmp_path: Path) -> None:
    loaded = save(
        tmp_path / "m",
        IMAGE,
        tf.TensorSpec([], tf.float32, name="scale"),
        tf.TensorSpec([None, 4], tf.int32, name="unused"),
        serving_default=lambda x, scale, unused: {"y": scores(x) * scale},
    )
    feed = {"x": IMAGES, "scale": np.array(0.5, np.float32), "unused": np.zeros((3, 4), np.int32)}
    converts(tmp_path / "m", feed, loaded.signatures["serving_default"])


def test_the_signature_with_the_names_that_are_asked_for(tmp_path: Path) -> None:
    loaded = save(
        tmp_path / "m",
        IMAGE,
        classify=lambda x: {"y": scores(x)},
        features=lambda x: {"maps": conv(x)},
        serving_default=lambda x: {"z": scores(x) * 2.0},
    )
    for name in ("classify", "features", "serving_default"):
        converts(tmp_path / "m", {"x": IMAGES}, loaded.signatures[name])


def double(x: Any) -> dict[str, Any]:
    kernel = tf.cast(constant(3, 3, 3, 8), tf.float64)
    return {"y": tf.nn.conv2d(tf.cast(x, tf.float64), kernel, 1, "SAME")}


def decoded(x: Any) -> dict[str, Any]:
    image = tf.TensorSpec([16, 16, 3], tf.float32)
    decode = lambda t: tf.image.resize(tf.io.decode_jpeg(t, 3), [16, 16])  # noqa: E731
    return {"y": scores(tf.map_fn(decode, x, fn_output_signature=image))}


def switched(x: Any) -> dict[str, Any]:
    branch = tf.cast(tf.reduce_mean(x) * 9, tf.int32)
    return {"y": tf.switch_case(branch, [lambda: scores(x), lambda: -scores(x), lambda: scores(x) * 2.0])}


REFUSED: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "unknown rank": (lambda x: {"y": scores(tf.reshape(x, [-1, 16, 16, 3]))}, tf.TensorSpec(None), "rank of 'serving_"),
    "type": (
        lambda x: {"y": scores(tf.cast(x, tf.float32))},
        tf.TensorSpec([None, 16, 16, 3], tf.bfloat16),
        "is bfloat16; expected one of string, float32",
    ),
    "double": (double, IMAGE, r"ONNX Runtime has no Conv for the element types of node '.*Conv2D'.*float32"),
    "decoded": (decoded, tf.TensorSpec([None], tf.string), r"DecodeJpeg of node .* cannot .*preprocess_array"),
    "switch": (switched, IMAGE, r"StatelessCase of node .* cannot be converted to ONNX\. Write it with tf\.cond"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_named(tmp_path: Path, name: str) -> None:
    build, spec, text = REFUSED[name]
    save(tmp_path / "m", tf.TensorSpec(spec.shape, spec.dtype, name="x"), serving_default=build)
    with pytest.raises(ConversionError, match=text):
        convert_saved_model(tmp_path / "m", "x", "y", tmp_path / "out", name="m", require_fpga=False)


@pytest.mark.parametrize("exported", [True, False], ids=["export", "tf.saved_model.save"])
def test_models_of_keras_3(tmp_path: Path, exported: bool) -> None:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3), name="x"),
            layers.Conv2D(8, 3, activation="gelu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    if exported:
        model.export(str(tmp_path / "m"), verbose=False)
    else:
        tf.saved_model.save(model, str(tmp_path / "m"))
    signature = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    report = converts(tmp_path / "m", {name: IMAGES}, signature)
    assert report.stages[0].kind == "npu"
    answer = ConvertedModel.load(tmp_path / "out").predict({name: IMAGES}).outputs["output_0"]
    np.testing.assert_allclose(answer, model(IMAGES), atol=0.02)


def test_branches_that_fixed_sizes_decide_are_taken(tmp_path: Path) -> None:
    def cropped(x: Any) -> dict[str, Any]:
        def crop() -> Any:
            with tf.compat.v1.colocate_with(x):  # names a parameter of the branch
                return x[:, 3:13, 3:13, :]

        sizes = tf.shape(x)
        fits = tf.reduce_all([sizes[1] >= 10, sizes[2] >= 10])
        return {"y": scores(tf.cond(fits, crop, lambda: tf.image.resize(x, [10, 10])))}

    loaded = save(tmp_path / "m", IMAGE, serving_default=cropped)
    report = converts(tmp_path / "m", {"x": IMAGES}, loaded.signatures["serving_default"])
    assert [stage.kind for stage in report.stages] == ["npu", "onnx"]


def test_whole_numbers_beside_images_may_be_indices(tmp_path: Path) -> None:
    loaded = save(
        tmp_path / "m",
        IMAGE,
        tf.TensorSpec([None, 2], tf.int32, name="words"),
        serving_default=lambda x, words: {"y": scores(x) + tf.reduce_sum(tf.gather(constant(2, 5), words), 1)},
    )
    feed = {"x": IMAGES, "words": np.array([[0, 1], [1, 1], [0, 0]], np.int32)}
    converts(tmp_path / "m", feed, loaded.signatures["serving_default"])


def test_halves_are_compared_as_halves(tmp_path: Path) -> None:
    def mixed(x: Any) -> dict[str, Any]:
        half = tf.nn.conv2d(tf.cast(x, tf.float16), tf.cast(constant(3, 3, 3, 8), tf.float16), 1, "SAME")
        return {"y": tf.nn.softmax(tf.cast(tf.reduce_sum(half, [1, 2]), tf.float32)), "h": tf.sqrt(tf.abs(half))}

    loaded = save(tmp_path / "m", IMAGE, serving_default=mixed)
    report = converts(tmp_path / "m", {"x": IMAGES}, loaded.signatures["serving_default"])
    bounds = {check.bound for check in report.checks if check.stage.startswith("model")}
    assert bounds == {0.03}


def test_graphs_tagged_for_serving_and_more(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 16, 16, 3], name="x")
        y = scores(x)
        signature = v1.saved_model.signature_def_utils.predict_signature_def({"x": x}, {"y": y})
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        builder.add_meta_graph_and_variables(session, ["gpu", "serve"], {"serving_default": signature})
        builder.save()
        expected = session.run(y, {x: IMAGES})
    convert_saved_model(tmp_path / "m", "x", "y", tmp_path / "out", name="m", fmt="msfp16")
    answer = ConvertedModel.load(tmp_path / "out").predict({"x": IMAGES}).outputs["y"]
    np.testing.assert_allclose(answer, expected, atol=0.03 * np.abs(expected).max())
