"""Whether a server answers, asked from outside, without a key."""

import contextlib
import socket
import ssl

from amlrealtimeai.client.proxy import DIRECT
from amlrealtimeai.serving.ports.address import address_of


def answers(host: str, port: int, secure: bool, seconds: float = 2.0) -> bool:
    """Whether the server says that it is serving (with TLS: whether it shakes hands) within so many seconds."""
    if secure:
        return _shakes_hands(host, port, seconds)
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address_of(host, port), DIRECT) as channel, contextlib.suppress(grpc.RpcError):
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
    return False


def _shakes_hands(host: str, port: int, seconds: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # life is asked for, not identity
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), timeout=seconds) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False
