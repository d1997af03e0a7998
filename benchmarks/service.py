"""The service through real gRPC on loopback, the server in a process of its own; its peers in the same run.

    python -m benchmarks.service MODEL.accelonnx [IMAGE] [--only latency clients ...] [--requests 500] [--threads N]

latency     One client, one request at a time, split by stage. decode, npu and classifier are the server's own
            measurements; rest is the client's time for the call less these three: gRPC, protobuf, Python. Its peer,
            bare gRPC, is a handler that copies memory for as long as the model took (so that caches are as cold) and
            then answers as many bytes.
tls         the same with and without TLS, in turns
clients     1, 8 and 64 clients: the service, ONNX Runtime fp32 behind grpc.server and, with --ray-python, Ray Serve
saturation  throughput and refusals from 8 to 256 clients, in turns; a refused client comes again after 0.1 s, 0.2 s
            ... 3.2 s
changes     model updates, key rotation and certificate replacement under the load of four clients
"""

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.wrappers_pb2 import BytesValue
from PIL import Image

from amlrealtimeai.accel.client import PredictionClient
from amlrealtimeai.client.proxy import DIRECT
from amlrealtimeai.core.certificates import DevelopmentCertificate, development_certificate
from amlrealtimeai.serving.protocol import protos, tensors
from benchmarks.service_load import Load, load, measured
from benchmarks.service_peers import METHOD as PEER_METHOD

STAGES = ("decode", "npu", "classifier")
SECTIONS = ("latency", "tls", "clients", "saturation", "changes")
PREDICT = f"/{protos.PREDICTION_SERVICE}/Predict"
WARM_UP = 50
_TURNS = 3
ROOT = Path(__file__).parents[1]


def main() -> None:
    options = _parser().parse_args()
    if options.bare_grpc is not None:
        serve_bare_grpc(options.bare_grpc)
    image = options.image.read_bytes() if options.image else made_up_image()
    load_average = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"model {options.model.name}, image of {len(image)} bytes; {os.cpu_count()} CPUs, load average {load_average}"
    )
    for name in options.only:
        print(f"\n{name}", flush=True)
        {"latency": latency, "tls": tls, "clients": clients, "saturation": saturation, "changes": changes}[name](
            options, image
        )


