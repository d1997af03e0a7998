"""TLS and keys on real sockets."""

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import ConfigError, NotFoundError
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.request.auth import check_key
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.conftest import predict, refused, request_of
from tests.serving.ports.test_server import ROUTE, outputs_of, status


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def secure(server: Server, authority: Authority) -> grpc.Channel:
    return grpc.secure_channel(f"localhost:{server.port}", grpc.ssl_channel_credentials(authority.pem))


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", key)]


@pytest.mark.parametrize("sent", ["Bearer first", "bearer first", "first", "Bearer second", "second", " second "])
def test_both_keys_open_raw_or_bearer(
    authority: Authority, models: dict[str, ConvertedModel], pair: object, sent: str
) -> None:
    with Server(tls=authority.issue(), keys=["first", "second"]) as server, secure(server, authority) as channel:
        server.add_model("heads", models["heads"])
        assert len(predict(channel, request_of(x=pair), metadata=bearer(sent)).outputs) == 12


@pytest.mark.parametrize(
    "sent", ["Bearer third", "Bearer ", "", "firs", "firstt", "Basic first", "Bearer first second"]
)
def test_other_keys_do_not(authority: Authority, models: dict[str, ConvertedModel], pair: object, sent: str) -> None:
    with Server(tls=authority.issue(), keys=["first", "second"]) as server, secure(server, authority) as channel:
        server.add_model("heads", models["heads"])
        code, text = refused(lambda: predict(channel, request_of(x=pair), metadata=bearer(sent)))
        assert code == "UNAUTHENTICATED" and "first" not in text and "second" not in text
        assert refused(lambda: predict(channel, request_of(x=pair)))[0] == "UNAUTHENTICATED"
        assert refused(lambda: predict(channel, b"\xff"))[0] == "UNAUTHENTICATED", "asked before anything is parsed"
        assert refused(lambda: status(channel, "heads"))[0] == "UNAUTHENTICATED"


def test_each_model_has_its_own_keys(authority: Authority, models: dict[str, ConvertedModel], pair: object) -> None:
    with Server(tls=authority.issue()) as server, secure(server, authority) as channel:
        server.add_model("heads", models["heads"], keys=["for heads"])
        server.add_model("arithmetic", models["arithmetic"], keys=["for arithmetic"])
        server.add_model("open", models["heads"])
        route = [(ROUTE, "/api/v1/service/heads")]
        assert predict(channel, request_of(x=pair), metadata=[*route, *bearer("for heads")]).model_spec.name == "heads"
        code, _ = refused(lambda: predict(channel, request_of(x=pair), metadata=[*route, *bearer("for arithmetic")]))
        assert code == "UNAUTHENTICATED"
        response = predict(channel, request_of("arithmetic", a=pair, b=pair), metadata=bearer("for arithmetic"))
        assert outputs_of(response)["sum:0"] == [[2, 4]]
        assert len(predict(channel, request_of("open", x=pair)).outputs) == 12


def test_rotation_loses_nothing(authority: Authority, models: dict[str, ConvertedModel], pair: object) -> None:
    with Server(tls=authority.issue()) as server, secure(server, authority) as channel:
        server.add_model("heads", models["heads"], keys=["old primary", "secondary"])
        server.add_model("heads", models["heads"], keys=["new primary", "secondary"])
        for key in ("secondary", "new primary"):
            predict(channel, request_of(x=pair), metadata=bearer(key))
        code, text = refused(lambda: predict(channel, request_of(x=pair), metadata=bearer("old primary")))
        assert code == "UNAUTHENTICATED" and "regenerated" in text


def test_keys_have_to_be_keys(authority: Authority) -> None:
    for wrong in ("abc", False, 0, {"primary": "abc"}):
        with pytest.raises(ConfigError, match="expected a list of keys, got"):
            Server(tls=authority.issue(), keys=wrong)
    for bad in (["a", ""], [" "], [None]):
        with pytest.raises(ConfigError, match="non-empty strings"):
            Server(tls=authority.issue(), keys=bad)


def test_no_keys_mean_open() -> None:
    check_key((), [])


def test_plain_text_and_old_tls_are_refused(authority: Authority) -> None:
    with Server(tls=authority.issue()) as server:
        with grpc.insecure_channel(server.address) as channel:
            assert refused(lambda: status(channel, "x"))[0] == "UNAVAILABLE"
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with socket.create_connection(("localhost", server.port), 5) as plain, pytest.raises(OSError):
            context.wrap_socket(plain, server_hostname="localhost")


def test_a_certificate_is_replaced_while_serving(authority: Authority, models: dict, pair: object) -> None:
    other = Authority()
    with Server(tls=authority.issue()) as server:
        server.add_model("heads", models["heads"])
        with secure(server, authority) as before:
            predict(before, request_of(x=pair))
            server.replace_tls(other.issue())
            predict(before, request_of(x=pair))  # the open connection stays
            with secure(server, other) as after:
                predict(after, request_of(x=pair))
            with secure(server, authority) as untrusting:
                code, text = refused(lambda: predict(untrusting, request_of(x=pair)))
            assert code == "UNAVAILABLE" and "CERTIFICATE_VERIFY_FAILED" in text


