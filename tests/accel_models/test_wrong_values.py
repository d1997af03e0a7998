"""What people give a network that is no tensor, session, flag or folder; and programs in eager mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import preprocess_array
from amlrealtimeai.contrib.brainwave.models import QuantizedResnet50 as MiddleResnet50
from amlrealtimeai.errors import InvalidInputError, WeightsError
from amlrealtimeai.resnet50.model import LocalQuantizedResNet50
from tests.accel_models.tiny import QuantizedTiny, Tiny


@pytest.fixture
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as made:
        yield made


def test_eager_mode_is_named(tmp_path: Path) -> None:
    if not tf.executing_eagerly():
        pytest.skip("this run has left eager mode")
    png = tf.constant([b"png"])
    for call in (
        lambda: Tiny(tmp_path).import_graph_def(),
        lambda: Tiny(tmp_path).import_graph_def(tf.zeros([1, 16, 16, 3])),
        lambda: MiddleResnet50(tmp_path, is_frozen=True, weights="random").import_graph_def(),
        lambda: LocalQuantizedResNet50(tmp_path, weights="random").import_graph_def(),
        lambda: preprocess_array(png),
        lambda: preprocess_array(np.array([b"png"], object)),
    ):
        with pytest.raises(InvalidInputError, match=r"runs eagerly here\. .*tf\.disable_eager_execution\(\)"):
            call()


@pytest.mark.parametrize("given", [np.zeros((1, 16, 16, 3), np.float32), "Placeholder:0", [1.0], b"x"])
def test_what_is_no_tensor_is_refused(given: Any, graph: tf.Graph, tmp_path: Path) -> None:
    local = LocalQuantizedResNet50(tmp_path, weights="random")
    for call in (Tiny(tmp_path).import_graph_def, preprocess_array, lambda x: local.import_graph_def(input_tensor=x)):
        with pytest.raises(InvalidInputError, match="expected a tensor of the graph"):
            call(given)


@pytest.mark.parametrize(
    ("kind", "shape"), [(tf.string, []), (tf.string, [None, 1]), (tf.float32, [None]), (tf.uint8, [None, 8, 8, 3])]
)
def test_images_have_to_be_bytes_of_files(kind: Any, shape: list[Any], graph: tf.Graph) -> None:
    with pytest.raises(InvalidInputError, match=r"expected the bytes of image files, string \(None,\), got"):
        preprocess_array(tf.placeholder(kind, shape))


@pytest.mark.parametrize("options", [{"scaling_factor": None}, {"output_height": "tall"}, {"output_width": [8]}])
def test_sizes_have_to_be_numbers(options: dict[str, Any], graph: tf.Graph) -> None:
    with pytest.raises(InvalidInputError, match="have to be numbers"):
        preprocess_array(tf.placeholder(tf.string, [None]), **options)


def test_flags_and_numbers_of_numpy(graph: tf.Graph, tmp_path: Path) -> None:
    images = preprocess_array(
        tf.placeholder(tf.string, [None]),
        output_height=np.int64(16),
        output_width=np.int32(16),
        preserve_aspect_ratio=np.bool_(False),
    )
    assert images.shape.as_list() == [None, 16, 16, 3]
    Tiny(tmp_path, is_frozen=np.bool_(True)).import_graph_def(images, is_training=np.bool_(True))
    assert tf.trainable_variables() == []


def test_a_text_is_no_flag(graph: tf.Graph, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is_frozen: expected True or False, got 'False'"):
        Tiny(tmp_path, is_frozen="False")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="is_training: expected True or False"):
        Tiny(tmp_path).import_graph_def(is_training="no")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="preserve_aspect_ratio: expected True or False"):
        preprocess_array(tf.placeholder(tf.string, [None]), preserve_aspect_ratio="True")  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", [None, b"/tmp", 5, "", "a\0b"])
def test_a_base_path_has_to_be_one(folder: Any) -> None:
    with pytest.raises(InvalidInputError, match="model_base_path: expected a path"):
        Tiny(folder)


@pytest.mark.parametrize("index", [2, -3, "0", None, 0.0])
def test_an_output_that_is_not_there(index: Any, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match=r"expected an output from 0 to 1, got"):
        Tiny(tmp_path).get_output_dims(index)


def test_sessions_are_checked(tmp_path: Path) -> None:
    model = Tiny(tmp_path, weights="random")
    with tf.Graph().as_default():
        model.import_graph_def()
        for call in (model.restore_weights, lambda session: model.save_weights(tmp_path / "w", session)):
            for session, said in (
                (None, "needs a session: pass one"),
                ("session", "got str"),
                (tf.Session(graph=tf.Graph()), "got one of another graph"),
            ):
                with pytest.raises(InvalidInputError, match=said):
                    call(session)
        with tf.Session() as session:
            with pytest.raises(InvalidInputError, match=r"call restore_weights\(session\) first"):
                model.save_weights(tmp_path / "w")
            model.restore_weights()  # of the default session
            assert model.save_weights(tmp_path / "w") == str(tmp_path / "w")
            (tmp_path / "file").write_text("")
            with pytest.raises(WeightsError, match=r"the weights were not written: .*file"):
                model.save_weights(tmp_path / "file" / "w")
        with pytest.raises(InvalidInputError, match="closed Session"):
            model.restore_weights(session)


@pytest.mark.parametrize("name", ["weights", "päth with space/rn50", "a.b", "x" * 200])
def test_what_save_weights_returned_is_taken_too(name: str, tmp_path: Path) -> None:
    image = np.arange(768, dtype=np.float32).reshape(1, 16, 16, 3)

    def answer(model: Any) -> np.ndarray:
        with tf.Graph().as_default(), tf.Session() as session:
            outputs = model.import_graph_def()
            model.restore_weights(session)
            model.save_weights(tmp_path / name, session)
            return session.run(outputs[0], {model.input_tensor_list[0]: image})

    expected = answer(Tiny(tmp_path, weights="random"))
    assert np.abs(expected).max() > 0
    for weights in (tmp_path / name, (tmp_path / name).parent):
        np.testing.assert_array_equal(answer(Tiny(tmp_path, weights=weights)), expected)
        assert answer(QuantizedTiny(tmp_path, custom_weights_directory=weights)).shape == (1, 1, 1, 4)
    with pytest.raises(WeightsError, match="is not a folder"):
        QuantizedTiny(tmp_path, custom_weights_directory=tmp_path / f"{name}.index")
