"""The first edition from preprocessing to a served score, as its notebooks wrote it."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import amlrealtimeai.resnet50.utils
from amlrealtimeai import DeploymentClient, PredictionClient, resources
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import ConversionError, InvalidInputError, UnsupportedError
from amlrealtimeai.pipeline import BrainWaveStage, KerasStage, ServiceDefinition, TensorflowStage
from amlrealtimeai.resnet50.model import LocalQuantizedResNet50, RemoteQuantizedResNet50

FOX, FOX_CLASS = resources.path("images/red_fox.jpg"), 277


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("AMLREALTIMEAI_HOME", str(folder))
        yield folder


def saved(stages, path):
    definition = ServiceDefinition()
    definition.pipeline += stages
    definition.save(path)
    return path


def test_a_definition_is_saved_registered_served_and_scored(home):
    with tf.Graph().as_default(), tf.Session() as session:
        encoded = tf.placeholder(tf.string, [None])
        images = amlrealtimeai.resnet50.utils.preprocess_array(encoded)
        model = LocalQuantizedResNet50(home / "models")
        model.import_graph_def(include_featurizer=False)
        assert model.classifier_input.shape.as_list() == [None, 1, 1, 2048]
        assert model.featurizer_input is model.featurizer_output is None
        stages = [
            TensorflowStage(session, encoded, images, name="decode"),
            BrainWaveStage(model),
            TensorflowStage(session, model.classifier_input, model.classifier_output),
        ]
        path = saved(stages, home / "fox.zip")

    loaded = ConvertedModel.load(path)
    assert [(stage.definition.type, stage.definition.name) for stage in loaded.stages] == [
        ("preprocess", "decode_preprocess"),
        ("npu", "stage1_featurizer"),
        ("onnx", "stage2_model"),
    ]
    assert list(loaded.signature.inputs) == ["images"] and list(loaded.signature.outputs) == ["output_alias"]
    client = DeploymentClient("subscription", "group", "first")
    service = client.create_service("fox", client.register_model("fox", path))
    try:
        answer = PredictionClient(service.ipAddress, service.port).score_image(FOX)
    finally:
        client.delete_service(service.id)
    assert answer.shape == (1000,) and answer.argmax() == FOX_CLASS


def test_the_local_and_the_remote_featurizer_agree(home):
    assert LocalQuantizedResNet50(home).model_ref() == "resnet50"
    local = LocalQuantizedResNet50(home)
    remote = RemoteQuantizedResNet50("subscription", "group", "second", home, "features")
    results = []
    for model in (local, remote):
        with tf.Graph().as_default(), tf.Session() as session:
            encoded = tf.placeholder(tf.string, [None])
            images = amlrealtimeai.resnet50.utils.preprocess_array(encoded)
            model.import_graph_def(input_tensor=images)
            tensors = [model.featurizer_output, model.classifier_output]
            results.append(session.run(tensors, {encoded: [FOX.read_bytes()] * 2}))
    shared = RemoteQuantizedResNet50("subscription", "group", "second", home, "features", {"tenant": "t"})
    assert shared.featurizer_input is shared.featurizer_output is shared.classifier_output is None
    with tf.Graph().as_default(), tf.Session() as session:
        numbers = tf.placeholder(tf.int32, [None, 224, 224, 3])
        shared.import_graph_def(include_top=False, input_tensor=numbers)
        assert shared.featurizer_input is numbers and shared.classifier_input is None
        grey = session.run(shared.featurizer_output, {numbers: np.zeros((1, 224, 224, 3))})
    assert grey.shape == (1, 1, 1, 2048) and np.isfinite(grey).all()
    remote.cleanup_remote_service()
    shared.cleanup_remote_service()

    assert (remote.output_dims(), remote.version) == ([1, 1, 2048], remote.model_version())
    assert local.featurizer_output.name == "resnet_v1_50/pool5:0"
    (features, probabilities), (far_features, far_probabilities) = results
    assert features.shape == far_features.shape == (2, 1, 1, 2048)
    assert np.abs(features - far_features).max() < 1e-4 * np.abs(features).max()
    assert probabilities.argmax(1).tolist() == far_probabilities.argmax(1).tolist() == [FOX_CLASS] * 2
    assert remote._deployment.list_services() == [] and list(remote._deployment.list_models()) == []


def keras_model(*layers):
    return tf.keras.Sequential([tf.keras.layers.InputLayer((2, 2, 3)), *layers])


@pytest.fixture
def graph():
    """A graph with images [n, 2, 2, 3] from a placeholder of [n, 12], and a session that is Keras' own."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        numbers = tf.placeholder(tf.float32, [None, 12], name="numbers")
        factor = tf.Variable(2.0, name="factor", use_resource=True)
        yield session, numbers, tf.reshape(numbers * factor, [-1, 2, 2, 3], name="images")


