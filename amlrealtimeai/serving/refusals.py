"""What a client tells its user when a call failed: the service's answer, or what is wrong with the connection."""

import socket
import ssl
from typing import Any

import grpc

from amlrealtimeai.errors import DeploymentError, InvalidInputError, NotFoundError

_PROBE_SECONDS = 2.0


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
_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "nothing answered at {target}; is the service running, and is this its port?",
    grpc.StatusCode.DEADLINE_EXCEEDED: "{target} did not answer in time; give a longer timeout",
    grpc.StatusCode.UNIMPLEMENTED: "{target} is a gRPC server without TensorFlow Serving's API; check the port",
}


def refusal(error: Any, target: str) -> ServiceError:
    """Our exception for a grpc.RpcError."""
    code, details = error.code(), error.details() or ""
    hint = _HINTS.get(code)
    message = f"{hint.format(target=target)} ({code.name}: {details})" if hint else f"{details} ({code.name})"
    return _KINDS.get(code, ServiceError)(code, details, message)


def tls_sentence(details: str, host: str, port: int, use_ssl: bool) -> str | None:
    """What is wrong with TLS between the two ends, or None if that is not it. `details`: text of an UNAVAILABLE."""
    if not use_ssl:
        if "Connection refused" in details or not _speaks_tls(host, port):
            return None
        return "the service wants TLS and this client does not use it; pass use_ssl=True"
    if "Hostname Verification Check failed" in details:
        return (
            f"the service's certificate is for another name than {host!r}; connect by the name that is in the "
            "certificate, or have one made for this name"
        )
    if "certificate has expired" in details:
        return "the service's certificate has expired; it has to be replaced by a new one, on the server"
    if "certificate is not yet valid" in details:
        return "the service's certificate is not valid yet; is the clock of this computer right?"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return (
            "the service's certificate is not trusted; for a self-signed one pass root_certificates=<its PEM file>, or "
            "set GRPC_DEFAULT_SSL_ROOTS_FILE_PATH before Python starts"
        )
    if "WRONG_VERSION_NUMBER" in details:
        return "the service does not speak TLS; pass use_ssl=False"
    if "handshake failed" in details:
        return f"the TLS handshake failed: {details.rpartition('SSL_ERROR_SSL: ')[2]}"
    return None


def _speaks_tls(host: str, port: int) -> bool:
    """Whether a TLS handshake gets anywhere; nothing is sent over it, so no certificate needs to be checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), _PROBE_SECONDS) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False
