"""Certificates for development: made on this computer, trusted by nobody else. Needs the `cryptography` package."""

import datetime
import ipaddress
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlrealtimeai.core.arguments import check_count, check_path, writing
from amlrealtimeai.errors import InvalidInputError

_DAYS = 30


@dataclass(frozen=True)
class DevelopmentCertificate:
    """PEM texts: a server's certificate chain and private key, and the CA that a client has to trust.

    The chain ends with the CA, so that `client_from_service` finds what to trust by itself.
    """

    certificate: str
    key: str = field(repr=False)
    ca: str

    def save(self, folder: str | Path) -> tuple[Path, Path, Path]:
        """Write server.pem, server-key.pem (readable by its owner only) and ca.pem; returns the three paths."""
        folder = check_path("folder", folder)
        with writing("folder", folder):
            return self._save(folder)

    def _save(self, folder: Path) -> tuple[Path, Path, Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = (folder / "server.pem", folder / "server-key.pem", folder / "ca.pem")
        for path, text in zip(paths, (self.certificate, self.key, self.ca), strict=True):
            partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            if path != paths[1]:
                partial.chmod(0o644)
            partial.replace(path)
        return paths


def development_certificate(
    names: Sequence[str] | None = None, days: int = _DAYS, start: datetime.datetime | None = None
) -> DevelopmentCertificate:
    """A certificate for this computer, signed by a certificate authority (CA) that is made and forgotten here.

    Warning: for development and lessons only. It proves nothing to anybody who has not been given this very CA, nobody
    can revoke it, and whoever copies the key file can pose as the server. In production use a certificate of your
    organisation's CA or of a public one.

    names: host names and IP addresses that it is valid for; default "localhost", "127.0.0.1", "::1" and this
    computer's name. It is valid for `days` from `start` (with its time zone; default: a minute ago). The CA's private
    key is never stored, so no second certificate can be made from it. Raises InvalidInputError for a name that cannot
    stand in a certificate.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    count = check_count(days)
    if count is None or count > 825:
        raise InvalidInputError(f"days: expected 1 to 825, got {days!r}")
    subjects = _subjects(_default_names() if names is None else names)
    start = start or datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    if not isinstance(start, datetime.datetime) or start.tzinfo is None or not 1950 <= start.year < 9990:
        raise InvalidInputError(
            f"start: expected a time from 1950 on with its zone, such as datetime.now(UTC), got {start!r}"
        )
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name, name = _name("amlrealtimeai development CA"), _name("amlrealtimeai development")

    def build(subject: x509.Name, public: ec.EllipticCurvePublicKey, is_ca: bool) -> x509.CertificateBuilder:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=count))
            .add_extension(x509.BasicConstraints(is_ca, 0 if is_ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(_usage(is_ca), critical=True)
        )

    ca = build(ca_name, ca_key.public_key(), True).sign(ca_key, hashes.SHA256())
    server_only = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    leaf = (
        build(name, key.public_key(), False)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(server_only, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    ca_text = ca.public_bytes(pem).decode()
    return DevelopmentCertificate(leaf.public_bytes(pem).decode() + ca_text, private.decode(), ca_text)


def names_in(pem: str) -> list[str]:
    """Host names and IP addresses that the first certificate of a PEM text is valid for."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


def local_name(pem: str) -> str:
    """By which name this computer's clients reach a server with this certificate."""
    names = names_in(pem)
    return next((name for name in ("localhost", "127.0.0.1", *names) if name in names), "localhost")


def _default_names() -> list[str]:
    host = socket.gethostname()
    return list(
        dict.fromkeys(["localhost", host, "127.0.0.1", "::1"] if _is_name(host) else ["localhost", "127.0.0.1"])
    )


def _is_name(text: str) -> bool:
    parts = text.split(".")
    return 0 < len(text) <= 253 and text.isascii() and all(p and p.replace("-", "").isalnum() for p in parts)


def _subjects(names: Sequence[str]) -> list:
    from cryptography import x509

    if isinstance(names, str) or not names:
        raise InvalidInputError(f"names: expected a list of host names and IP addresses, got {names!r}")
    subjects: list = []
    for name in names:
        try:
            subjects.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if not isinstance(name, str) or not _is_name(name.removeprefix("*.")):
                raise InvalidInputError(f"names: expected a host name or an IP address, got {name!r}") from None
            subjects.append(x509.DNSName(name))
    return subjects


def _name(common: str) -> Any:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _usage(is_ca: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
