import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.convert import convert_saved_model
from amlrealtimeai.errors import ConversionError, InvalidInputError, NotFoundError
from amlrealtimeai.npu import BlockFormat
from tests.convert import networks


def refused(
    error: type[Exception],
    match: str,
    model: Path,
    outputs: Any = "output_alias",
    inputs: str = "Placeholder:0",
    **options: Any,
) -> None:
    """The conversion raises, says so, and leaves nothing behind."""
    out = model.parent / "result"
    out.mkdir(exist_ok=True)
    with pytest.raises(error, match=match):
        convert_saved_model(model, inputs, outputs, out / "x.accelonnx", name="x", **options)
    assert list(out.iterdir()) == []


def test_missing_folder(tmp_path: Path) -> None:
    refused(NotFoundError, "does not exist", tmp_path / "nowhere")


def test_folder_without_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.h5").touch()
    refused(
        InvalidInputError,
        r"is no SavedModel: expected saved_model.pb in it, got a folder that holds weights.h5",
        tmp_path / "model",
    )


def test_damaged_saved_model(quantised: Path, tmp_path: Path) -> None:
    shutil.copytree(quantised, tmp_path / "model")
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"\xff\x00 not a protobuf")
    refused(InvalidInputError, "TensorFlow cannot load", tmp_path / "model")


def test_saved_model_without_its_variables(quantised: Path, tmp_path: Path) -> None:
    shutil.copytree(quantised, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "variables")
    refused(InvalidInputError, "TensorFlow cannot load", tmp_path / "model")


@pytest.mark.parametrize(
    ("inputs", "outputs", "match"),
    [
        (
            "Placehodler",
            "output_alias",
            r"no input tensor 'Placehodler'. Near matches: Placeholder:0.*Its placeholders: Placeholder:0",
        ),
        (
            "Placeholder:0",
            "classifier/probability",
            r"no output tensor.*Near matches: classifier/probabilities:0.*Its graph outputs: classifier/prob",
        ),
        ("Placeholder:0", "classifier/probabilities:4", "no output tensor 'classifier/probabilities:4'"),
        ("Placeholder:0", " , ", "expected at least one tensor name"),
        ("Placeholder:0", "small/pool:0,small/pool:0", "given twice"),
        ("Placeholder:0", "Placeholder:0", "is the input itself"),
        (
            "small/pool:0",
            "small/conv4/Conv2D:0",
            "does not depend on the input small/pool:0; it depends on Placeholder:0",
        ),
    ],
)
def test_names_that_do_not_fit(quantised: Path, tmp_path: Path, inputs: str, outputs: str, match: str) -> None:
    shutil.copytree(quantised, tmp_path / "model")
    refused(InvalidInputError, match, tmp_path / "model", outputs, inputs)


