"""Restoring, saving and exchanging weights between the twins; the graph while it is trained."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai import resources
from amlrealtimeai.accel.models import QuantizedResnet50, Resnet50, Vgg16
from amlrealtimeai.errors import UnsupportedError, WeightsError
from tests.accel_models.tiny import QuantizedTiny, Tiny

GAMMA = "resnet_v1_50/conv1/BatchNorm/gamma"

CONV1 = "resnet_v1_50/conv1/weights/Read/ReadVariableOp:0"


def picture(size=224):
    largest = 120 if size == 224 else 1
    return np.random.default_rng(0).uniform(-largest, largest, (1, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with the weights of a float twin whose first gammas were doubled, and its features."""
    folder = tmp_path_factory.mktemp("custom")
    with tf.Graph().as_default() as graph, tf.Session() as session:
        model = Resnet50(folder, weights="workshop")
        features = model.import_graph_def()
        session.run(tf.global_variables_initializer())
        assert np.isnan(session.run(f"{GAMMA}/Read/ReadVariableOp:0")).all()
        model.restore_weights(session)
        gamma = next(variable for variable in tf.global_variables() if variable.op.name == GAMMA)
        session.run(gamma.assign(gamma * 2))
        graph.finalize()
        prefix = model.save_weights(folder / "new" / "rn50", session)
        assert prefix == str(folder / "new" / "rn50")
        with session.as_default():
            model.save_weights(str(folder / "default" / "rn50"))
        return folder / "new", session.run(features, {model.input_tensor_list[0]: picture()})


def test_a_checkpoint_of_the_float_twin_in_another_float_graph(checkpoint, tmp_path):
    folder, expected = checkpoint
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.name_scope("somewhere"):
            model = Resnet50(tmp_path, weights=folder)
            features = model.import_graph_def()
        assert features.name == "somewhere/resnet_v1_50/pool5:0"
        model.restore_weights(session)
        result = session.run(features, {model.input_tensor_list[0]: picture()})

    np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())


def test_the_quantised_twin_takes_and_gives_the_same_checkpoint(checkpoint, tmp_path):
    folder, expected = checkpoint
    with tf.Graph().as_default(), tf.Session() as session:
        model = QuantizedResnet50(tmp_path, custom_weights_directory=str(folder), number_format="msfp16")
        features = model.import_graph_def()
        model.restore_weights(session)
        result = session.run(features, {model.input_tensor_list[0]: picture()})
        model.save_weights(tmp_path / "back" / "rn50", session)

    assert np.abs(result - expected).max() / np.abs(expected).max() < 0.2
    before = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder)))
    after = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "back")))
    names = before.get_variable_to_shape_map()
    assert names == after.get_variable_to_shape_map()
    assert all(np.array_equal(before.get_tensor(name), after.get_tensor(name)) for name in names)


def test_saving_into_the_default_session(checkpoint):
    assert tf.train.latest_checkpoint(str(checkpoint[0].parent / "default")) is not None


def test_training_a_quantised_graph_moves_every_trainable_variable(tmp_path):
    """Gradients pass the quantisers of images, activations and kernels; a step along them lowers the loss."""
    with tf.Graph().as_default(), tf.Session() as session:
        model = QuantizedTiny(tmp_path, weights="random")
        mean, _ = model.import_graph_def()
        loss = tf.reduce_mean(tf.square(mean - 1.0))
        variables = tf.trainable_variables()
        gradients = tf.gradients(loss, variables)
        step = tf.group(*[v.assign_sub(1e-3 * g) for v, g in zip(variables, gradients, strict=True)])
        model.restore_weights(session)
        feed = {model.input_tensor_list[0]: picture(16)}
        before, found = session.run([loss, gradients], feed)
        session.run(step, feed)
        after = session.run(loss, feed)

    assert len(found) == 6
    assert all(np.isfinite(gradient).all() and np.abs(gradient).max() > 0 for gradient in found)
    assert after < before


def test_a_phase_tensor_switches_batch_statistics(tmp_path):
    moving_mean = "tiny_v1/first/BatchNorm/moving_mean/Read/ReadVariableOp:0"
    with tf.Graph().as_default(), tf.Session() as session:
        phase = tf.placeholder(tf.bool, [])
        model = Tiny(tmp_path, weights="random")
        mean, _ = model.import_graph_def(is_training=phase)
        model.restore_weights(session)
        images = {model.input_tensor_list[0]: picture(16)}
        start = session.run(moving_mean)
        inference = session.run(mean, {**images, phase: False})
        assert np.array_equal(session.run(moving_mean), start)
        training = session.run(mean, {**images, phase: True})
        assert not np.array_equal(session.run(moving_mean), start)

    # a batch normalised by its own statistics has beta as its mean, which random weights put near 0
    assert np.abs(training).max() < 0.35
    assert np.abs(training - inference).max() > 0.05


