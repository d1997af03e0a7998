"""What the lesson on TLS needs beside the public API: a small model, a client that never stops, a handshake."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def small_model(folder: str | Path) -> Path:
    """A converted model that answers a picture with its mean colour, [red, green, blue]; it needs no NPU."""
    from onnx import TensorProto, helper, numpy_helper

    from amlrealtimeai.artifact.converted import write_converted
    from amlrealtimeai.artifact.definition import document
    from amlrealtimeai.artifact.preprocess import MEANS

    mean = helper.make_node("ReduceMean", ["pixels"], ["centred"], axes=[1, 2], keepdims=0)
    add = helper.make_node("Add", ["centred", "means"], ["colour"])
    graph = helper.make_graph(
        [mean, add],
        "colour",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", None, None, 3])],
        [helper.make_tensor_value_info("colour", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(MEANS, "means")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inputs = {"images": {"tensor": "images:0", "dtype": "string", "shape": [None]}}
    outputs = {"output_alias": {"tensor": "colour:0", "dtype": "float32", "shape": [None, 3]}}
    decode = {"type": "preprocess", "name": "preprocess", "parameters": {"order": "RGB"}}
    colour = {"type": "onnx", "name": "colour", "file": "colour.onnx"}
    pipeline = [
        {**decode, "inputs": {"images": "images:0"}, "outputs": {"output": "pixels:0"}},
        {**colour, "inputs": {"pixels": "pixels:0"}, "outputs": {"colour": "colour:0"}},
    ]
    path = Path(folder) / "colour.zip"
    write_converted(path, document("colour", inputs, outputs, pipeline), {"colour.onnx": model.SerializeToString()})
    return path


class KeepAsking:
    """Calls a function again and again as long as a `with` block lasts, and counts answers and failures."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._function = function
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._function()
                self.answers += 1
            except Exception as error:  # whatever it is, it is a lost request
                self.failures.append(str(error))
                self._stop.wait(0.05)

    def settle(self) -> None:
        """Wait until what is being asked now has its answer: from then on everything was asked after this call."""
        ended = self.answers + len(self.failures)
        while self.answers + len(self.failures) == ended and self._thread.is_alive():
            time.sleep(0.005)

    def __enter__(self) -> "KeepAsking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.wait(0.2)
        self._stop.set()
        self._thread.join()

    def __repr__(self) -> str:
        return f"{self.answers} answers, {len(self.failures)} failures"


def handshake(host: str, port: int, ca: str) -> str:
    """Shake hands by Python's own TLS, and say what was agreed and for which names the certificate is."""
    context = ssl.create_default_context(cadata=ca)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, port), 5.0) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        certificate: Any = secure.getpeercert() or {}
        names = ", ".join(name for _, name in certificate.get("subjectAltName", ()))
        issuer = dict(pair for part in certificate.get("issuer", ()) for pair in part)
        cipher = secure.cipher() or ("no cipher", "", 0)
        return f"{secure.version()} with {cipher[0]}; valid for {names}; signed by {issuer.get('commonName', '?')}"
