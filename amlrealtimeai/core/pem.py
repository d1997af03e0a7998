"""Just enough of X.509 to see whether a certificate is signed by itself."""

import base64
import re

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def self_signed(pem: str) -> bool:
    """Whether any certificate of the chain names itself as its issuer, so that a client can trust the chain by it."""
    try:
        return any(_issuer_is_subject(base64.b64decode(body)) for body in _CERTIFICATE.findall(pem))
    except (ValueError, IndexError):
        return False


def _issuer_is_subject(der: bytes) -> bool:
    """RFC 5280, 4.1: Certificate{TBSCertificate{[0] version?, serial, algorithm, issuer, validity, subject...}...}."""
    certificate = _parts(_parts(der)[0][1])
    fields = [whole for whole, _ in _parts(certificate[0][1])]
    if fields[0][0] == 0xA0:
        fields = fields[1:]
    return fields[2] == fields[4]


def _parts(der: bytes) -> list[tuple[bytes, bytes]]:
    """(whole element, its content) of every DER element in sequence."""
    parts, start = [], 0
    while start < len(der):
        length, head = der[start + 1], 2
        if length & 0x80:
            count = length & 0x7F
            length, head = int.from_bytes(der[start + 2 : start + 2 + count], "big"), 2 + count
        end = start + head + length
        parts.append((der[start:end], der[start + head : end]))
        start = end
    return parts