def test_for_inference_nothing_is_trainable(tmp_path):
    with tf.Graph().as_default():
        Tiny(tmp_path, weights="random").import_graph_def(is_training=False)
        QuantizedTiny(tmp_path, weights="random").import_graph_def(is_training=False)
        frozen = Tiny(tmp_path, is_frozen=True, weights="random")
        frozen.import_graph_def(is_training=tf.placeholder(tf.bool, []))

        assert tf.trainable_variables() == []
        assert len(tf.global_variables()) == 3 * 10
        assert frozen.output_tensor_list == ["tiny_v1_2/mean:0", "tiny_v1_2/map:0"]
        assert frozen.get_output_dims(1) == [None, 16, 16, 4]


def test_a_network_without_a_classifier_says_so(tmp_path):
    with tf.Graph().as_default(), pytest.raises(UnsupportedError, match="tiny has no classifier"):
        Tiny(tmp_path, weights="random").get_default_classifier(tf.placeholder(tf.float32))


def test_random_weights_are_seeded_keep_their_size_and_say_so(tmp_path, caplog):
    with tf.Graph().as_default(), tf.Session() as session:
        model = Resnet50(tmp_path, weights="random")
        features = model.import_graph_def()
        model.restore_weights(session)
        first = session.run(CONV1)
        result = session.run(features, {model.input_tensor_list[0]: picture()})
        model.restore_weights(session)
        assert np.array_equal(session.run(CONV1), first)

    assert 0.1 < np.abs(result).mean() < 10
    assert caplog.messages[0] == ("resnet50 has random weights: good for measuring time; its predictions mean nothing.")


def test_an_archive_of_ones_own_is_read_and_another_networks_is_refused(tmp_path):
    archive = tmp_path / "own.npz"
    for suffix in ("", ".sha256"):
        (tmp_path / f"own.npz{suffix}").write_bytes(resources.path(f"weights/resnet50.npz{suffix}").read_bytes())
    with tf.Graph().as_default(), tf.Session() as session:
        model = Resnet50(tmp_path, weights=archive)
        model.import_graph_def()
        model.restore_weights(session)
        own = session.run(CONV1)
    with tf.Graph().as_default(), tf.Session() as session:
        shipped = Resnet50(tmp_path, weights="workshop")
        shipped.import_graph_def()
        shipped.restore_weights(session)
        assert np.array_equal(session.run(CONV1), own)
        other = Vgg16(tmp_path, weights=archive)
        other.import_graph_def()
        with pytest.raises(WeightsError, match=r"own.npz holds weights of resnet50, expected vgg16\. Give an archive"):
            other.restore_weights(session)


def test_the_weights_that_know_photographs_are_those_of_keras(tmp_path):
    """Numbers of Keras' own file, of which kernels may be off by what rounding to 8 bits costs."""
    with tf.Graph().as_default(), tf.Session() as session:
        model = Resnet50(tmp_path, weights="photographs")
        features = model.import_graph_def()
        classified = model.get_default_classifier(features)
        model.restore_weights(session)
        gamma, kernel = session.run([f"{GAMMA}/Read/ReadVariableOp:0", CONV1])
        assert session.run(classified, {features: np.zeros((1, 1, 1, 2048), np.float32)}).shape == (1, 1000)

    assert model.weights == "photographs"
    np.testing.assert_array_equal(gamma[:3], np.array([1.0913312, 1.1138613, 0.87221205], np.float32))
    # red, green, blue of the first filter's middle
    np.testing.assert_allclose(kernel[3, 3, :, 0], [0.16710365, 0.21033862, 0.09523566], atol=1e-3)


