"""Other ends for clients: a gRPC server whose answers a test decides, and a proxy that counts what passes it."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc

from amlrealtimeai.serving.protocol import protos, tensors

SERVICE = protos.PREDICTION_SERVICE


@contextmanager
def predicting(answer: Callable[[object, grpc.ServicerContext], object], host: str = "127.0.0.1") -> Iterator[int]:
    """A gRPC server on a free port; `answer` is Predict."""
    handler = grpc.unary_unary_rpc_method_handler(
        answer, protos.PredictRequest.FromString, lambda message: message.SerializeToString()
    )
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Predict": handler})])
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0)


def echo(request: object, context: grpc.ServicerContext) -> object:
    """Answers output_alias with what came as images."""
    response = protos.PredictResponse()
    tensors.fill_proto(response.outputs["output_alias"], tensors.from_proto(request.inputs["images"]))
    return response


class Forwarder:
    """Passes connections on to `port`; as a proxy it first answers an HTTP CONNECT, whose target it notes."""

    def __init__(self, port: int, is_proxy: bool = False) -> None:
        self.targets: list[str] = []
        self.connections = 0
        self._port, self._is_proxy = port, is_proxy
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> "Forwarder":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                self.connections += 1
                threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as far:
            if self._is_proxy:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += near.recv(4096)
                self.targets.append(head.split()[1].decode())
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (far if source is near else near).sendall(data)