def test_certificate_and_key_have_to_fit(authority: Authority, tmp_path: Path) -> None:
    one, two = authority.issue(), authority.issue()
    with pytest.raises(ConfigError, match="cannot be used"):
        Tls(one.certificate, two.key)
    with pytest.raises(ConfigError, match="cannot be used"):
        Tls(b"no PEM", one.key)
    with pytest.raises(ConfigError, match="cannot be used"):
        Tls(one.certificate, b"")
    with pytest.raises(NotFoundError, match="no TLS file"):
        Tls.from_files(tmp_path / "no.pem", tmp_path / "no.key")
    assert one.key.decode() not in repr(one)


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o600, True), (0o400, True), (0o640, True), (0o604, False), (0o666, False)]
)
def test_a_key_file_that_everybody_can_read_is_refused(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, accepted: bool
) -> None:
    tls = authority.issue()
    (tmp_path / "cert.pem").write_bytes(tls.certificate)
    (tmp_path / "key.pem").write_bytes(tls.key)
    (tmp_path / "key.pem").chmod(mode)
    if accepted:
        assert Tls.from_files(tmp_path / "cert.pem", tmp_path / "key.pem") == tls
    else:
        with pytest.raises(ConfigError, match="can be read or changed by everybody on this computer; chmod 600 it"):
            Tls.from_files(tmp_path / "cert.pem", tmp_path / "key.pem")
    assert ("can be read by a group" in caplog.text) is (mode == 0o640)


def test_only_clients_with_a_certificate_of_the_ca_may_connect(models: dict[str, ConvertedModel], pair: object) -> None:
    authority, other = Authority(), Authority()
    issued = authority.issue()
    mutual = Tls(issued.certificate, issued.key, client_ca=authority.pem)
    mine, foreign = authority.issue("client"), other.issue("client")
    with Server(tls=mutual, rest_port=0) as server:
        server.add_model("heads", models["heads"])

        def channel(own: Tls | None) -> grpc.Channel:
            parts = (own.key, own.certificate) if own else (None, None)
            return grpc.secure_channel(f"localhost:{server.port}", grpc.ssl_channel_credentials(authority.pem, *parts))

        with channel(mine) as trusted:
            assert len(predict(trusted, request_of(x=pair)).outputs) == 12
        for own in (None, foreign):
            with channel(own) as stranger:
                assert refused(lambda stranger=stranger: predict(stranger, request_of(x=pair)))[0] == "UNAVAILABLE"
        context = ssl.create_default_context(cadata=authority.pem.decode())
        with (
            socket.create_connection(("localhost", server.rest_port), 5) as plain,
            pytest.raises(OSError),
            context.wrap_socket(plain, server_hostname="localhost") as secure_socket,
        ):
            secure_socket.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert secure_socket.recv(10) != b"", "never answered"
            raise AssertionError
        with pytest.raises(ConfigError, match="cannot be switched on or off"):
            server.replace_tls(issued)


def test_a_replaced_ca_for_clients_holds_on_both_ports(models: dict[str, ConvertedModel], pair: object) -> None:
    authority, before, after = Authority(), Authority(), Authority()
    issued = authority.issue()
    old, new = before.issue("client"), after.issue("client")
    trust = ssl.create_default_context(cadata=authority.pem.decode())

    def by_grpc(server: Server, own: Tls) -> str:
        credentials = grpc.ssl_channel_credentials(authority.pem, own.key, own.certificate)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{server.port}", credentials, options) as channel:
            try:
                predict(channel, request_of(x=pair))
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

    def by_rest(server: Server, own: Tls) -> str:
        own.load_into(trust)
        try:
            with (
                socket.create_connection(("localhost", server.rest_port), 5) as plain,
                trust.wrap_socket(plain, server_hostname="localhost") as secure_socket,
            ):
                secure_socket.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                return "OK" if secure_socket.recv(12) == b"HTTP/1.1 200" else "UNAVAILABLE"
        except OSError:
            return "UNAVAILABLE"

    with Server(tls=Tls(issued.certificate, issued.key, before.pem), rest_port=0) as server:
        server.add_model("heads", models["heads"])
        for ask in (by_grpc, by_rest):
            assert [ask(server, own) for own in (old, new)] == ["OK", "UNAVAILABLE"]
        server.replace_tls(Tls(issued.certificate, issued.key, after.pem))
        for ask in (by_grpc, by_rest):
            assert [ask(server, own) for own in (old, new)] == ["UNAVAILABLE", "OK"]


def test_a_private_key_never_has_a_name_on_disk(authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue()
    (tmp_path / "cert.pem").write_bytes(tls.certificate)
    (tmp_path / "key.pem").write_bytes(tls.key)
    (tmp_path / "key.pem").chmod(0o600)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = f"""
import os, ssl, sys
from amlrealtimeai.serving.ports.tls import Tls

opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
Tls.from_files({str(tmp_path / "cert.pem")!r}, {str(tmp_path / "key.pem")!r}).context()
print([path for path in opened if {str(temporary)!r} in path], os.listdir({str(temporary)!r}))
"""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"
