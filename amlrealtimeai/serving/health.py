"""Whether a server answers, asked from outside and without a key; as a command, the health check of our images.

    python -m amlrealtimeai.serving.health

asks the server that wrote its ports to the file that $AMLREALTIMEAI_PORTS names (in an image /dev/shm/..., which stays
writable when the root is not), and ends with status 0 or 1. The quickest way that the server offers is taken:
/readyz of its admin port, else gRPC's health service, else, where TLS hides that, a handshake.
"""

import contextlib
import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

PORTS = "AMLREALTIMEAI_PORTS"
_SECONDS = 4.0  # an engine's patience is 5
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_SERVING = b"\x08\x01"  # HealthCheckResponse of grpc.health.v1, status SERVING


def main() -> int:
    """Print one line about the server; returns 0 if it may get requests, else 1."""
    if not (path := os.environ.get(PORTS)):
        print(
            f"unhealthy: ${PORTS} is not set, so it is not known which server to ask; "
            f"start the server and this check with {PORTS}=/path/of/a/file, into which the server writes its ports"
        )
        return 1
    try:
        ports = json.loads(Path(path).read_bytes())
        fine, asked = _ask(ports)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"its content is not what a server writes ({error!r})"
        print(f"unhealthy: no server has written its ports to ${PORTS} ({path!r}): {why}")
        return 1
    print(f"{'healthy' if fine else 'unhealthy'}: {asked}")
    return 0 if fine else 1


def write_ports(ports: dict[str, Any]) -> None:
    """Leave the ports where the check looks for them, if there is a place for that; serving does not depend on it."""
    if not (name := os.environ.get(PORTS)):
        return
    path = Path(name)
    if path.exists() and not path.is_file():  # /dev/null, say, is not to be replaced
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(ports))
        temporary.replace(path)


def answers(host: str, port: int, secure: bool, seconds: float = 2.0) -> bool:
    """Whether the server says that it is serving (with TLS: whether it shakes hands) within so many seconds."""
    return _shakes_hands(host, port, seconds) if secure else _is_serving(host, port, seconds)


def _ask(ports: dict[str, Any]) -> tuple[bool, str]:
    """Whether it answers, and what was asked."""
    if ports.get("admin_port"):
        host, port = _near(ports["admin_host"]), int(ports["admin_port"])
        return _is_ready(host, port), f"/readyz on port {port}"
    host, port, secure = _near(ports["host"]), int(ports["port"]), bool(ports["secure"])
    return answers(host, port, secure, _SECONDS), f"{'TLS handshake' if secure else 'gRPC health'} on port {port}"


def _near(host: str) -> str:
    return _ANYWHERE.get(host, host)


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _is_serving(host: str, port: int, seconds: float) -> bool:
    import grpc  # here: it takes longer to load than all the rest

    from amlrealtimeai.serving.ports.address import address_of

    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address_of(host, port), options) as channel, contextlib.suppress(grpc.RpcError):
        return bool(channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=seconds) == _SERVING)
    return False


def _shakes_hands(host: str, port: int, seconds: float) -> bool:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # life is asked for, not identity
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), timeout=seconds) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