def test_folder_of_the_result_must_exist(quantised: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"expected an existing folder for x\.accelonnx"):
        convert_saved_model(quantised, "images", "output_alias", tmp_path / "no" / "x.accelonnx", name="x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="pipe is something else, and stays"):
        convert_saved_model(quantised, "images", "output_alias", tmp_path / "pipe", name="x")


def test_unknown_configuration_and_format(quantised: Path, tmp_path: Path) -> None:
    shutil.copytree(quantised, tmp_path / "model")
    refused(InvalidInputError, "unknown NPU configuration 'bw_x'", tmp_path / "model", config="bw_x")
    refused(InvalidInputError, "unknown number format 'fp8'", tmp_path / "model", fmt="fp8")


def test_another_placeholder(tmp_path: Path) -> None:
    def scaled(features: Any) -> Any:
        return networks.classifier(features * tf.placeholder(tf.float32, [], name="temperature"))

    refused(
        InvalidInputError,
        r"also depend on the placeholder 'temperature:0' \(float32\)",
        networks.whole(tmp_path / "model", scaled),
    )


def test_what_the_npu_cannot_run_of_a_featurizer_is_listed_with_the_tensors_to_cut_at(tmp_path: Path) -> None:
    def odd(x: Any) -> Any:
        return networks.sums(tf.nn.relu(tf.math.erf(x, name="bell")), name="total")

    model = networks.whole(tmp_path / "model", middle=odd)
    refused(
        ConversionError,
        r"(?s)the NPU cannot run 2 nodes.*node 'small/bell' \(Erf\): .*Cut at small/MaxPool2d:0.*"
        r"node 'small/total' \(Cumsum\): .*Cut at small/Relu_1:0.*require_fpga_conversion=False",
        model,
    )


def test_batch_normalisation_in_training_mode(tmp_path: Path) -> None:
    def training(x: Any) -> Any:
        return tf.nn.fused_batch_norm(
            x, np.ones(16, np.float32), np.zeros(16, np.float32), is_training=True, name="bn"
        )[0]

    model = networks.whole(tmp_path / "model", middle=training)
    refused(ConversionError, r"'small/bn' \(FusedBatchNormV3\) is in training mode", model)


def test_python_function_in_the_classifier(tmp_path: Path) -> None:
    def python(features: Any) -> Any:
        doubled = tf.py_func(lambda x: x * 2, [features], tf.float32, stateful=False, name="double")
        doubled.set_shape([None, 1, 1, 32])
        return networks.classifier(doubled)

    model = networks.whole(tmp_path / "model", python)
    refused(ConversionError, r"the op PyFuncStateless of node 'double' in the host stage 'classifier'", model)


def test_string_operation_in_the_classifier(tmp_path: Path) -> None:
    def text(features: Any) -> Any:
        return tf.strings.as_string(tf.argmax(networks.classifier(features), 1), name="text")

    refused(
        ConversionError,
        r"the op AsString of node 'text' in the host stage 'classifier'",
        networks.whole(tmp_path / "model", text),
    )


def test_own_decoding_is_refused_by_name(tmp_path: Path) -> None:
    with networks.session() as session:
        encoded = tf.placeholder(tf.string, [], name="Placeholder")
        pixels = tf.image.decode_jpeg(encoded, channels=3, name="decode")
        x = tf.reshape(tf.cast(pixels, tf.float32), [1, 32, 32, 3])
        model = networks.export(
            session, tmp_path / "model", {"images": encoded}, {"output_alias": networks.featurizer(x)}
        )
    refused(ConversionError, r"the op DecodeJpeg of node 'decode' in the host stage 'host'.*preprocess_array", model)


def test_nothing_for_the_npu_names_the_op(tmp_path: Path) -> None:
    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, 32], name="x")
        model = networks.export(session, tmp_path / "model", {"x": x}, {"y": networks.classifier(x)})
    refused(
        ConversionError, "no convolution anywhere in the graph.*The graph has none that reads an image", model, "y", "x"
    )


def test_images_of_unknown_size(tmp_path: Path) -> None:
    with networks.session() as session:
        x = tf.placeholder(tf.float32, [None, None, None, 3], name="x")
        model = networks.export(session, tmp_path / "model", {"x": x}, {"y": networks.featurizer(x, fmt=None)})
    refused(
        ConversionError,
        r"image of fixed size: expected x:0 of shape \[batch, height, width, channels\], got \[None, None, None, 3\]",
        model,
        "y",
        "x",
    )


def test_preprocessing_that_differs_from_its_note(tmp_path: Path) -> None:
    with networks.session() as session:
        encoded, x = networks.images()
        notes = tf.get_collection_ref("amlrealtimeai_preprocess")
        notes[0] = notes[0].replace('"RGB"', '"BGR"')
        model = networks.export(
            session, tmp_path / "model", {"images": encoded}, {"output_alias": networks.featurizer(x)}
        )
    refused(
        ConversionError,
        r"stage 'preprocess' differs from TensorFlow.*Worst element \[\d, \d+, \d+, \d\]: expected .*, got ",
        model,
    )


def test_featurizer_quantised_otherwise_than_noted(tmp_path: Path) -> None:
    model = networks.whole(tmp_path / "model", noted=BlockFormat(16, 2, 8))
    refused(ConversionError, r"stage 'featurizer' differs from TensorFlow at small/pool:0: .*\(at most 0.01\)", model)


def test_weights_that_were_never_restored(tmp_path: Path) -> None:
    with networks.session() as session:
        encoded, x = networks.images()
        kernel = tf.Variable(np.full((3, 3, 3, 8), np.nan, np.float32), use_resource=True)
        y = tf.reduce_mean(tf.nn.conv2d(x, kernel, 1, "SAME", name="conv"), [1, 2])
        model = networks.export(session, tmp_path / "model", {"images": encoded}, {"output_alias": y})
    refused(ConversionError, "NaN or infinity", model)
