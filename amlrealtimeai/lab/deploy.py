"""What the lesson on deployment needs beside the public API.

Small models and a broken one, who can run containers here, a server with limits, many clients, manifests to look at.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai import resources
from amlrealtimeai.client import ServiceClient, ServiceError
from amlrealtimeai.containers import ImageInfo, find_engine, run
from amlrealtimeai.errors import ContainerError, DeploymentError
from amlrealtimeai.lab.pictures import sample
from amlrealtimeai.serving.health import answers

_SIDE, _CHANNELS, _CLASSES = 224, (3, 32, 64, 128, 512), 10
_START_SECONDS = 60.0
_PURPOSE = {
    "Secret": "keys and certificate, mounted as files",
    "NetworkPolicy": "who may connect, and to whom the pods may",
    "Service": "one name and address for all replicas",
    "PodDisruptionBudget": "how many may be missing while nodes are emptied",
    "Deployment": "the pods: image, probes, limits, how they are replaced",
    "HorizontalPodAutoscaler": "how many replicas, by how busy they are",
}


def small_network(folder: str | Path, seed: int) -> Path:
    """A converted model of four convolutions (NPU) and a classifier (host); same seed, same file.

    Its weights are random: it recognises nothing, and takes the time of a small network.
    """
    from onnx import helper, numpy_helper

    from amlrealtimeai import npu

    values = np.random.default_rng(seed)
    nodes, weights, last = [helper.make_node("Transpose", ["x"], ["t0"], perm=[0, 3, 1, 2])], [], "t0"
    for number, (wide_in, wide_out) in enumerate(pairwise(_CHANNELS), start=1):
        filters = values.normal(0, (2 / (9 * wide_in)) ** 0.5, (wide_out, wide_in, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(filters, f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"t{number}"]))
        last = f"t{number}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Transpose", ["pooled"], ["features"], perm=[0, 2, 3, 1]))
    ends = [1, _SIDE, _SIDE, 3], [1, 1, 1, _CHANNELS[-1]]
    program = npu.compile(_onnx(nodes, ("x", ends[0]), ("features", ends[1]), weights))
    path = Path(folder) / f"seed{seed}.npu"
    program.save(path)
    matrix = values.normal(0, 0.002, (_CHANNELS[-1], _CLASSES)).astype(np.float32)
    host = [
        helper.make_node("ReduceMean", ["features"], ["flat"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["flat", "matrix"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["answer"], axis=1),
    ]
    given, made = ("features", [None, 1, 1, _CHANNELS[-1]]), ("answer", [None, _CLASSES])
    classifier = _onnx(host, given, made, [numpy_helper.from_array(matrix, "matrix")])
    return _write(Path(folder) / f"seed{seed}.accelonnx", path, classifier.SerializeToString())


def broken_network(folder: str | Path) -> Path:
    """The model of seed 1 whose classifier was damaged before it was packed: its digests are right."""
    small_network(folder, 1)
    return _write(Path(folder) / "broken.accelonnx", Path(folder) / "seed1.npu", b"half a download")


def _onnx(nodes: Sequence[Any], given: tuple[str, Any], made: tuple[str, Any], weights: Sequence[Any]) -> Any:
    from onnx import TensorProto, helper

    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (given, made)]
    graph = helper.make_graph(nodes, "small", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _write(path: Path, program: Path, classifier: bytes) -> Path:
    from amlrealtimeai.artifact.converted import write_converted
    from amlrealtimeai.artifact.definition import document

    inputs = {"images": {"tensor": "images:0", "dtype": "string", "shape": [None]}}
    outputs = {"output_alias": {"tensor": "answer:0", "dtype": "float32", "shape": [None, _CLASSES]}}
    stages = (
        ("preprocess", {"images": "images:0"}, {"output": "x:0"}, {"parameters": {"order": "RGB"}}),
        ("npu", {"x": "x:0"}, {"features": "features:0"}, {"file": "small.npu"}),
        ("onnx", {"features": "features:0"}, {"answer": "answer:0"}, {"file": "classifier.onnx"}),
    )
    pipeline = [{"type": t, "name": t, "inputs": i, "outputs": o, **more} for t, i, o, more in stages]
    files: dict[str, bytes | Path] = {"small.npu": program, "classifier.onnx": classifier}
    write_converted(path, document("small", inputs, outputs, pipeline), files)
    return path


@dataclass(frozen=True)
class Here:
    """What this computer can do for the lesson. engine: "podman", "docker" or None; why: the reason for None."""

    engine: str | None
    why: str
    context: str | None

    def __str__(self) -> str:
        containers = f"{self.engine} starts them: real" if self.engine else f"none ({self.why}); a process instead"
        cluster = f"kubeconfig names {self.context!r}; this lesson leaves it alone" if self.context else "none"
        return f"containers   {containers}\nKubernetes   {cluster}: its objects are shown, and not applied"

    __repr__ = __str__


def here(image: ImageInfo) -> Here:
    """Look who starts containers here, by starting one: an engine that is installed need not work."""
    try:
        engine = find_engine()
        with run(image, network="host", timeout=_START_SECONDS) as running:  # as a device runs it
            name, why = engine.name, ""
        running.stop(remove_image=True)
    except ContainerError as error:
        name, why = None, str(error).splitlines()[0].split(". ")[0]
    return Here(name, why, _context())


def _context() -> str | None:
    import yaml

    home = resources.user_home() or Path()
    path = Path(os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or home / ".kube" / "config")
    try:
        return (yaml.safe_load(path.read_text()) or {}).get("current-context")
    except (OSError, yaml.YAMLError, AttributeError):
        return None


@dataclass(frozen=True)
class Load:
    """Requests of some clients at once, for some seconds. milliseconds: [n] of the answers; refused: requests."""

    clients: int
    milliseconds: np.ndarray
    refused: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return len(self.milliseconds) / self.seconds

    @property
    def median_ms(self) -> float:
        """Half of the answers came faster; nan where there is none."""
        return float(np.median(self.milliseconds)) if len(self.milliseconds) else float("nan")

    @property
    def slow_ms(self) -> float:
        """One answer in twenty came later."""
        return float(np.percentile(self.milliseconds, 95)) if len(self.milliseconds) else float("nan")

    def __str__(self) -> str:
        waited = f"{self.clients:>2} clients: {self.median_ms:6.1f} ms"
        return f"{waited}, {self.rate:3.0f} answers/s, {self.refused} refused"


def loads(address: str, counts: Sequence[int], rounds: int = 3, seconds: float = 0.6) -> list[Load]:
    """`load` for each number of clients, in turns, so that the machine's other work meets all of them alike."""
    found = [[load(address, count, seconds) for count in counts] for _ in range(rounds)]
    return [
        Load(
            parts[0].clients,
            np.concatenate([part.milliseconds for part in parts]),
            sum(part.refused for part in parts),
            sum(part.seconds for part in parts),
        )
        for parts in zip(*found, strict=True)
    ]


