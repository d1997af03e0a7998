"""TLS certificate and key of a server, from PEM text or files."""

import logging
import os
import re
import ssl
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from amlrealtimeai.errors import ConfigError, MissingFileError

log = logging.getLogger("amlrealtimeai.serving")


@dataclass(frozen=True)
class Tls:
    """A PEM certificate chain and its private key; `client_ca`: only clients with a certificate of this CA may connect.

    Raises ConfigError when they are not PEM or do not belong together.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None

    def __post_init__(self) -> None:
        try:
            self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except (ssl.SSLError, ValueError) as error:
            reason = _fault(self.certificate, self.key, str(getattr(error, "reason", None) or error))
            raise ConfigError(
                f"the TLS certificate and key cannot be used ({reason}); expected a PEM certificate chain and its own "
                "private key, without a password"
            ) from None
        if self.client_ca is not None:
            try:
                self.context()
            except (ssl.SSLError, ValueError) as error:  # UnicodeDecodeError is a ValueError
                raise ConfigError(f"client CA: expected PEM certificates, got others ({error})") from None

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let the context use this certificate from the next handshake on; raises ssl.SSLError or ValueError."""
        with _nameless(self.certificate) as certificate, _nameless(self.key) as key:
            context.load_cert_chain(certificate, key, password=_no_password)

    def context(self) -> ssl.SSLContext:
        """For servers other than gRPC: TLS 1.2 at least, and client certificates if they are asked for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self.load_into(context)
        if self.client_ca is not None:
            context.load_verify_locations(cadata=self.client_ca.decode())
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @classmethod
    def from_files(cls, certificate: str | Path, key: str | Path, client_ca: str | Path | None = None) -> "Tls":
        """Read PEM files; raises NotFoundError or ConfigError."""
        for path in (certificate, key, client_ca):
            if path is not None and not Path(path).is_file():
                raise MissingFileError(
                    f"no TLS file {path}; give the paths of a PEM certificate chain and its private key"
                )
        check_private(key, "the private key")
        ca = Path(client_ca).read_bytes() if client_ca is not None else None
        return cls(Path(certificate).read_bytes(), Path(key).read_bytes(), ca)


def check_private(path: str | Path, what: str) -> None:
    """ConfigError for a secret file that everybody can read or change; a group that can is only warned about.

    Containers share secrets with a group (Kubernetes: defaultMode 0440 and fsGroup).
    """
    if os.name != "posix":
        return
    mode = Path(path).stat().st_mode
    if mode & stat.S_IRWXO:
        raise ConfigError(f"{what} {path} can be read or changed by everybody on this computer; chmod 600 it")
    if mode & stat.S_IRWXG:
        log.warning("%s %s can be read by a group; chmod 600 it, if that is not meant", what, path)


class Credentials:
    """gRPC server credentials whose certificate can be replaced while the server runs."""

    def __init__(self, tls: Tls) -> None:
        self._initial = self._current = tls
        self.grpc = grpc.dynamic_ssl_server_credentials(
            _configuration(tls), self._fetch, require_client_authentication=tls.client_ca is not None
        )

    def replace(self, tls: Tls) -> None:
        """Use this certificate from the next handshake on."""
        if (tls.client_ca is None) != (self._initial.client_ca is None):
            raise ConfigError("client certificates cannot be switched on or off without a restart")
        self._current = tls

    def _fetch(self) -> grpc.ServerCertificateConfiguration:
        return _configuration(self._current)


def _configuration(tls: Tls) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(tls.key, tls.certificate)], root_certificates=tls.client_ca)


@contextmanager
def _nameless(data: bytes) -> Iterator[str]:
    """A path under which OpenSSL, which reads nothing but files, finds the data, and nobody after a crash.

    On Linux the data stay in memory. On Windows, where no file is without a name, it is a temporary one.
    """
    if not Path("/dev/fd").is_dir():
        with tempfile.TemporaryDirectory(prefix="amlrealtimeai-") as folder:
            path = Path(folder) / "tls.pem"
            path.write_bytes(data)
            yield str(path)
        return
    descriptor = _memory() if hasattr(os, "memfd_create") else _unlinked()
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)  # on macOS the path shares the position
        yield f"/dev/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _memory() -> int:
    return os.memfd_create("tls", os.MFD_CLOEXEC)


def _unlinked() -> int:
    descriptor, name = tempfile.mkstemp(prefix="amlrealtimeai-")
    Path(name).unlink()
    return descriptor


def _fault(certificate: bytes, key: bytes, reason: str) -> str:
    """Which of the two is wrong, in words; `reason`, OpenSSL's, where that cannot be told."""
    for what, data, kind in (("certificate", certificate, "CERTIFICATE"), ("key", key, "PRIVATE KEY")):
        labels = [label.decode() for label in re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", data)]
        if not any(label.endswith(kind) for label in labels):
            return f"the {what} has no -----BEGIN {kind}-----{', but ' if labels else ''}{', '.join(labels)}"
    if b"ENCRYPTED" in key:
        return "the key has a password; openssl pkey -in key.pem -out open-key.pem writes one without"
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the chain's first certificate, which has to be the server's own"
    return reason


def _no_password() -> bytes:
    """Without this, OpenSSL would ask the terminal."""
    return b""
