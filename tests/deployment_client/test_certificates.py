"""Development certificates: what they say, and that TLS libraries other than ours believe it."""

import datetime
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from amlrealtimeai.core.certificates import development_certificate, names_in
from amlrealtimeai.core.pem import self_signed
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.ports.tls import Tls


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str | None:
    """The TLS version that both agreed on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                server.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), 5) as plain,
                client.wrap_socket(plain, server_hostname=name) as secure,
            ):
                return secure.version()
        finally:
            thread.join()


def contexts(made: object) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    client = ssl.create_default_context(cadata=made.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    return Tls(made.certificate.encode(), made.key.encode()).context(), client


def test_it_is_believed_for_its_names_and_no_others() -> None:
    made = development_certificate(["localhost", "127.0.0.1", "svc.example"])
    for name in ("localhost", "127.0.0.1", "svc.example"):
        assert handshake(*contexts(made), name) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(*contexts(made), "other.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate in certificate chain"):
        handshake(contexts(made)[0], contexts(development_certificate())[1], "localhost")


def test_what_it_says() -> None:
    made = development_certificate(days=7)
    names = names_in(made.certificate)
    assert {"localhost", "127.0.0.1", "::1"} <= set(names) and socket.gethostname() in names
    leaf = x509.load_pem_x509_certificate(made.certificate.encode())
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == datetime.timedelta(days=7)
    assert leaf.not_valid_before_utc < datetime.datetime.now(datetime.UTC)
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert x509.load_pem_x509_certificate(made.ca.encode()).extensions.get_extension_for_class(
        x509.BasicConstraints
    ).value == x509.BasicConstraints(True, 0)
    assert self_signed(made.certificate), "clients find the CA in the chain"
    assert made.key not in repr(made) and "PRIVATE" not in repr(made)


def test_the_key_file_is_its_owners(tmp_path: Path) -> None:
    made = development_certificate()
    certificate, key, ca = made.save(tmp_path / "new" / "folder")
    assert (certificate.name, key.name, ca.name) == ("server.pem", "server-key.pem", "ca.pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(ca.stat().st_mode) == 0o644
    assert Tls.from_files(certificate, key).key.decode() == made.key
    development_certificate().save(tmp_path / "new" / "folder")
    assert key.read_text() != made.key, "it can be written again"


@pytest.mark.parametrize("names", [[], "localhost", ["a b"], [""], ["x" * 300], [None], ["ä.example"], ["-.."]])
def test_names_have_to_be_names(names: object) -> None:
    with pytest.raises(InvalidInputError, match="names: expected"):
        development_certificate(names)


@pytest.mark.parametrize("days", [0, 826, 1.5, "7"])
def test_days_have_to_be_few(days: object) -> None:
    with pytest.raises(InvalidInputError, match="days: expected 1 to 825"):
        development_certificate(days=days)
