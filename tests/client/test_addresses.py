"""All the ways in which programs write where a service is."""

import numpy as np
import pytest

import amlrealtimeai
from amlrealtimeai import accel
from amlrealtimeai.client.address import resolve
from amlrealtimeai.errors import InvalidInputError
from tests.client.endpoints import echo, predicting


@pytest.mark.parametrize(
    ("address", "port", "use_ssl", "target"),
    [
        ("host", None, False, "host:80"),
        ("host", None, True, "host:443"),
        ("host", "50051", False, "host:50051"),
        ("host", " 50051 ", False, "host:50051"),
        ("host", np.int64(50051), False, "host:50051"),
        ("host", np.uint16(50051), False, "host:50051"),
        ("127.0.0.1:37971", None, False, "127.0.0.1:37971"),
        ("127.0.0.1:37971", 80, False, "127.0.0.1:37971"),
        ("127.0.0.1:37971", "80", False, "127.0.0.1:37971"),
        ("127.0.0.1:37971", 443, True, "127.0.0.1:37971"),
        ("127.0.0.1:37971", 37971, False, "127.0.0.1:37971"),
        ("http://127.0.0.1:37971/", 80, False, "127.0.0.1:37971"),
        ("HTTP://host/api/v1/service/x/score", None, False, "host:80"),
        ("https://host/score?x=1#y", None, True, "host:443"),
        ("https://host:5/", 443, True, "host:5"),
        ("  host:5\n", None, False, "host:5"),
        ("host:", 7, False, "host:7"),
        ("::1", 5, False, "[::1]:5"),
        ("[::1]", 5, False, "[::1]:5"),
        ("[::1]:5", None, False, "[::1]:5"),
        ("[::1]:5", 80, False, "[::1]:5"),
        ("http://[fe80::1%eth0]:5/", None, False, "[fe80::1%eth0]:5"),
        ("2001:db8::1", None, True, "[2001:db8::1]:443"),
    ],
)
def test_an_address_as_people_write_it(address: str, port: object, use_ssl: bool, target: str) -> None:
    client = accel.PredictionClient(address, port, use_ssl)
    assert (client.target, client.use_ssl) == (target, use_ssl)
    assert client.port == int(target.rpartition(":")[2]) and client.address == target.rpartition(":")[0].strip("[]")


def test_https_in_front_means_tls() -> None:
    assert accel.PredictionClient("https://host").use_ssl
    with pytest.raises(InvalidInputError, match=r"'http://host' says http, but use_ssl=True"):
        accel.PredictionClient("http://host", use_ssl=True)


def test_two_ports_that_contradict_are_both_named() -> None:
    for client in (accel.PredictionClient, amlrealtimeai.PredictionClient):
        with pytest.raises(ValueError, match=r"'127\.0\.0\.1:5' has port 5, but port=50051 is given"):
            client("127.0.0.1:5", 50051)


def test_the_first_edition_takes_the_port_from_the_address() -> None:
    assert amlrealtimeai.PredictionClient("127.0.0.1:5", None).target == "127.0.0.1:5"
    with pytest.raises(ValueError, match="port is required"):
        amlrealtimeai.PredictionClient("https://host", None)


@pytest.mark.parametrize(
    "address",
    ["ftp://host", "a b", "user@host", "[::1", "[host]:5", "1:2:3", ":5", "http://", "h:p", "h:70000", "[::1]5"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInputError, match="expected a"):
        accel.PredictionClient(address)


@pytest.mark.parametrize("port", [0, -1, 65536, True, 80.0, "80.0", "", "0x50", "٨٠", b"80", [80], np.float32(80)])
def test_what_is_no_port_is_refused(port: object) -> None:
    with pytest.raises(InvalidInputError, match="expected a port from 1 to 65535"):
        accel.PredictionClient("host", port)


@pytest.mark.parametrize("address", [7, b"host", ["host"]])
def test_an_address_is_a_text(address: object) -> None:
    with pytest.raises(InvalidInputError, match="expected the address as a text"):
        accel.PredictionClient(address)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("notlocalhost", False),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_what_is_this_computer(host: str, here: bool) -> None:
    assert resolve(host, 5, False, True).is_loopback is here


def test_the_articles_lines_reach_the_service() -> None:
    """They cut the scheme off the scoring address and pass 80 or 443 beside what is left."""
    with predicting(echo) as port:
        for shape in ("http://127.0.0.1:{}/", "http://127.0.0.1:{}", "http://localhost:{}/"):
            address = shape.format(port)
            address = address[address.find("/") + 2 :].strip("/")
            with accel.PredictionClient(address=address, port=80, use_ssl=False, service_name="x") as client:
                assert client.score_numpy_arrays({"images": np.ones((1, 2), np.float32)}).tolist() == [[1, 1]]
