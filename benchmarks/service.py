"""Latency of a service, split by stage, through real gRPC on loopback with the server in a process of its own.

    python benchmarks/service.py MODEL.accelonnx [IMAGE] [--requests 500] [--threads N]

One client, one request at a time. decode, npu and classifier are the server's own measurements of each request; rest is
the client's time for the call less these three: gRPC, protobuf, Python. Its peer, bare gRPC, is a handler that copies
memory for as long as the model took (so that caches are as cold) and then answers as many bytes. Start is from spawning
the process to its "ready" line; memory is the server's after all requests.
"""

import argparse
import io
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from amlrealtimeai.accel.client import PredictionClient

STAGES = ("decode", "npu", "classifier")
WARM_UP = 50


def main() -> None:
    options = _parser().parse_args()
    if options.bare_grpc is not None:
        serve_bare_grpc(options.bare_grpc)
    image = options.image.read_bytes() if options.image else made_up_image()
    command = [sys.executable, "-m", "amlrealtimeai.serving", str(options.model), "--port", "0"]
    if options.threads:
        command += ["--threads", str(options.threads)]
    start = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        started = time.perf_counter() - start
        if not line:
            raise SystemExit("the server did not start; its message is above")
        samples = measure(int(line.rpartition(":")[2]), image, options.requests)
        busy = float(np.median(samples["total"] - samples["rest"]))
        samples["bare gRPC"] = measure_bare_grpc(busy, len(image), options.requests)
        print(f"model {options.model.name}, image of {len(image)} bytes, {options.requests} requests one at a time")
        print(table(samples))
        print(f"server ready after {started:.2f} s; {memory_text(server.pid)}")
    finally:
        server.terminate()
        server.wait()


def measure(port: int, image: bytes, requests: int) -> dict[str, np.ndarray]:
    """Milliseconds of every request by column."""
    batch = np.empty(1, object)
    batch[0] = image
    columns: dict[str, list[float]] = {name: [] for name in (*STAGES, "rest", "total")}
    with PredictionClient("127.0.0.1", port) as client:
        for i in range(WARM_UP + requests):
            start = time.perf_counter()
            client.score_numpy_arrays({"images": batch})
            total = time.perf_counter() - start
            if i < WARM_UP:
                continue
            stages = [client.last_timings.get(name, 0.0) for name in STAGES]
            for name, seconds in zip(columns, (*stages, total - sum(stages), total), strict=True):
                columns[name].append(seconds * 1e3)
    return {name: np.array(values) for name, values in columns.items()}


def measure_bare_grpc(busy: float, size: int, requests: int) -> np.ndarray:
    """Milliseconds of every call on a handler that copies memory for `busy` of them, less what that took."""
    command = [sys.executable, __file__, "-", "--bare-grpc", str(busy / 1e3)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    data, samples = bytes(size), []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/bare/Call")
        for _ in range(WARM_UP + requests):
            start = time.perf_counter()
            answer = call(data, timeout=10)
            samples.append((time.perf_counter() - start - struct.unpack("d", answer[:8])[0]) * 1e3)
    server.terminate()
    server.wait()
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
    parser.add_argument("--bare-grpc", type=float, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
