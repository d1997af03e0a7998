"""Every language's `score` gives the Python client's answer, and its own language's error for each refusal."""

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.accel import PredictionClient
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.sample_clients.conftest import Command
from tests.serving.certificates import Authority

KEY = ("--key", "primary")


def test_the_answer_is_the_python_clients(score: Command, plain: Server, image: Path) -> None:
    expected = PredictionClient("localhost", plain.port).score_file(image)
    answer = score.outputs(f"localhost:{plain.port}", image)["output_alias"]
    assert answer["shape"] == [1, 3]
    np.testing.assert_allclose(answer["values"], expected, rtol=1e-6)


def test_the_same_with_tls_and_key(score: Command, secure: Server, root: Path, image: Path) -> None:
    with PredictionClient("localhost", secure.port, True, "primary", root_certificates=root) as client:
        expected = client.score_file(image)
    address = f"localhost:{secure.port}"
    for options in (KEY, ("--key", "secondary", "--service", "means")):
        answer = score.outputs("--tls", "--root", root, *options, address, image)["output_alias"]
        np.testing.assert_allclose(answer["values"], expected, rtol=1e-6)
    from_environment = {"AMLREALTIMEAI_KEY": "primary"}
    assert "output_alias" in score.outputs("--tls", "--root", root, address, image, environment=from_environment)


def test_the_most_likely_classes_are_printed(score: Command, plain: Server, image: Path) -> None:
    done = score.run("--top", "2", f"localhost:{plain.port}", image)
    first, *classes = done.stdout.strip().split("\n")
    values = PredictionClient("localhost", plain.port).score_file(image)
    assert first.startswith("output_alias")
    assert [line.split()[1:] for line in classes] == [["class", str(i)] for i in np.argsort(-values)[:2]]


@pytest.mark.parametrize("key", [("--key", "wrong"), ()])
def test_a_wrong_key(score: Command, secure: Server, root: Path, image: Path, key: tuple[str, ...]) -> None:
    code, sentence = score.refusal("--tls", "--root", root, *key, f"localhost:{secure.port}", image)
    assert code == "UNAUTHENTICATED" and "key" in sentence


def test_a_wrong_host(score: Command, means: ConvertedModel, authority: Authority, root: Path, image: Path) -> None:
    with Server(tls=authority.issue("elsewhere.example")) as server:
        code, sentence = score.refusal("--tls", "--root", root, "--timeout", 3, f"localhost:{server.port}", image)
    assert code == "UNAVAILABLE" and "certificate" in sentence.lower()


def test_an_unknown_authority(score: Command, secure: Server, tmp_path: Path, image: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority().pem)
    for trusted in (("--root", other), ()):
        code, _ = score.refusal("--tls", *trusted, *KEY, "--timeout", 3, f"localhost:{secure.port}", image)
        assert code == "UNAVAILABLE"


def test_tls_to_a_plain_server_and_plain_to_tls(
    score: Command, plain: Server, secure: Server, root: Path, image: Path
) -> None:
    assert score.refusal("--tls", "--root", root, "--timeout", 3, f"localhost:{plain.port}", image)[0] == "UNAVAILABLE"
    # a TLS server waits for the rest of what it takes for a handshake; .NET waits with it
    code, _ = score.refusal("--timeout", 3, f"localhost:{secure.port}", image)
    assert code == "UNAVAILABLE" or (code == "DEADLINEEXCEEDED" and "csharp" in score.words[0])


def test_nobody_is_there(score: Command, image: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert score.refusal("--timeout", 5, f"127.0.0.1:{port}", image)[0] == "UNAVAILABLE"


def test_an_expired_deadline(score: Command, plain: Server, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (8000, 8000)).save(large)  # some seconds of decoding
    assert score.refusal("--timeout", 0.2, f"localhost:{plain.port}", large)[0] == "DEADLINEEXCEEDED"


def test_too_large_a_message(score: Command, plain: Server, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(65 << 20)
    code, sentence = score.refusal(f"localhost:{plain.port}", large)
    assert code == "RESOURCEEXHAUSTED" and str(64 << 20) in sentence


def test_not_an_image(score: Command, plain: Server, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert score.refusal(f"localhost:{plain.port}", text)[0] == "INVALIDARGUMENT"


def test_a_missing_picture_and_wrong_words(score: Command, plain: Server) -> None:
    done = score.run(f"localhost:{plain.port}", "/nonexistent.jpg")
    assert done.returncode == 1 and "nonexistent.jpg" in done.stderr
    done = score.run("one")
    assert done.returncode == 2 and "Usage: score" in done.stderr
    assert score.run("--help").returncode in (0, 2)
