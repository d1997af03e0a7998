"""Peers of the service: ResNet-50 in ONNX Runtime fp32, behind gRPC servers of a few lines.

    python -m benchmarks.service_peers plain MODEL.accelonnx THREADS WORKERS     (prints its port)
    python -m benchmarks.service_peers ray MODEL.accelonnx THREADS WORKERS       (in an environment with ray[serve])

They decode with the same code as the service and run its own classifier, so that only server and network differ. A
request is a BytesValue with one JPEG, an answer one with the float32 bytes of 1000 probabilities.
"""

import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.wrappers_pb2 import BytesValue

METHOD = "/peer.Peer/Predict"


def float_model(model: Path, threads: int) -> Callable[[bytes], bytes]:
    """JPEG bytes -> bytes of the probabilities, by ONNX Runtime in 32 bit floating point."""
    import onnxruntime

    from amlrealtimeai.artifact.preprocess import preprocess_images
    from benchmarks import resnet50

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    featurizer = onnxruntime.InferenceSession(resnet50.onnx_model().SerializeToString(), options)
    with zipfile.ZipFile(model) as archive, tempfile.TemporaryDirectory() as folder:
        stages = json.loads(archive.read("service_def.json"))["pipeline"]
        (last,) = [stage for stage in stages if stage["type"] == "onnx"]
        classifier = onnxruntime.InferenceSession(archive.extract(last["file"], folder), options)
    parameters = next(stage["parameters"] for stage in stages if stage["type"] == "preprocess")
    image, features = featurizer.get_inputs()[0].name, classifier.get_inputs()[0].name

    def predict(jpeg: bytes) -> bytes:
        pixels = preprocess_images([jpeg], parameters)
        value = featurizer.run(None, {image: pixels})[0].reshape(1, 1, 1, 2048)
        answer: bytes = classifier.run(None, {features: value})[0].tobytes()
        return answer

    predict(_sample())
    return predict


def add_peer(servicer: Any, server: Any) -> None:
    """What a generated module would have: one method, BytesValue in and out."""
    handler = grpc.unary_unary_rpc_method_handler(servicer.Predict, BytesValue.FromString, BytesValue.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peer.Peer", {"Predict": handler}),))


class Plain:
    """grpc.server and a pool of threads."""

    def __init__(self, model: Path, threads: int) -> None:
        self._predict = float_model(model, threads)

    def Predict(self, request: BytesValue, context: Any) -> BytesValue:
        return BytesValue(value=self._predict(request.value))


def serve_plain(model: Path, threads: int, workers: int) -> None:
    server = grpc.server(ThreadPoolExecutor(workers))
    add_peer(Plain(model, threads), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def serve_ray(model: Path, threads: int, workers: int) -> None:
    """Ray Serve's gRPC proxy and one replica."""
    import socket
    import time

    import ray
    from ray import serve
    from ray.serve.config import gRPCOptions

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    class Replica:
        def __init__(self) -> None:
            self._predict = float_model(model, threads)

        def Predict(self, request: BytesValue) -> BytesValue:
            return BytesValue(value=self._predict(request.value))

    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
    serve.start(
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=["benchmarks.service_peers.add_peer"]),
        http_options={"port": 0, "location": "HeadOnly"},
    )
    deployment = serve.deployment(max_ongoing_requests=workers, ray_actor_options={"num_cpus": 0.1})(Replica)
    serve.run(deployment.bind(), name="peer", route_prefix="/")
    print(port, flush=True)
    while True:
        time.sleep(60)


def _sample() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(out, "JPEG")
    return out.getvalue()


if __name__ == "__main__":
    {"plain": serve_plain, "ray": serve_ray}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
