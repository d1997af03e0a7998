"""The steps of the three editions' notebooks, in our own words, one after the other in one process.

    python -m tests.core.old_editions FOLDER PICTURE SWITCH

SWITCH: the first line that old programs get, one of TensorFlow's switches. The first program has the real ResNet-50;
the others a network of three convolutions with the original's names, so that all takes seconds.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

tf = tf.compat.v1
folder, picture = Path(sys.argv[1]), Path(sys.argv[2])
getattr(tf, sys.argv[3])()

import amlrealtimeai.accel.models.utils as utils  # noqa: E402
import amlrealtimeai.contrib.brainwave.models.utils as middle_utils  # noqa: E402
import amlrealtimeai.resnet50.utils as first_utils  # noqa: E402
from amlrealtimeai import DeploymentClient, pipeline  # noqa: E402
from amlrealtimeai import PredictionClient as FirstClient  # noqa: E402
from amlrealtimeai.accel import AccelOnnxConverter, PredictionClient  # noqa: E402
from amlrealtimeai.accel.models.base import FloatModel, Network, QuantizedModel  # noqa: E402
from amlrealtimeai.contrib.brainwave import BrainwaveWebservice  # noqa: E402
from amlrealtimeai.contrib.brainwave import client as middle_client  # noqa: E402
from amlrealtimeai.contrib.brainwave import pipeline as middle_pipeline  # noqa: E402
from amlrealtimeai.contrib.brainwave.models.networks import FloatBrainwaveModel, QuantizedBrainwaveModel  # noqa: E402
from amlrealtimeai.core import Workspace  # noqa: E402
from amlrealtimeai.core.compute import AksCompute, ComputeTarget  # noqa: E402
from amlrealtimeai.core.model import Model  # noqa: E402
from amlrealtimeai.core.webservice import AksWebservice, Webservice  # noqa: E402
from amlrealtimeai.exceptions import WebserviceException  # noqa: E402
from amlrealtimeai.resnet50 import model as first_model  # noqa: E402
from amlrealtimeai.resnet50.model import LocalQuantizedResNet50, RemoteQuantizedResNet50  # noqa: E402

SIDE, FEATURES, CLASSES = 32, 64, 5
K = tf.keras.backend


def _featurizer(b, x):
    for scope, count, stride in (("conv1", 16, 2), ("conv2", 32, 2), ("conv3", FEATURES, 1)):
        x = b.activation(x, f"{scope}/input") if scope != "conv1" else b.image(x, "conv1/input")
        x = b.conv_bn(x, count, 3, stride=stride, scope=scope, keras=scope, first=scope == "conv1", input_variance=9800)
        x = tf.nn.relu(x)
    return [tf.reduce_mean(x, [1, 2], keepdims=True, name="pool5")]


def _classifier(features, kernel):
    return tf.nn.softmax(
        tf.matmul(tf.reshape(features, [-1, FEATURES]), tf.constant(kernel)), name="predictions/Softmax"
    )


SMALL = Network(
    name="small",
    scope="resnet_v1_50",
    version="1.0.0",
    input_dims=[SIDE, SIDE, 3],
    output_dims=[[1, 1, FEATURES]],
    featurizer=_featurizer,
    classifier=_classifier,
    classifier_shapes={"predictions/kernel": (FEATURES, 1000)},
    keras_file=None,
    output_names=("pool5",),
    classifier_name="predictions/Softmax",
)


class Small(FloatModel):
    network = SMALL


class QuantizedSmall(QuantizedModel):
    network = SMALL


class MiddleSmall(FloatBrainwaveModel):
    network = SMALL


class QuantizedMiddleSmall(QuantizedBrainwaveModel):
    network = SMALL


def resized(encoded, module):
    """preprocess_array, for the small network."""
    return module.preprocess_array(encoded, output_height=SIDE, output_width=SIDE)


def keras_head(shape):
    layers = tf.keras.layers
    head = tf.keras.Sequential()
    head.add(layers.Dropout(0.2, input_shape=shape))
    head.add(layers.Dense(16, activation="relu", input_dim=shape))
    head.add(layers.Flatten())
    head.add(layers.Dense(CLASSES, activation="softmax", input_dim=16))
    return head


def close(found, expected):
    np.testing.assert_allclose(np.ravel(found), np.ravel(expected), atol=0.03 * np.abs(expected).max())


def first_quickstart():
    """Decode, featurize on the FPGA, the network's own classifier; deploy; ask with a picture."""
    tf.reset_default_graph()
    in_images = tf.placeholder(tf.string)
    image_tensors = first_utils.preprocess_array(in_images)
    model = LocalQuantizedResNet50(folder / "models")
    model.import_graph_def(include_featurizer=False)
    service_def = pipeline.ServiceDefinition()
    service_def.pipeline.append(pipeline.TensorflowStage(tf.Session(), in_images, image_tensors))
    service_def.pipeline.append(pipeline.BrainWaveStage(model))
    service_def.pipeline.append(pipeline.TensorflowStage(tf.Session(), model.classifier_input, model.classifier_output))
    service_def.save(str(folder / "save" / "service_def"))
    client = DeploymentClient("subscription", "group", "account", "eastus2")
    model_id = client.register_model("resnet50-model", str(folder / "save" / "service_def"))
    service = client.get_service_by_name("quickstart-service")
    if service is None:
        service = client.create_service("quickstart-service", model_id)
    else:
        service = client.update_service(service.id, model_id)
    results = FirstClient(service.ipAddress, service.port).score_image(str(picture))
    best = sorted(enumerate(results), key=lambda item: item[1], reverse=True)[0]
    assert best[0] == 277, best
    client.delete_service(service.id)
    client.delete_model(model_id)


