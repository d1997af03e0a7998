"""`python -m amlrealtimeai score`: what a person sees of an answer."""

import json
import socket
import zipfile
from pathlib import Path

import pytest

from amlrealtimeai.__main__ import main
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.models import image_model

PICTURE = Path(__file__).parents[2] / "data" / "images" / "red_fox.jpg"


def model_of_two_outputs(folder: Path) -> ConvertedModel:
    with zipfile.ZipFile(image_model(folder / "one.accelonnx")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    definition = json.loads(members["service_def.json"])
    outputs = definition["signature"]["outputs"]
    outputs["again"] = outputs["output_alias"]
    with zipfile.ZipFile(folder / "two.accelonnx", "w") as archive:
        for name, data in {**members, "service_def.json": json.dumps(definition)}.items():
            archive.writestr(name, data)
    return ConvertedModel.load(folder / "two.accelonnx")


def test_every_output_of_a_service_is_printed(tmp_path: Path, capsys) -> None:
    with Server() as server:
        server.add_model("means", model_of_two_outputs(tmp_path))
        command = ["score", str(PICTURE), "--address", f"127.0.0.1:{server.port}", "--service", "means"]
        assert main(command) == 0
        *answers, times = capsys.readouterr().out.splitlines()
        assert len(answers) == 2 and answers[0] == answers[1] and answers[0].startswith("[")
        assert " ms (" in times
        assert main([*command, "--output", "again"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == answers[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ConvertedModel:
    return ConvertedModel.load(image_model(tmp_path_factory.mktemp("model") / "means.accelonnx"))


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AMLREALTIMEAI_KEY", raising=False)

    def ask(address: str, *options: str) -> str:
        assert main(["score", str(PICTURE), "--address", address, *options]) in (1, 2)
        text = capsys.readouterr().err
        assert not any(word in text for word in ("use_ssl", "root_certificates", "access_token", "service_name"))
        return text

    return ask


def test_advice_is_in_options_of_the_command(model: ConvertedModel, tmp_path: Path, error_of, capsys) -> None:
    with Server() as plain:
        plain.add_model("means", model)
        for address, *options in ((plain.address, "--tls"), (f"https://{plain.address}",)):
            assert "does not speak TLS; leave out --tls, --root-certificate and https://" in error_of(address, *options)
        assert "--key: expected one line of ASCII characters" in error_of(plain.address, "--key", "schlüssel")
        assert "--service: expected one line of ASCII characters" in error_of(plain.address, "--service", "bär")
        plain.add_model("other", model)
        assert "this server has 2 models: say which one, with --service" in error_of(plain.address)
    authority, pem = Authority(), tmp_path / "ca.pem"
    pem.write_bytes(authority.pem)
    with Server(tls=authority.issue("localhost"), keys=["right"]) as secure:
        secure.add_model("means", model)
        address = f"localhost:{secure.port}"
        assert "wants TLS and this client does not use it; give --tls (UNAVAILABLE)" in error_of(address)
        assert "for a self-signed one give --root-certificate <its PEM file>, or set" in error_of(address, "--tls")
        trusted = ("--root-certificate", str(pem))
        needs = "authorization: Bearer <key>' (--key, or better the environment variable AMLREALTIMEAI_KEY)"
        assert needs in error_of(address, *trusted)
        assert "the key is not one of this service's keys" in error_of(address, *trusted, "--key", "wrong")
        command = ["score", str(PICTURE), *trusted, "--key", "right", "--address"]
        for same in (address, f"https://{address}"):
            assert main([*command, same]) == 0
    capsys.readouterr()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = error_of(f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5")
    assert "in time" in text