@contextmanager
def process(*command: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server and the first line it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise SystemExit("a server did not start; its message is above")
        yield server, line.strip()
    finally:
        server.terminate()
        server.wait()


@contextmanager
def service(options: argparse.Namespace, *more: object) -> Iterator[int]:
    """Port of a running service."""
    command = [sys.executable, "-m", "amlrealtimeai.serving", "--port", "0", *more]
    if options.threads:
        command += ["--threads", options.threads]
    with process(*command) as (_, line):
        yield int(line.rpartition(":")[2])


def latency(options: argparse.Namespace, image: bytes) -> None:
    command = [sys.executable, "-m", "amlrealtimeai.serving", options.model, "--port", "0"]
    start = time.perf_counter()
    with process(*command, *(["--threads", options.threads] if options.threads else [])) as (server, line):
        started = time.perf_counter() - start
        samples = measure(int(line.rpartition(":")[2]), image, options.requests)
        busy = float(np.median(samples["total"] - samples["rest"]))
        samples["bare gRPC"] = measure_bare_grpc(busy, len(image), options.requests)
        print(table(samples))
        total = samples["total"]
        print(f"p99/p50 of total {np.percentile(total, 99) / np.median(total):.2f}", end="; ")
        print(f"server ready after {started:.2f} s; {memory_text(server.pid)}")


def tls(options: argparse.Namespace, image: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        made = development_certificate(["localhost"])
        certificate, key, ca = made.save(folder)
        secure = stack.enter_context(service(options, options.model, "--ssl-cert", certificate, "--ssl-key", key))
        plain = stack.enter_context(service(options, options.model))
        both = {
            "plain": stack.enter_context(PredictionClient("localhost", plain)),
            "TLS": stack.enter_context(PredictionClient("localhost", secure, use_ssl=True, root_certificates=ca)),
        }
        times: dict[str, list[float]] = {name: [] for name in both}
        for i in range(WARM_UP + options.requests):
            for name, client in both.items():
                start = time.perf_counter()
                client.score_numpy_arrays({"images": one_string(image)})
                rest = time.perf_counter() - start - sum(client.last_timings.get(stage, 0.0) for stage in STAGES)
                if i >= WARM_UP:
                    times[name].append(rest * 1e3)
        print(table({f"rest, {name}": np.array(values) for name, values in times.items()}))
        print(f"TLS adds {np.median(times['TLS']) - np.median(times['plain']):.3f} ms at p50")


def clients(options: argparse.Namespace, image: bytes) -> None:
    threads = options.threads or os.cpu_count() or 1
    peers = {"ONNX Runtime fp32, grpc.server": ("plain", sys.executable)}
    if options.ray_python:
        peers["ONNX Runtime fp32, Ray Serve"] = ("ray", options.ray_python)
    with ExitStack() as stack:
        limits = ("--limit", "max_in_flight=128", "--limit", "max_wait_seconds=60")
        port = stack.enter_context(service(options, options.model, *limits))
        runs: dict[str, tuple[Callable[[], grpc.Channel], str, bytes]] = {
            "this service": (connector(port), PREDICT, request_of(image))
        }
        for name, (kind, python) in peers.items():
            command = (python, "-m", "benchmarks.service_peers", kind, options.model, threads, 2)
            _, line = stack.enter_context(process(*command))
            runs[name] = (connector(int(line)), PEER_METHOD, BytesValue(value=image).SerializeToString())
        for count in (1, 8, 64):
            metadata = (("application", "peer"),)  # Ray Serve's routing; the others do not look at it
            for name, (connect, method, request) in runs.items():
                result = measured(connect, method, request, count, options.seconds, metadata)
                print(f"{count:4} clients  {name:<32}{result}", flush=True)


def saturation(options: argparse.Namespace, image: bytes) -> None:
    rates: dict[int, list[float]] = {count: [] for count in (8, 16, 32, 64, 128, 256)}
    with service(options, options.model) as port:
        for _ in range(_TURNS):
            for count, found in rates.items():
                result = measured(connector(port), PREDICT, request_of(image), count, options.seconds, warm_up=2.0)
                found.append(result.rate)
                print(f"{count:4} clients  {result}; failed or hanging: {result.failures()}", flush=True)
    medians = {count: float(np.median(found)) for count, found in rates.items()}
    worst = min(medians, key=lambda count: medians[count])
    share = 100 * medians[worst] / max(medians.values())
    print(f"median of {_TURNS} turns: the lowest throughput is {share:.1f} % of the best, at {worst} clients")


def changes(options: argparse.Namespace, image: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = development_certificate(["localhost"])
        certificate, key, _ = made.save(folder)
        changer = Changer(folder, options.model, made)
        changer.write(1, ["key number 1", "key number 2"])
        files = ("--watch", folder / "services.json", "--ssl-cert", certificate, "--ssl-key", key)
        with service(options, *files) as port:
            changer.wait()
            for what, change in (
                ("nothing", None),
                ("model update", changer.update_model),
                ("key rotation", changer.rotate_key),
                ("certificate replacement", changer.replace_certificate),
            ):
                changer.trusted = changer.made.ca
                result, parts = changed(changer, port, request_of(image), change, options.seconds)
                print(f"{what:<24}{result}; failed: {result.failures() + result.codes['RESOURCE_EXHAUSTED']}; {parts}")


def changed(
    changer: "Changer", port: int, request: bytes, change: Callable[[], None] | None, seconds: float
) -> tuple[Load, str]:
    """Load before, while and after `change` happens four times."""

    def connect() -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(changer.trusted.encode())
        return grpc.secure_channel(f"localhost:{port}", credentials, [*DIRECT, ("grpc.use_local_subchannel_pool", 1)])

    with load(connect, PREDICT, request, 4, changer.metadata) as result:
        time.sleep(seconds)
        start = time.monotonic()
        for _ in range(4):
            if change:
                change()
            time.sleep(seconds / 4)
        end = time.monotonic()
    before, during = result.percentile(99, end=start), result.percentile(99, start, end)
    return result, f"p99 before {before:.1f} ms, during {during:.1f} ms: {during / before:.2f} x"


class Changer:
    """Writes the file that a server watches."""

    def __init__(self, folder: Path, model: Path, made: DevelopmentCertificate) -> None:
        self.made, self.trusted = made, made.ca
        self._folder, self._model, self._version, self._generation = folder, model, 1, 0
        self._keys = ["", ""]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._keys[1]}"),)

    def write(self, version: int, keys: list[str]) -> None:
        self._generation += 1
        self._version, self._keys = version, keys
        entry = {"model": str(self._model.resolve()), "version": version, "keys": keys}
        partial = self._folder / "services.part"
        partial.write_text(json.dumps({"generation": self._generation, "services": {"resnet50": entry}}))
        partial.replace(self._folder / "services.json")

    def wait(self) -> None:
        status = self._folder / "services.json.status"
        while not status.exists() or json.loads(status.read_text())["generation"] != self._generation:
            time.sleep(0.01)

    def update_model(self) -> None:
        """The same file as another version, loaded and warmed up anew."""
        copy = self._folder / f"{self._version}.accelonnx"
        copy.write_bytes(self._model.read_bytes())
        self._model = copy
        self.write(self._version + 1, self._keys)
        self.wait()

    def rotate_key(self) -> None:
        """Replace the key that clients do not use, then let them change over."""
        fresh, used = f"key number {self._generation + 2}", self._keys[1]
        self.write(self._version, [fresh, used])
        self.wait()
        self._keys = [used, fresh]

    def replace_certificate(self) -> None:
        """Others connect with the new one; open connections stay."""
        self.made = development_certificate(["localhost"])
        self.made.save(self._folder)
        time.sleep(0.3)  # the server looks every 0.1 s


def connector(port: int) -> Callable[[], grpc.Channel]:
    return lambda: grpc.insecure_channel(f"127.0.0.1:{port}", [*DIRECT, ("grpc.use_local_subchannel_pool", 1)])


def one_string(image: bytes) -> np.ndarray:
    batch = np.empty(1, object)
    batch[0] = image
    return batch


def request_of(image: bytes) -> bytes:
    request = protos.PredictRequest()
    tensors.fill_proto(request.inputs["images"], one_string(image))
    data: bytes = request.SerializeToString()
    return data


def measure(port: int, image: bytes, requests: int) -> dict[str, np.ndarray]:
    """Milliseconds of every request by column."""
    columns: dict[str, list[float]] = {name: [] for name in (*STAGES, "rest", "total")}
    with PredictionClient("127.0.0.1", port) as client:
        for i in range(WARM_UP + requests):
            start = time.perf_counter()
            client.score_numpy_arrays({"images": one_string(image)})
            total = time.perf_counter() - start
            if i < WARM_UP:
                continue
            stages = [client.last_timings.get(name, 0.0) for name in STAGES]
            for name, seconds in zip(columns, (*stages, total - sum(stages), total), strict=True):
                columns[name].append(seconds * 1e3)
    return {name: np.array(values) for name, values in columns.items()}


def measure_bare_grpc(busy: float, size: int, requests: int) -> np.ndarray:
    """Milliseconds of every call on a handler that copies memory for `busy` of them, less what that took."""
    command = [sys.executable, "-m", "benchmarks.service", "-", "--bare-grpc", str(busy / 1e3)]
    data, samples = bytes(size), []
    with process(*command) as (_, port), grpc.insecure_channel(f"127.0.0.1:{port}", DIRECT) as channel:
        call = channel.unary_unary("/bare/Call")
        for _ in range(WARM_UP + requests):
            start = time.perf_counter()
            answer = call(data, timeout=10)
            samples.append((time.perf_counter() - start - struct.unpack("d", answer[:8])[0]) * 1e3)
    return np.array(samples[WARM_UP:])


def serve_bare_grpc(busy: float) -> None:
    """Answer 4000 bytes, as a classifier of 1000 classes does; the first eight are the seconds that were spent."""
    source, target = np.ones(1 << 18), np.empty(1 << 18)

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        start = time.perf_counter()
        while time.perf_counter() - start < busy:
            np.copyto(target, source)
        return struct.pack("d", time.perf_counter() - start).ljust(4000)

    handlers = grpc.method_handlers_generic_handler("bare", {"Call": grpc.unary_unary_rpc_method_handler(answer)})
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handlers])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def table(samples: dict[str, np.ndarray]) -> str:
    """p50, p99 and least of every column."""
    lines = [f"{'ms':<12}{'p50':>9}{'p99':>9}{'min':>9}"]
    for name, values in samples.items():
        lines.append(f"{name:<12}{np.median(values):>9.3f}{np.percentile(values, 99):>9.3f}{values.min():>9.3f}")
    return "\n".join(lines)


def memory_text(pid: int) -> str:
    """Resident memory of the server, now and at its highest."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return "memory unknown (no /proc)"
    fields = {
        name: int(value.split()[0]) / 1024
        for name, _, value in (line.partition(":") for line in lines)
        if "kB" in value
    }
    return f"memory {fields['VmRSS']:.0f} MiB, at most {fields['VmHWM']:.0f} MiB"


def made_up_image() -> bytes:
    """A 500 x 400 JPEG with some structure, about 50 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 63, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((500, 400), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.accelonnx")
    parser.add_argument("image", type=Path, nargs="?", metavar="IMAGE", help="default: a made-up JPEG of 500 x 400")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load for each figure")
    parser.add_argument(
        "--ray-python", help="Python of an environment with ray[serve], onnx, onnxruntime, pillow, numpy"
    )
    parser.add_argument("--bare-grpc", type=float, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
