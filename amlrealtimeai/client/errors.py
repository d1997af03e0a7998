"""What a client tells its user when a call failed: the service's answer, or what is wrong with the connection."""

import contextlib
import socket
import ssl
import time
from typing import Any

import grpc

from amlrealtimeai.client.address import Address
from amlrealtimeai.client.proxy import Proxy
from amlrealtimeai.errors import DeploymentError, InvalidInputError, NotFoundError

_PROBE_SECONDS = 2.0
_TLS_RECORDS = (b"\x15", b"\x16")  # alert, handshake
_OTHER_NAME_CODES = (62, 64)  # OpenSSL's, for a name and for an IP address
_OTHER_NAME, _UNTRUSTED, _FAILED = "Hostname Verification Check failed", "CERTIFICATE_VERIFY_FAILED", "handshake failed"
_TLS_SENTENCES = (  # gRPC's and OpenSSL's words, and ours
    (
        _OTHER_NAME,
        "the service's certificate is for another name than {host!r}; connect by the name that is in the certificate, "
        "or have one made for this name",
    ),
    (
        "certificate has expired",
        "the service's certificate has expired; it has to be replaced by a new one, on the server",
    ),
    (
        "certificate is not yet valid",
        "the service's certificate is not valid yet; is the clock of this computer right?",
    ),
    (
        _UNTRUSTED,
        "the service's certificate is not trusted; for a self-signed one pass root_certificates=<its PEM file>, or set "
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH before Python starts",
    ),
    ("WRONG_VERSION_NUMBER", "the service does not speak TLS; pass use_ssl=False"),
)


class ServiceError(DeploymentError, grpc.RpcError):
    """A call that failed. It is a grpc.RpcError, too: code() is the gRPC status, details() the service's own text."""

    def __init__(self, code: grpc.StatusCode, details: str, message: str | None = None) -> None:
        super().__init__(message or f"{details} ({code.name})")
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        """The gRPC status code."""
        return self._code

    def details(self) -> str:
        """The text that came with the status."""
        return self._details


class RequestRefusedError(ServiceError, InvalidInputError):
    """The service refused what was sent (INVALID_ARGUMENT, FAILED_PRECONDITION): sending it again cannot help."""


class ServableNotFoundError(ServiceError, NotFoundError):
    """The service has no such model or version (NOT_FOUND)."""


_KINDS: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: RequestRefusedError,
    grpc.StatusCode.FAILED_PRECONDITION: RequestRefusedError,
    grpc.StatusCode.NOT_FOUND: ServableNotFoundError,
}


def trouble_error(target: str, trouble: str) -> ServiceError:
    """The exception for what is wrong with TLS."""
    return ServiceError(grpc.StatusCode.UNAVAILABLE, f"{target}: {trouble}")


def service_error(error: Any, target: str, proxy: Proxy | None, reached: bool) -> ServiceError:
    """Our exception for a grpc.RpcError. reached: whether there is a connection."""
    code, details = error.code(), error.details() or ""
    hint = _hint(code, target, proxy, reached)
    message = f"{hint} ({code.name}: {details})" if hint else f"{details} ({code.name})"
    return _KINDS.get(code, ServiceError)(code, details, message)


def _hint(code: grpc.StatusCode, target: str, proxy: Proxy | None, reached: bool) -> str | None:
    """What to look at, where the status alone does not say it."""
    late = code is grpc.StatusCode.DEADLINE_EXCEEDED
    if late and reached:
        return f"{target} did not answer in time; give a longer timeout"
    if late or code is grpc.StatusCode.UNAVAILABLE:
        where = f"{target}{' in time' if late else ''}"
        if proxy:
            return (
                f"nothing answered at {where} through the proxy {proxy.shown}; if the service is reached without it, "
                f"set no_proxy={target.rpartition(':')[0].strip('[]')}"
            )
        return f"nothing answered at {where}; is the service running, and is this its port?"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"{target} is a gRPC server without TensorFlow Serving's API; check the port"
    return None


def tls_trouble(details: str, address: Address, roots: bytes | None, seconds: float) -> str | None:
    """What is wrong with TLS between the two ends, or None if that is not it.

    details: gRPC's text of an UNAVAILABLE, which may speak of another of the host's addresses: then the other end is
    asked, within `seconds`.
    """
    seconds = min(seconds, _PROBE_SECONDS)
    if not address.use_ssl:
        speaks = seconds > 0 and _speaks_tls(address, seconds)
        return "the service wants TLS and this client does not use it; pass use_ssl=True" if speaks else None
    if seconds > 0 and not any(word in details for word in (_FAILED, *(word for word, _ in _TLS_SENTENCES))):
        details = _handshake_failure(address, roots, seconds)
    for word, sentence in _TLS_SENTENCES:
        if word in details:
            return sentence.format(host=address.host)
    return f"the TLS handshake failed: {details.rpartition('SSL_ERROR_SSL: ')[2]}" if _FAILED in details else None


def _handshake_failure(address: Address, roots: bytes | None, seconds: float) -> str:
    """Why a TLS handshake fails, in gRPC's words; empty where it does not, or where nobody is there."""
    try:
        context = ssl.create_default_context(cadata=roots.decode() if roots else None)
        with _connected(address, seconds) as plain:
            context.wrap_socket(plain, server_hostname=address.host).close()
    except ssl.SSLCertVerificationError as error:
        return _OTHER_NAME if error.verify_code in _OTHER_NAME_CODES else f"{_UNTRUSTED}: {error.verify_message}"
    except ssl.SSLError as error:
        return f"{_FAILED}: {error.reason or error}"
    except (OSError, ValueError):
        pass
    return ""


def _speaks_tls(address: Address, seconds: float) -> bool:
    """Whether the other end answers the first message of a TLS handshake with one of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent but this greeting
    greeting = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), greeting).do_handshake()
    try:
        with _connected(address, seconds) as plain:
            plain.sendall(greeting.read())
            return plain.recv(1) in _TLS_RECORDS
    except OSError:
        return False


def _connected(address: Address, seconds: float) -> socket.socket:
    """A plain connection, whose next answer has to come within what is left of `seconds`."""
    end = time.monotonic() + seconds
    plain = socket.create_connection((address.host, address.port), seconds)
    plain.settimeout(max(0.001, end - time.monotonic()))
    return plain