def test_a_network_without_weights_that_know_photographs_says_what_to_use(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        model = Vgg16(tmp_path, weights="photographs")
        model.import_graph_def()
        with pytest.raises(WeightsError, match=r"^no photographs weights for vgg16: use weights='random'\. For "):
            model.restore_weights(session)


def test_the_environment_names_the_default(tmp_path, monkeypatch, checkpoint):
    monkeypatch.setenv("AMLREALTIMEAI_WEIGHTS", "nowhere")
    with pytest.raises(
        WeightsError, match="there are no weights 'nowhere': expected one of workshop, imagenet, random"
    ):
        Resnet50(tmp_path)
    Resnet50(tmp_path, weights="workshop")
    monkeypatch.setenv("AMLREALTIMEAI_WEIGHTS", str(checkpoint[0]))
    Resnet50(tmp_path)


def test_no_shipped_weights_fall_back_to_random_and_say_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("AMLREALTIMEAI_DATA", str(tmp_path))
    model = Resnet50(tmp_path)

    assert caplog.messages == [
        "No workshop weights ship for resnet50 yet: using random ones; weights='imagenet' downloads real ones."
    ]
    with tf.Graph().as_default():
        features = tf.placeholder(tf.float32, [None, 1, 1, 2048])
        assert model.get_default_classifier(features).shape.as_list() == [None, 1000]
        with pytest.raises(WeightsError, match="no workshop weights for resnet50"):
            Resnet50(tmp_path, weights="workshop").get_default_classifier(features)


def test_missing_folders_and_missing_checkpoints(tmp_path):
    with pytest.raises(WeightsError, match=r"custom_weights_directory .*absent' is not a folder"):
        QuantizedResnet50(tmp_path, custom_weights_directory=tmp_path / "absent")
    with pytest.raises(WeightsError, match=r"there are no weights .*absent'"):
        Resnet50(tmp_path, weights=tmp_path / "absent")
    with pytest.raises(WeightsError, match="got both"):
        QuantizedResnet50(tmp_path, custom_weights_directory=tmp_path, weights="random")
    with tf.Graph().as_default(), tf.Session() as session:
        model = Tiny(tmp_path, weights=tmp_path)
        model.import_graph_def()
        with pytest.raises(WeightsError, match="there is no checkpoint in"):
            model.restore_weights(session)


def test_a_checkpoint_of_another_network(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        other = tf.Variable(np.zeros((3, 3, 3, 9), np.float32), name="tiny_v1/first/weights")
        session.run(other.initializer)
        tf.train.Saver([other]).save(session, str(tmp_path / "other"))
    with tf.Graph().as_default(), tf.Session() as session:
        model = Tiny(tmp_path, weights=tmp_path)
        model.import_graph_def()
        with pytest.raises(
            WeightsError, match=r"are not those of tiny: expected .*\[3, 3, 3, 8\], got shape \[3, 3, 3, 9\]"
        ):
            model.restore_weights(session)


def test_a_damaged_checkpoint(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        model = Tiny(tmp_path, weights="random")
        model.import_graph_def()
        model.restore_weights(session)
        prefix = Path(model.save_weights(tmp_path / "weights", session))
        data = prefix.with_name("weights.data-00000-of-00001")
        data.write_bytes(data.read_bytes()[:300])
        with pytest.raises(WeightsError, match=r"the checkpoint .*weights cannot be read"):
            restored = Tiny(tmp_path, weights=tmp_path)
            restored.import_graph_def()
            restored.restore_weights(session)


def test_a_checkpoint_s_folder_can_be_moved(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        model = Tiny(tmp_path, weights="random")
        mean, _ = model.import_graph_def()
        model.restore_weights(session)
        model.save_weights(tmp_path / "old" / "weights", session)
        expected = session.run(mean, {model.input_tensor_list[0]: picture(16)})
        (tmp_path / "old").rename(tmp_path / "new")
        moved = Tiny(tmp_path, weights=tmp_path / "new")
        again, _ = moved.import_graph_def()
        moved.restore_weights(session)

        assert np.array_equal(session.run(again, {moved.input_tensor_list[0]: picture(16)}), expected)


def test_the_classifier_of_a_checkpoint_is_the_default_one(checkpoint, float_resnet):
    features = np.random.default_rng(3).uniform(0, 1, (2, 1, 1, 2048)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = tf.placeholder(tf.float32, [None, 1, 1, 2048])
        result = session.run(
            Resnet50("unused", weights=checkpoint[0]).get_default_classifier(inputs), {inputs: features}
        )
    expected = float_resnet.session.run(float_resnet.probabilities, {float_resnet.features: features})

    assert np.array_equal(result, expected)


def test_a_saved_model_keeps_what_the_graph_says(float_resnet, tmp_path):
    target = str(tmp_path / "saved")
    with float_resnet.graph.as_default():
        tf.saved_model.simple_save(
            float_resnet.session,
            target,
            inputs={"images": float_resnet.images},
            outputs={"output_alias": float_resnet.probabilities},
        )
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.saved_model.load(session, ["serve"], target)
        collected = [graph.get_collection(f"amlrealtimeai_{name}") for name in ("preprocess", "featurizer")]
        data = [resources.path("images/red_fox.jpg").read_bytes()]
        found = session.run(float_resnet.probabilities.name, {float_resnet.images.name: data})

    assert [len(records) for records in collected] == [1, 1]
    assert all(isinstance(record, str | bytes) for records in collected for record in records)
    assert found.argmax() == 277


@pytest.mark.parametrize(
    ("network", "choice"),
    [
        ("resnet50", "weights='workshop'"),
        ("resnet152", "weights='random'"),
        ("vgg16", "weights='random'"),
        ("ssdvgg", "weights='workshop'"),
    ],
)
def test_advice_names_weights_that_there_are(network, choice):
    from amlrealtimeai.accel.models import keras_file

    assert keras_file.offline_choice(network) == choice
