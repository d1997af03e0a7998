"""HTTP proxies from the environment: never to this computer, honoured and named elsewhere."""

import socket

import numpy as np
import pytest

from amlrealtimeai import PredictionClient
from amlrealtimeai.errors import DeploymentError
from amlrealtimeai.serving import health
from amlrealtimeai.serving.server import Server
from tests.client.endpoints import Forwarder, echo, predicting

ONE = np.ones((1, 1), np.float32)
VARIABLES = ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_computer_is_never_reached_through_a_proxy(
    variable: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, NOBODY)
    with predicting(echo) as port, PredictionClient(host, port) as client:
        assert client.score_numpy_array(ONE, timeout=30).tolist() == [[1]]


def test_neither_is_ipv6_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", NOBODY)
    with predicting(echo, "[::1]") as port, PredictionClient("[::1]", port) as client:
        assert client.score_numpy_array(ONE, timeout=30).tolist() == [[1]]


@pytest.mark.parametrize("variable", VARIABLES)
def test_another_host_is_reached_through_the_proxy(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with predicting(echo) as port, Forwarder(port, is_proxy=True) as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        with PredictionClient("service.test", 5005) as client:
            assert client.score_numpy_array(ONE, timeout=30).tolist() == [[1]]
        assert proxy.targets == ["service.test:5005"]


def test_a_proxy_without_a_scheme_and_one_that_grpc_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with predicting(echo) as port, Forwarder(port, is_proxy=True) as proxy:
        monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:9")
        monkeypatch.setenv("all_proxy", f"127.0.0.1:{proxy.port}")
        with PredictionClient("service.test", 5005) as client:
            assert client.score_numpy_array(ONE, timeout=30).tolist() == [[1]]
        assert proxy.targets == ["service.test:5005"]


@pytest.mark.parametrize(
    "excepted",
    ["service.test", ".test", "test", "*", "other,service.test", "service.test:5005", "other, .test", "SERVICE.test"],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_is_honoured(name: str, excepted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name does not resolve, so a call that goes directly fails, and does not blame a proxy."""
    with predicting(echo) as port, Forwarder(port, is_proxy=True) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name, excepted)
        with PredictionClient("service.test", 5005) as client, pytest.raises(DeploymentError) as caught:
            client.score_numpy_array(ONE, timeout=5)
        assert proxy.targets == [] and "proxy" not in str(caught.value)


@pytest.mark.parametrize(("excepted", "direct"), [("192.0.2.0/24", True), ("192.0.2.1", True), ("10.0.0.0/8", False)])
def test_no_proxy_may_name_networks(excepted: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with predicting(echo) as port, Forwarder(port, is_proxy=True) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", excepted)
        with PredictionClient("192.0.2.1", 5005) as client:
            if direct:
                with pytest.raises(DeploymentError, match="nothing answered at"):
                    client.score_numpy_array(ONE, timeout=0.3)
            else:
                assert client.score_numpy_array(ONE, timeout=30).tolist() == [[1]]
        assert bool(proxy.targets) is not direct


def test_a_proxy_that_fails_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}/")
    for timeout in (0.5, 5):
        with PredictionClient("service.test", 5005) as client, pytest.raises(DeploymentError) as caught:
            client.score_numpy_array(ONE, timeout=timeout)
        text = str(caught.value)
        assert f"through the proxy http://127.0.0.1:{port} (https_proxy in the environment)" in text
        assert "no_proxy=service.test" in text and "secret" not in text


def test_the_packages_own_probes_go_directly(plain: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, NOBODY)
    assert health.answers(plain.host, plain.port, secure=False)
