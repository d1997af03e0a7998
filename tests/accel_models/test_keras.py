"""The architecture is keras.applications' own: the same weights give the same output. Real files, a real server."""

import functools
import hashlib
import http.server
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import Resnet50, download, keras_file
from amlrealtimeai.errors import WeightsError


def random_like(weight, rng):
    """Random statistics and biases as well, so that none of them can be forgotten unnoticed."""
    name, shape = weight.name, weight.shape
    if "kernel" in name:
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        return rng.standard_normal(shape) * (scale / 100 if name.startswith("conv1_") else scale)
    if "gamma" in name:
        return rng.uniform(0.1, 0.4, shape) if "_3_bn" in name else rng.uniform(0.7, 1.3, shape)
    if "variance" in name:
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.3, shape)


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """(weights file, RGB pictures float32 0..255, Keras' features, Keras' probabilities)."""
    import tf_keras

    path = tmp_path_factory.mktemp("keras") / "weights.h5"
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    model = tf_keras.applications.ResNet50(weights=None)
    model.set_weights([random_like(weight, rng) for weight in model.weights])
    model.save_weights(path)
    both = tf_keras.Model(model.input, [model.get_layer("avg_pool").output, model.output])
    prepared = tf_keras.applications.resnet.preprocess_input(pictures.copy())
    features, probabilities = (output.numpy() for output in both(prepared, training=False))
    tf_keras.backend.clear_session()
    return path, pictures, features, probabilities


def test_the_float_graph_gives_keras_output(keras, tmp_path):
    path, pictures, features, probabilities = keras
    with tf.Graph().as_default(), tf.Session() as session:
        model = Resnet50(tmp_path, weights=path)
        result = model.import_graph_def(is_training=False)
        classified = model.get_default_classifier(result)
        model.restore_weights(session)
        rgb = pictures - np.array([123.68, 116.779, 103.939], np.float32)
        ours, ours_classified = session.run([result, classified], {model.input_tensor_list[0]: rgb})

    assert np.abs(features).max() > 0.5
    assert np.abs(ours[:, 0, 0] - features).max() / np.abs(features).max() < 1e-4
    assert probabilities.max() < 0.9  # not saturated, so that equality says something
    assert np.abs(ours_classified - probabilities).max() < 1e-4


def test_a_file_of_another_network(keras, tmp_path):
    import tf_keras

    with tf.Graph().as_default():
        small = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,), name="dense")])
        small.save_weights(tmp_path / "small.h5")
    with tf.Graph().as_default(), tf.Session() as session:
        model = Resnet50(tmp_path, weights=tmp_path / "small.h5")
        model.import_graph_def()
        with pytest.raises(WeightsError, match=r"small\.h5' are not those of resnet50: expected 'conv1_conv/kernel'"):
            model.restore_weights(session)


def test_a_file_that_is_not_hdf5(tmp_path):
    (tmp_path / "text.h5").write_text("hello")

    with pytest.raises(WeightsError, match=r"text\.h5 is not a Keras weights file"):
        keras_file.read(tmp_path / "text.h5")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": np.array([[1.0, np.nan]])}, "/a/kernel:0 holds NaN or infinity"),
        ({"shape": (2**40, 2), "dtype": "f4"}, "/a/kernel:0 has 2199023255552 numbers, expected at most 268435456"),
        ({"data": np.array([b"x"])}, "Can.t synchronously read data"),
    ],
)
def test_a_file_whose_numbers_are_none(tmp_path, options, said):
    import h5py

    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file.attrs["layer_names"], file.create_group("a").attrs["weight_names"] = [b"a"], [b"kernel:0"]
        file["a"].create_dataset("kernel:0", **options)
    with pytest.raises(WeightsError, match=rf"odd\.h5 is not a Keras weights file \({said}"):
        keras_file.read(tmp_path / "odd.h5")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder, and so an empty Keras cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_imagenet_weights_offline_fail_at_once_with_the_command(home, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_file, "_BASE_URL", "http://127.0.0.1:9/")  # nothing listens on the discard port
    with tf.Graph().as_default(), tf.Session() as session:
        model = Resnet50(tmp_path, weights="imagenet")
        model.import_graph_def()
        with pytest.raises(
            WeightsError,
            match=r"curl -O http.*put the file at .*resnet50/1\.0\.0/resnet50_weights.*"
            r"use weights='photographs', the same but rounded, or weights='workshop'$",
        ):
            model.restore_weights(session)


@pytest.fixture
def site(tmp_path, home, monkeypatch):
    """A server that publishes net.h5 (b"weights"); its folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "net.h5").write_bytes(b"weights")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(keras_file, "_BASE_URL", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()


PUBLISHED = ("net.h5", hashlib.md5(b"weights").hexdigest())


def test_imagenet_weights_are_downloaded_once_and_checked(site, tmp_path):
    model_path = tmp_path / "models" / "net"

    downloaded = keras_file.imagenet("net", PUBLISHED, model_path)
    assert downloaded == model_path / "net.h5"
    assert downloaded.read_bytes() == b"weights"
    (site / "net.h5").unlink()
    assert keras_file.imagenet("net", PUBLISHED, model_path) == downloaded
    downloaded.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"net\.h5 is damaged"):
        keras_file.imagenet("net", PUBLISHED, model_path)
    assert downloaded.exists()


def test_a_download_that_is_something_else_leaves_nothing_behind(site, tmp_path):
    (site / "net.h5").write_bytes(b"<html>log in to the proxy</html>")

    with pytest.raises(WeightsError, match=r"net\.h5 is not what was expected: MD5 .*a proxy may"):
        keras_file.imagenet("net", PUBLISHED, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_missing_page(site, tmp_path):
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(HTTP Error 404: File not found\).*curl -O"):
        keras_file.imagenet("net", ("other.h5", "0" * 32), tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "timed out"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nweig", "timed out"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nweig<close>", "ended after 4 of 100 bytes"),
        (b"nonsense\r\n\r\n<close>", "the server's answer makes no sense"),
    ],
    ids=["silent", "stuck in the middle", "ends early", "not http"],
)
def test_a_server_that_fails_does_not_hang_the_download(home, tmp_path, monkeypatch, answer, reason):
    monkeypatch.setattr(download, "_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(answer.removesuffix(b"<close>"))
            if answer.endswith(b"<close>"):
                connection.close()
            else:
                held.append(connection)

        held = []
        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(keras_file, "_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}/")
        start = time.monotonic()
        with pytest.raises(WeightsError, match=rf"cannot be downloaded \(.*{reason}.*curl -O .*weights='random'"):
            keras_file.imagenet("net", PUBLISHED, tmp_path / "models")
        assert time.monotonic() - start < 5  # the time-out is 0.3 s here
        for connection in held:
            connection.close()
    assert list((tmp_path / "models").iterdir()) == []


def test_imagenet_weights_in_the_model_s_folder_need_no_network(home, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_file, "_BASE_URL", "http://127.0.0.1:9/")
    (tmp_path / "net.h5").write_bytes(b"weights")

    assert (
        keras_file.imagenet("net", ("a/net.h5", hashlib.md5(b"weights").hexdigest()), tmp_path) == tmp_path / "net.h5"
    )
