"""amlrealtimeai.PredictionClient, and what both editions share."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from amlrealtimeai import PredictionClient
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.client.arrays import tensor_of
from amlrealtimeai.errors import AmlRealtimeAiError, DeploymentError, InvalidInputError, NotFoundError
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority

FLOAT, STRING = 1, 7


def client_of(server: Server, **options: object) -> PredictionClient:
    return PredictionClient("localhost" if server.secure else server.host, server.port, **options)


def expected(model: ConvertedModel, image: Path) -> np.ndarray:
    return model.predict({"images": np.array([image.read_bytes()], object)}).outputs["output_alias"][0]


def test_score_image(plain: Server, means: ConvertedModel, image: Path) -> None:
    with client_of(plain) as client:
        got = client.score_image(str(image))
        assert got.shape == (3,) and got.dtype == np.float32
        np.testing.assert_array_equal(got, expected(means, image))
        assert client.last_timings["total"] > client.last_timings["decode"] > 0


def test_score_tensor_and_array(plain: Server, means: ConvertedModel, image: Path) -> None:
    with client_of(plain) as client:
        answer = client.score_tensor(image.read_bytes(), [1], STRING)
        assert [dim.size for dim in answer.tensor_shape.dim] == [1, 3] and answer.dtype == FLOAT
        np.testing.assert_array_equal(list(answer.float_val), expected(means, image))
        two = client.score_numpy_array(np.array([image.read_bytes()] * 2, object))
        assert two.shape == (2, 3), "a batch of two stays a batch"
        with pytest.raises(InvalidInputError, match="expected dtype string, got float32"):
            client.score_tensor(np.zeros(3), [3], FLOAT)


def test_the_only_output_counts_whatever_its_name(means: ConvertedModel, heads: ConvertedModel, image: Path) -> None:
    with Server() as server:
        server.add_model("heads", heads)
        with client_of(server) as client, pytest.raises(InvalidInputError, match="input size does not match signature"):
            client.score_image(image)


@pytest.mark.parametrize(
    ("address", "port", "said"),
    [
        (None, 80, "address is required"),
        ("", 80, "address is required"),
        ("host", None, "port is required"),
        ("host", 0, "1 to 65535"),
    ],
)
def test_address_and_port_are_required(address: str, port: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PredictionClient(address, port)


def test_a_missing_file_is_noticed_before_any_network(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no file '.*none\.jpg'"):
        PredictionClient("192.0.2.1", 1).score_image(tmp_path / "none.jpg")


def test_the_key_is_sent_and_never_shown(
    secure: Server, heads: ConvertedModel, authority: Authority, image: Path
) -> None:
    options = {"use_ssl": True, "root_certificates": authority.pem}
    secure.remove_model("heads")  # the first edition names no service, so there may be only one
    try:
        with client_of(secure, access_token="secondary", **options) as client:
            assert client.score_image(image).shape == (3,)
            assert "secondary" not in repr(client) and f"localhost:{secure.port}" in repr(client)
        with client_of(secure, access_token="wrong", **options) as client:
            with pytest.raises(DeploymentError, match=r"not one of this service's keys.*UNAUTHENTICATED") as caught:
                client.score_image(image)
            assert "wrong" not in str(caught.value)
    finally:
        secure.add_model("heads", heads)


def test_errors_are_ours_and_grpcs(plain: Server, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with (
        client_of(plain) as client,
        pytest.raises(InvalidInputError, match="image 0 of 1: not a JPEG or PNG") as caught,
    ):
        client.score_image(tmp_path / "text.jpg")
    error = caught.value
    assert isinstance(error, grpc.RpcError) and isinstance(error, ValueError) and isinstance(error, AmlRealtimeAiError)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and error.details().startswith("image 0 of 1")


def test_no_model_is_not_found(image: Path) -> None:
    with Server() as server, client_of(server) as client, pytest.raises(NotFoundError, match="Servable not found"):
        client.score_image(image)


def trouble(image: Path, *arguments: object, **options: object) -> tuple[str, float]:
    start = time.monotonic()
    with PredictionClient(*arguments, **options) as client, pytest.raises(DeploymentError) as caught:
        client.score_image(image, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value), time.monotonic() - start


def test_tls_troubles_are_told_apart_and_at_once(
    secure: Server, plain: Server, authority: Authority, image: Path
) -> None:
    roots = authority.pem
    for (host, server, options), said in [
        (("localhost", secure, {"use_ssl": True}), "is not trusted"),
        (("localhost", secure, {"use_ssl": True, "root_certificates": Authority().pem}), "is not trusted"),
        (("127.0.0.1", secure, {"use_ssl": True, "root_certificates": roots}), "is for another name than '127.0.0.1'"),
        (("localhost", secure, {}), "wants TLS and this client does not use it"),
        (("localhost", plain, {"use_ssl": True, "root_certificates": roots}), "does not speak TLS; pass use_ssl=False"),
    ]:
        found = [trouble(image, host, server.port, **options) for _ in range(3)]
        assert all(said in text for text, _ in found), found
        # The best of three, since the machine may be busy; retries would always take 1.5 s or more.
        assert min(seconds for _, seconds in found) < 1.2, found


def test_root_certificates_as_bytes_text_or_path(
    secure: Server, authority: Authority, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "roots.pem").write_bytes(authority.pem)
    for roots in (authority.pem, authority.pem.decode(), tmp_path / "roots.pem", str(tmp_path / "roots.pem")):
        client = client_of(secure, use_ssl=True, root_certificates=roots)
        with client, pytest.raises(DeploymentError, match="say which one"):
            client.score_image(image)
    with pytest.raises(NotFoundError, match="no file"):
        client_of(secure, use_ssl=True, root_certificates=tmp_path / "none.pem")


def test_nobody_there_is_retried_within_the_time_out(image: Path) -> None:
    start = time.monotonic()
    with (
        PredictionClient("127.0.0.1", 1) as client,
        pytest.raises(DeploymentError, match=r"nothing answered at 127\.0\.0\.1:1"),
    ):
        client.score_image(image, timeout=1)
    assert 0.3 < time.monotonic() - start < 1.5


def test_a_service_that_comes_up_in_time_is_reached(means: ConvertedModel, image: Path) -> None:
    with Server() as probe:
        port = probe.port
    with ThreadPoolExecutor(1) as threads, PredictionClient("127.0.0.1", port) as client:
        call = threads.submit(client.score_image, image, 10)
        time.sleep(0.4)
        with Server(port=port) as server:
            server.add_model("means", means)
            assert call.result(timeout=10).shape == (3,)


def test_a_deadline_is_kept(image: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with (
            PredictionClient("127.0.0.1", silent.getsockname()[1]) as client,
            pytest.raises(DeploymentError, match="in time"),
        ):
            client.score_image(image, timeout=0.5)
        assert time.monotonic() - start < 3.5


def test_one_client_in_several_threads(plain: Server, means: ConvertedModel, image: Path) -> None:
    with client_of(plain) as client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: client.score_image(image), range(40)))
    for answer in answers:
        np.testing.assert_array_equal(answer, expected(means, image))


@pytest.mark.parametrize(
    ("data", "shape", "datatype", "want"),
    [
        (b"abc", [1], 7, [b"abc"]),
        ([b"a", b"b"], [2], "DT_STRING", [b"a", b"b"]),
        (np.float32([1, 2]).tobytes(), [2], "DT_FLOAT", [1, 2]),
        ([1, 2, 3, 4], [2, 2], "int32", [[1, 2], [3, 4]]),
        (np.arange(3), (3,), "float", [0, 1, 2]),
    ],
)
def test_tensors_from_content_shape_and_type(data: object, shape: list[int], datatype: object, want: list) -> None:
    assert tensor_of(data, shape, datatype).tolist() == want


def test_a_tensor_type_has_to_be_one() -> None:
    for bad in (14, 0, "DT_RESOURCE", None):
        with pytest.raises(InvalidInputError, match="expected a TensorFlow data type"):
            tensor_of(b"", [0], bad)
    with pytest.raises(InvalidInputError, match="3 bytes, expected 4"):
        tensor_of(b"abc", [1], 1)


def test_importing_the_client_is_quick_and_light() -> None:
    code = (
        "import sys, amlrealtimeai; assert not {'numpy', 'grpc'} & set(sys.modules);"
        "import amlrealtimeai.client; assert 'grpc' not in sys.modules;"
        "amlrealtimeai.PredictionClient('host', 80);"
        "assert not {'tensorflow', 'onnxruntime', 'onnx', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