def first_model_build():
    """Features from a service in the cloud, a Keras classifier on them, both as one service."""
    tf.reset_default_graph()
    in_images = tf.placeholder(tf.string)
    image_tensors = first_utils.preprocess_array(in_images)
    first_model._Bgr.network = replace(SMALL, input_dims=[224, 224, 3])
    featurizer = RemoteQuantizedResNet50("subscription", "group", "account", str(folder / "models"), weights="random")
    featurizer.import_graph_def(include_top=False, input_tensor=image_tensors)
    with tf.Session() as sess:
        features = sess.run([featurizer.featurizer_output], feed_dict={in_images: [picture.read_bytes()] * 2})[0]
    assert features.shape == (2, 1, 1, FEATURES)
    with tf.Session() as sess:
        K.set_session(sess)
        model = keras_head((1, 1, FEATURES))
        model.compile(optimizer="sgd", loss="binary_crossentropy")
        model.fit(features, np.eye(CLASSES)[[0, 1]], epochs=2, batch_size=2, verbose=0)
        expected = model.predict(features)
        service_def = pipeline.ServiceDefinition()
        service_def.pipeline.append(pipeline.TensorflowStage(tf.Session(), in_images, image_tensors))
        service_def.pipeline.append(pipeline.BrainWaveStage(featurizer))
        service_def.pipeline.append(pipeline.KerasStage(model))
        service_def.save(str(folder / "save" / "retrained"))
    featurizer.cleanup_remote_service()
    client = DeploymentClient("subscription", "group", "account")
    service = client.create_service("catsanddogs", client.register_model("catsanddogs", folder / "save" / "retrained"))
    with FirstClient(service.ipAddress, service.port) as predictions:
        close(predictions.score_image(str(picture)), expected[0])
    client.delete_service(service.id)


def middle_service(model_def_path, name):
    """Deploy as all three do, unless it is there; and ask."""
    ws = Workspace.from_config()
    registered_model = Model.register(ws, str(model_def_path), name)
    try:
        service = Webservice(ws, name)
    except WebserviceException:
        service = Webservice.deploy_from_model(
            ws, name, [registered_model], None, BrainwaveWebservice.deploy_configuration()
        )
        service.wait_for_deployment(True)
    client = middle_client.PredictionClient(service.ip_address, service.port)
    found = client.score_file(picture.read_bytes())
    np.testing.assert_array_equal(np.ravel(service.run(str(picture))), np.ravel(found))
    service.delete()
    registered_model.delete()
    return found