def test_a_keras_stage_follows_a_tensorflow_stage(graph, tmp_path):
    session, numbers, images = graph
    layers = tf.keras.layers
    model = keras_model(layers.Flatten(), layers.Dropout(0.5), layers.Dense(4, activation="softmax"))
    session.run(tf.global_variables_initializer())
    values = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    path = saved([TensorflowStage(session, numbers, images), KerasStage(model, name="top")], tmp_path / "both.zip")

    answer = ConvertedModel.load(path).predict({"images": values}).outputs["output_alias"]
    kernel, bias = model.get_weights()
    powers = np.exp(values * 2 @ kernel + bias)
    np.testing.assert_allclose(answer, powers / powers.sum(1, keepdims=True), rtol=1e-5)
    assert tf.keras.backend.get_session() is session


def test_a_keras_model_outside_of_graphs(tmp_path):
    layers = tf.keras.layers
    with tf.init_scope():
        model = keras_model(layers.Flatten(), layers.BatchNormalization(), layers.Dense(3, activation="sigmoid"))
        path = saved([KerasStage(model)], tmp_path / "keras.zip")
        values = np.random.default_rng(0).normal(size=(3, 2, 2, 3)).astype(np.float32)
        expected = model(values).numpy()

    answer = ConvertedModel.load(path).predict({"images": values}).outputs["output_alias"]
    np.testing.assert_allclose(answer, expected, rtol=1e-5)


def test_what_cannot_be_saved_is_named(graph, tmp_path):
    session, numbers, images = graph
    layers = tf.keras.layers
    with pytest.raises(ConversionError, match=r"on the way to 'images:0' has no value.*restore_weights"):
        saved([TensorflowStage(session, numbers, images)], tmp_path / "a.zip")
    session.run(tf.global_variables_initializer())
    first = TensorflowStage(session, numbers, images, name="first")
    with pytest.raises(
        InvalidInputError, match=r"the stage 'first' gives float32 \[None, 2, 2, 3\].*'stage1', expects"
    ):
        saved([first, TensorflowStage(session, numbers, images)], tmp_path / "a.zip")
    with pytest.raises(InvalidInputError, match="stages need different names"):
        saved([first, first], tmp_path / "a.zip")
    with pytest.raises(InvalidInputError, match="the pipeline has no stages"):
        saved([], tmp_path / "a.zip")
    with pytest.raises(InvalidInputError, match="KerasStage expects a built model"):
        KerasStage(tf.keras.Sequential([layers.Dense(2)]))
    with pytest.raises(InvalidInputError, match=r"BrainWaveStage expects a model of amlrealtimeai\.resnet50"):
        BrainWaveStage(session)
    python = layers.Lambda(lambda x: tf.numpy_function(np.sort, [x], tf.float32), output_shape=(2, 2, 3), name="sorts")
    with pytest.raises(UnsupportedError, match=r"does not convert.*sorts"):
        saved([KerasStage(keras_model(python))], tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []
