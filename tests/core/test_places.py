"""Folders and files that people name: where nothing can be written or read, words say so."""

import os
import subprocess
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from amlrealtimeai.core import AksCompute, Model, Workspace
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.errors import AmlRealtimeAiError, ConfigError, InvalidInputError, StoreError
from amlrealtimeai.pipeline import ServiceDefinition, TensorflowStage
from amlrealtimeai.serving.ports.tls import Tls


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("y" * 300, "AMLREALTIMEAI_HOME: expected a path"),
        ("/".join(["y" * 200] * 30), "AMLREALTIMEAI_HOME: expected a path"),
        ("loop", "AMLREALTIMEAI_HOME: expected a folder for workspaces, got .*loop"),
        ("/".join(["z" * 100] * 9), "too long for a database: expected at most 500 bytes"),
        ("file", "is a file; expected a folder"),
        ("~nobody-has-this-name", "AMLREALTIMEAI_HOME: expected a path"),
    ],
)
def test_a_home_that_cannot_be_one(folder: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMLREALTIMEAI_HOME", folder if folder[0] == "~" else str(tmp_path / folder))
    with pytest.raises(AmlRealtimeAiError, match=said):
        Workspace.default()


@pytest.mark.parametrize("name", ["a b", "hömé 日本", "100%41 #?&;", 'it\'s "q"', "line\nbreak", "[a]*", "-rf", "a\\b"])
def test_a_home_of_any_name(name: str, tmp_path: Path, converted_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / name))
    Model.register(Workspace.default(), converted_file, "means")
    assert [model.name for model in Model.list(Workspace.get("local"))] == ["means"]
    assert list(Workspace.list()) == ["local"]


def test_a_place_that_cannot_be_written_is_named(workspace: Workspace, model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    definition = ServiceDefinition()
    definition.pipeline.append(TensorflowStage(SimpleNamespace(graph=None, run=None), None, None))
    for call in (
        lambda: model.download(tmp_path / "file" / "x"),
        lambda: workspace.write_config(tmp_path / "file" / "x"),
        lambda: development_certificate().save(tmp_path / "file" / "x"),
        lambda: definition.save(tmp_path / "file" / "x" / "definition.zip"),
    ):
        with pytest.raises(InvalidInputError, match=r"file/x.* cannot be written: Not a directory\. Choose a place"):
            call()
    workspace.write_config(tmp_path, "x" * 250)
    assert Workspace.from_config(tmp_path, _file_name="x" * 250) == workspace


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(model: Model, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    for call in (lambda: model.download(tmp_path / "theirs"), lambda: model.download(tmp_path / "theirs" / "x")):
        with pytest.raises((InvalidInputError, StoreError), match="cannot be written: Permission denied"):
            call()


def test_what_is_wrong_with_a_certificate_or_key(tmp_path: Path) -> None:
    made, other = development_certificate(["localhost"]), development_certificate(["localhost"])
    encrypted = subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:secret"],
        input=made.key.encode(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    for certificate, key, said in (
        (made.key, made.certificate, "the certificate has no -----BEGIN CERTIFICATE-----, but PRIVATE KEY"),
        (made.certificate, made.certificate, "the key has no -----BEGIN PRIVATE KEY-----, but CERTIFICATE"),
        ("", made.key, "the certificate has no -----BEGIN CERTIFICATE-----"),
        (made.certificate, encrypted, "the key has a password; openssl pkey"),
        (made.certificate, other.key, "the key is not that of the chain's first certificate"),
        (made.ca + made.certificate, made.key, "the key is not that of the chain's first certificate"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            Tls(certificate.encode(), key.encode())
        assert made.key.splitlines()[1] not in str(caught.value)
    for ca in (b"", b"\x30\x82\xff", b"nothing"):
        with pytest.raises(ConfigError, match="client CA: expected PEM certificates"):
            Tls(made.certificate.encode(), made.key.encode(), ca)


def test_certificates_as_other_systems_write_them(tmp_path: Path) -> None:
    made = development_certificate(["localhost"])

    def configured(certificate: Any, key: Any) -> Any:
        for name, data in (("c.pem", certificate), ("k.pem", key)):
            (tmp_path / name).write_bytes(data)
        return AksCompute.provisioning_configuration(
            ssl_cname="localhost", ssl_cert_pem_file=tmp_path / "c.pem", ssl_key_pem_file=str(tmp_path / "k.pem")
        )

    lines, key = made.certificate.replace("\n", "\r\n"), made.key.encode()
    for written in (lines.encode(), lines.encode("utf-8-sig"), b"Bag Attributes\n" + lines.encode()):
        assert configured(written, key).ssl_cname == "localhost"
    for written in (lines.encode("utf-16"), b"\x30\x82\x01\xe0\xff\xfe"):
        with pytest.raises(InvalidInputError, match=r"c\.pem is no PEM text, .*openssl x509 -inform DER"):
            configured(written, key)
    with pytest.raises(InvalidInputError, match="ssl_cert_pem_file: expected a path, got 5"):
        AksCompute.provisioning_configuration(ssl_cname="a.b", ssl_cert_pem_file=5, ssl_key_pem_file="k.pem")  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["2024-01-01", datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
def test_a_certificate_s_time_is_checked(start: Any) -> None:
    with pytest.raises(InvalidInputError, match="start: expected a time from 1950 on with its zone"):
        development_certificate(start=start)
    assert development_certificate(days=np.int64(3)).certificate  # type: ignore[arg-type]


def test_a_name_that_the_certificate_does_not_have_is_told(tmp_path: Path) -> None:
    made = development_certificate(["localhost", "*.example.org", "127.0.0.1"])
    tls = {"ssl_cert_pem_file": made.certificate, "ssl_key_pem_file": made.key}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("localhost", "LOCALHOST", "a.example.org", "127.0.0.1"):
            AksCompute.provisioning_configuration(ssl_cname=name, **tls)
    for name in ("www.contoso.com", "example.org", "b.a.example.org"):
        with pytest.warns(UserWarning, match=rf"valid for localhost, .*, but not for ssl_cname='{name}'") as told:
            AksCompute.provisioning_configuration(ssl_cname=name, **tls)
        assert told[0].filename == __file__


def test_a_link_keeps_its_name_and_a_device_is_none(workspace: Workspace, tmp_path: Path, converted_file: Path) -> None:
    (tmp_path / "versions" / "v3").mkdir(parents=True)
    (tmp_path / "versions" / "v3" / "x").write_text("x")
    (tmp_path / "current").symlink_to(tmp_path / "versions" / "v3")
    (tmp_path / "latest.accelonnx").symlink_to(converted_file)
    for name in ("current", "latest.accelonnx"):
        model = Model.register(workspace, tmp_path / name, "linked")
        assert (model.filename, Path(model.download(tmp_path / "out")).name) == (name, name)
    os.chdir(tmp_path / "versions" / "v3")
    for path, name in ((".", "v3"), ("..", "versions"), ("../v3/", "v3")):
        assert Model.register(workspace, path, "named").filename == name
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(InvalidInputError, match="is neither a file nor a folder"):
            Model.register(workspace, path, "device")