def middle_quickstart():
    tf.reset_default_graph()
    in_images = tf.placeholder(tf.string)
    image_tensors = resized(in_images, middle_utils)
    model = QuantizedMiddleSmall(str(folder / "models"), is_frozen=True, weights="random")
    feature_tensor = model.import_graph_def(image_tensors)
    assert feature_tensor.name == "resnet_v1_50/pool5:0"
    classifier_output = model.get_default_classifier(feature_tensor)
    with tf.Session() as sess:
        expected = sess.run(classifier_output, {in_images: [picture.read_bytes()]})
        model_def = middle_pipeline.ModelDefinition()
        model_def.pipeline.append(middle_pipeline.TensorflowStage(sess, in_images, image_tensors))
        model_def.pipeline.append(middle_pipeline.BrainWaveStage(sess, model))
        model_def.pipeline.append(middle_pipeline.TensorflowStage(sess, feature_tensor, classifier_output))
        model_def.save(folder / "quick.zip")
    close(middle_service(folder / "quick.zip", "imagenet-infer"), expected)


def middle_custom_weights():
    """Train the float network with a head, save both, read them into the quantised one, deploy."""
    weights = folder / "middle"
    weights.mkdir()
    labels = np.eye(CLASSES)[[1]]

    def construct(featurizer):
        in_images = tf.placeholder(tf.string)
        features = featurizer.import_graph_def(resized(in_images, middle_utils), is_training=False)
        head = keras_head((1, 1, FEATURES))
        sess = tf.get_default_session()
        sess.run(tf.global_variables_initializer())
        featurizer.restore_weights(sess)
        return in_images, features, head

    tf.reset_default_graph()
    with tf.Session() as sess:
        K.set_session(sess)
        featurizer = MiddleSmall(str(folder / "models"), weights="random")
        in_images, features, head = construct(featurizer)
        loss = tf.reduce_mean(tf.keras.losses.binary_crossentropy(labels, head(features)))
        optimizer = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        for _ in range(2):
            sess.run([optimizer, loss], {in_images: [picture.read_bytes()], K.learning_phase(): 1})
        head.save_weights(str(weights / "class_weights.h5"))
        featurizer.save_weights(str(weights / "rn50"), sess)
    tf.reset_default_graph()
    with tf.Session() as sess:
        K.set_session(sess)
        quantized = QuantizedMiddleSmall(str(folder / "models"), custom_weights_directory=str(weights))
        in_images, features, head = construct(quantized)
        head.load_weights(str(weights / "class_weights.h5"))
        scores = head(features)
        expected = sess.run(scores, {in_images: [picture.read_bytes()], K.learning_phase(): 0})
        image_tensors = sess.graph.get_tensor_by_name(quantized.input_tensor_name)
        model_def = middle_pipeline.ModelDefinition()
        model_def.pipeline.append(middle_pipeline.TensorflowStage(sess, in_images, image_tensors))
        model_def.pipeline.append(middle_pipeline.BrainWaveStage(sess, quantized))
        model_def.pipeline.append(middle_pipeline.KerasStage(head))
        model_def.save(str(folder / "custom"))
    close(middle_service(folder / "custom", "custom-weights"), expected)


def accel_service(saved, in_images, output, expected):
    """Register, convert, deploy, ask by the tensors' names."""
    ws = Workspace.from_config()
    registered_model = Model.register(workspace=ws, model_path=str(saved), model_name="small")
    convert_request = AccelOnnxConverter.convert_tf_model(ws, registered_model, in_images.name, output.name)
    assert convert_request.wait_for_completion(show_output=False), convert_request.result
    converted_model = convert_request.result
    assert converted_model.url and converted_model.created_time and converted_model.version == 1
    aks_target = ComputeTarget.create(
        workspace=ws, name="my-aks", provisioning_configuration=AksCompute.provisioning_configuration()
    )
    aks_target.wait_for_completion(show_output=False)
    aks_service = AksWebservice.deploy_from_model(
        workspace=ws,
        name="my-service",
        models=[converted_model],
        deployment_config=AksWebservice.deploy_configuration(num_replicas=1, auth_enabled=False),
        deployment_target=aks_target,
    )
    aks_service.wait_for_deployment(show_output=False)
    with PredictionClient(aks_service.ip_address, aks_service.port, service_name=aks_service.name) as client:
        results = client.score_file(path=str(picture), input_name=in_images.name, outputs=output.name)
    close(results, expected)
    for made in (aks_service, aks_target, converted_model, registered_model):
        made.delete()


