"""azureml.accel's client."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from amlrealtimeai.accel import PredictionClient, client_from_service
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import DeploymentError, InvalidInputError, NotFoundError
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority


@pytest.fixture
def means_client(secure: Server, authority: Authority) -> PredictionClient:
    return PredictionClient(
        "localhost", secure.port, True, "primary", service_name="means", root_certificates=authority.pem
    )


@pytest.fixture
def heads_client(secure: Server, authority: Authority) -> PredictionClient:
    return PredictionClient("localhost", secure.port, True, service_name="heads", root_certificates=authority.pem)


X = np.array([[1, 2]], np.float32)


def test_score_file(means_client: PredictionClient, means: ConvertedModel, image: Path) -> None:
    expected = means.predict({"images": np.array([image.read_bytes()], object)}).outputs["output_alias"][0]
    for options in ({}, {"input_name": "Placeholder:0"}, {"outputs": "output_alias"}, {"outputs": "classifier/mean:0"}):
        np.testing.assert_array_equal(means_client.score_file(image, **options), expected)
    (listed,) = means_client.score_file(image, outputs=["classifier/mean:0"])
    np.testing.assert_array_equal(listed, expected[np.newaxis])


def test_a_list_of_outputs_keeps_its_order_and_the_batch_dimension(heads_client: PredictionClient) -> None:
    got = heads_client.score_numpy_arrays({"x": X}, outputs=["head7:0", "head10:0", "head2:0"])
    assert [array.tolist() for array in got] == [[[8, 9]], [[11, 12]], [[3, 4]]]


def test_one_name_is_one_array_and_none_is_all(heads_client: PredictionClient) -> None:
    assert heads_client.score_numpy_arrays({"x:0": X}, outputs="head3:0").tolist() == [[4, 5]]
    everything = heads_client.score_numpy_arrays({"x": X})
    names = sorted(f"head{i}:0" for i in range(12))
    assert [array.tolist() for array in everything] == [[[1 + int(n[4:-2]), 2 + int(n[4:-2])]] for n in names]
    two = heads_client.score_numpy_arrays({"x": np.repeat(X, 2, axis=0)}, outputs="head0:0")
    assert two.tolist() == [[1, 2], [1, 2]]


def test_score_tensors(heads_client: PredictionClient) -> None:
    assert heads_client.score_tensors({"x": ([3, 4], [1, 2], 1)}, outputs="head1:0").tolist() == [[4, 5]]


def test_defaults_and_checks(tmp_path: Path, heads_client: PredictionClient) -> None:
    assert PredictionClient("host").target == "host:80"
    assert PredictionClient("host", use_ssl=True).target == "host:443"
    assert PredictionClient("::1", 5).target == "[::1]:5"
    with pytest.raises(ValueError, match="address is required"):
        PredictionClient(None)
    with pytest.raises(NotFoundError, match="no file"):
        PredictionClient("192.0.2.1").score_file(tmp_path / "none.jpg")
    with pytest.raises(InvalidInputError, match="expected a dictionary"):
        heads_client.score_numpy_arrays([X])
    with pytest.raises(InvalidInputError, match="output tensor alias not found in signature: nope"):
        heads_client.score_numpy_arrays({"x": X}, outputs="nope")
    shown = repr(PredictionClient("host", access_token="secret", service_name="s"))
    assert shown == "PredictionClient('host:80', use_ssl=False, service_name='s')"


def service(uri: str | None, name: str, **more: object) -> SimpleNamespace:
    return SimpleNamespace(
        **{"scoring_uri": uri, "name": name, "auth_enabled": False, "ssl_enabled": False, "root_certificates": None}
        | more
    )


def test_client_from_service_takes_address_tls_and_key(secure: Server, authority: Authority, image: Path) -> None:
    uri = f"https://localhost:{secure.port}/api/v1/service/means/score"
    deployed = service(uri, "means", auth_enabled=True, root_certificates=authority.pem)
    for keys in (("primary", "secondary"), {"primaryKey": "primary", "secondaryKey": ""}):
        deployed.get_keys = lambda keys=keys: keys
        with client_from_service(deployed) as client:
            assert client.use_ssl and client.score_file(image).shape == (3,)


def test_client_from_service_without_a_scheme(plain: Server, image: Path) -> None:
    with client_from_service(service(f"127.0.0.1:{plain.port}", "means")) as client:
        assert not client.use_ssl and client.score_file(image).shape == (3,)
    assert client_from_service(service("host:5", "m", ssl_enabled=True)).use_ssl
    assert client_from_service(service("http://host/score", "m")).target == "host:80"


def test_client_from_service_needs_an_address() -> None:
    with pytest.raises(DeploymentError, match="wait_for_deployment"):
        client_from_service(service(None, "m"))
    with pytest.raises(InvalidInputError, match="expected an address such as"):
        client_from_service(service("https://", "m"))