def load(address: str, clients: int, seconds: float = 1.0, back_off: float = 0.05) -> Load:
    """Ask the service at `address` from `clients` connections at once, each as soon as it has its answer.

    A refused client waits `back_off` seconds and asks again. Any other failure is raised.
    """
    times: list[float] = []
    refused: list[float] = []
    failures: list[BaseException] = []
    started, picture = threading.Barrier(clients), sample().read_bytes()

    def answered(client: ServiceClient) -> bool:
        try:
            client.run(picture)
            return True
        except ServiceError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            time.sleep(back_off)
            return False

    def ask() -> None:
        try:
            with ServiceClient(address) as client:
                while not answered(client):  # opens the connection
                    continue
                started.wait()
                end = time.perf_counter() + seconds
                while (begin := time.perf_counter()) < end:
                    if answered(client):
                        times.append((time.perf_counter() - begin) * 1e3)
                    else:
                        refused.append(begin)
        except BaseException as error:
            failures.append(error)
            started.abort()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Load(clients, np.array(times), len(refused), seconds)


@contextmanager
def limited(image: ImageInfo, model: Path, engine: str | None, max_in_flight: int) -> Iterator[str]:
    """The address of a server with one worker that has at most `max_in_flight` requests at once, and refuses more.

    In a container of `engine`; where that is None, the same command line in a process.
    """
    limits = ["--limit", "workers=1", "--limit", f"max_in_flight={max_in_flight}"]
    if engine:
        with run(image, engine=engine, cpus=1, arguments=limits) as running:
            yield running.address
        running.stop(remove_image=True)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "amlrealtimeai.serving", str(model), "--port", str(port), "--threads", "1"]
    process = subprocess.Popen([*command, *limits, "--with-parent", str(os.getpid())], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + _START_SECONDS
        while not answers("127.0.0.1", port, False):
            if process.poll() is not None or time.monotonic() > end:
                raise DeploymentError("the server did not start; `python -m amlrealtimeai doctor` says what is missing")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def compare(images: Mapping[str, ImageInfo]) -> str:
    """A table of layers: bytes in the first image, and whether each other image has the very same layer."""
    (first, base), *others = images.items()
    rows = [f"{'':<10}{'bytes':>12}  {first:<16}" + "".join(f"{name:<16}" for name, _ in others)]
    for number, layer in enumerate(base.layers):
        same = ("same" if image.layers[number].digest == layer.digest else "NEW" for _, image in others)
        rows.append(f"{layer.kind:<10}{layer.size:>12,}  {layer.digest[7:15]:<16}" + "".join(f"{s:<16}" for s in same))
    same = ("same" if image.digest == base.digest else "NEW" for _, image in others)
    rows.append(f"{'image':<10}{base.size:>12,}  {base.digest[7:15]:<16}" + "".join(f"{s:<16}" for s in same))
    return "\n".join(line.rstrip() for line in rows)


def overview(manifests: Sequence[Mapping[str, Any]]) -> str:
    """A table of Kubernetes objects: kind, name, what each is for."""
    rows = []
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        headless = manifest.get("spec", {}).get("clusterIP") == "None"
        purpose = "every replica by its own address, for clients that spread" if headless else _PURPOSE[kind]
        rows.append(f"{kind:<24} {name:<12} {purpose}")
    return "\n".join(rows)


def without_secrets(manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same objects with the number of characters in place of every Secret's values."""
    return [
        {**m, "data": {name: f"({len(value)} characters)" for name, value in m["data"].items()}}
        if m["kind"] == "Secret"
        else dict(m)
        for m in manifests
    ]