def accel_quickstart():
    tf.reset_default_graph()
    in_images = tf.placeholder(tf.string)
    image_tensors = resized(in_images, utils)
    model_graph = QuantizedSmall(str(folder / "models"), is_frozen=True, weights="random")
    feature_tensor = model_graph.import_graph_def(image_tensors)
    classifier_output = model_graph.get_default_classifier(feature_tensor)
    assert classifier_output.name == "classifier/resnet_v1_50/predictions/Softmax:0"
    with tf.Session() as sess:
        model_graph.restore_weights(sess)
        expected = sess.run(classifier_output, {in_images: [picture.read_bytes()]})
        tf.saved_model.simple_save(
            sess, str(folder / "small"), inputs={"images": in_images}, outputs={"output_alias": classifier_output}
        )
    accel_service(folder / "small", in_images, classifier_output, expected)


def accel_training():
    """Float with a head, trained as a whole; then quantised, trained a little more, and saved."""
    weights = folder / "accel"
    weights.mkdir()
    layers = tf.keras.layers

    def construct(featurizer):
        in_images = tf.placeholder(tf.string)
        features = featurizer.import_graph_def(input_tensor=resized(in_images, utils))
        with tf.name_scope("classifier"):
            K.set_session(tf.get_default_session())
            x = layers.Dropout(0.2, input_shape=(1, 1, FEATURES))(features)
            x = layers.Dense(16, activation="relu", input_dim=(1, 1, FEATURES))(x)
            x = layers.Flatten()(x)
            preds = layers.Dense(CLASSES, activation="softmax", input_dim=16, name="classifier_output")(x)
        sess = tf.get_default_session()
        tf.global_variables_initializer().run()
        featurizer.restore_weights(sess)
        return in_images, preds

    def train(in_images, preds):
        in_labels = tf.placeholder(tf.float32, shape=(None, CLASSES))
        cross_entropy = tf.reduce_mean(tf.keras.losses.binary_crossentropy(in_labels, preds))
        optimizer = tf.train.GradientDescentOptimizer(0.001).minimize(cross_entropy)
        feed = {in_images: [picture.read_bytes()], in_labels: np.eye(CLASSES)[[1]], K.learning_phase(): 1}
        for _ in range(2):
            tf.get_default_session().run([optimizer, cross_entropy], feed_dict=feed)

    tf.reset_default_graph()
    with tf.Session().as_default() as sess:
        featurizer = Small(str(folder / "models"), weights="random")
        in_images, preds = construct(featurizer)
        train(in_images, preds)
        featurizer.save_weights(str(weights / "rn50"), sess)
    tf.reset_default_graph()
    with tf.Session().as_default() as sess:
        quantized = QuantizedSmall(str(folder / "models"), is_frozen=True, custom_weights_directory=str(weights))
        in_images, preds = construct(quantized)
        train(in_images, preds)
        expected = sess.run(preds, {in_images: [picture.read_bytes()], K.learning_phase(): 0})
        tf.saved_model.simple_save(
            sess, str(folder / "trained"), inputs={"images": in_images}, outputs={"output_alias": preds}
        )
    accel_service(folder / "trained", in_images, preds, expected)


FIRST = (first_quickstart, first_model_build)
LATER = (middle_quickstart, middle_custom_weights, accel_quickstart, accel_training)

if __name__ == "__main__":
    # the first edition's ResNet-50 is asked in graph mode by tests/pipeline already
    for steps in LATER if sys.argv[3] == "disable_eager_execution" else FIRST + LATER:
        steps()
        print(steps.__name__, "ran", flush=True)
