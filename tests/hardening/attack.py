"""An attacker without a key, beside a client that has one:

    python -m tests.hardening.attack [--seconds 10] [--connections 64] [--kinds NAME ...]

The server runs in a process of its own, with TLS, a key and all three ports; the attacker in another one, with as many
connections as one likes, each doing one thing of KINDS over and over. Prints the client's latencies alone, under
attack, and beside a control: processes that burn as much CPU time as the attacker did and connect to nothing. For an
attacker on this computer takes CPUs from server and client, as one from elsewhere could not. Then what the attack cost
in memory; exit status 1 if a good request failed.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.hardening.soak import resident
from tests.serving.certificates import Authority
from tests.serving.conftest import predict, request_of
from tests.serving.models import encode, image_model, picture
from tests.serving.processes import Service, service

_SLICE = 0.002  # seconds
_START_SECONDS = 3.0  # until the attacker's process sends
KEY = "the-key-of-this-service"
GOOD = request_of("means", images=np.array([encode(picture(), "JPEG")], object)).SerializeToString()
LARGE = b"\x0a\x02\x0a\x00" + b"\x12\x04aaaa" * 700_000  # 4 MB
MODEL, REFLECTION = "/tensorflow.serving.ModelService/", "/grpc.reflection.v1alpha.ServerReflection/"
PREDICTION, HEALTH = "/tensorflow.serving.PredictionService/", "/grpc.health.v1.Health/"


class Attacker:
    """One connection, or one after the other, in a loop until `stop`."""

    def __init__(self, ports: dict[str, int], pem: bytes, stop: Any) -> None:
        self.ports, self.pem, self.stop = ports, pem, stop

    def unary(self, method: str, data: bytes) -> None:
        with self._channel() as channel:
            call = channel.unary_unary(method)
            while not self.stop.is_set():
                with suppress(grpc.RpcError):
                    call(data, timeout=10)

    def idle_streams(self, method: str) -> None:
        with self._channel() as channel:
            call = channel.stream_stream(method)
            while not self.stop.is_set():
                streams = [call(self._never()) for _ in range(50)]
                self.stop.wait(1.0)
                for stream in streams:
                    stream.cancel()

    def unfinished_messages(self) -> None:
        with self._channel() as channel:
            call = channel.stream_unary(f"{PREDICTION}Predict")
            while not self.stop.is_set():
                futures = [call.future(self._never()) for _ in range(20)]
                for future in futures:
                    with suppress(grpc.RpcError, grpc.FutureTimeoutError):
                        future.result(timeout=5)

    def silent(self, port: str, tls: bool, first: bytes = b"") -> None:
        while not self.stop.is_set():
            with suppress(OSError), self._socket(port, tls) as plain:
                plain.sendall(first)
                for _ in range(20):
                    plain.sendall(b"A"[: bool(first)])
                    if self.stop.wait(0.5):
                        return

    def http(self, request: bytes) -> None:
        while not self.stop.is_set():
            with suppress(OSError), self._socket("rest", True) as plain:
                while not self.stop.is_set():
                    plain.sendall(request)
                    if b"close" in plain.recv(1 << 16).lower():
                        break

    def connect(self, port: str) -> None:
        while not self.stop.is_set():
            with suppress(OSError), self._socket(port, True):
                self.stop.wait(0.2)

    def _never(self) -> Iterator[bytes]:
        self.stop.wait()
        yield from ()

    def _channel(self) -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(self.pem)
        return grpc.secure_channel(f"localhost:{self.ports['grpc']}", credentials, options)

    def _socket(self, port: str, tls: bool) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.ports[port]), 5)
        if not tls:
            return plain
        context = ssl.create_default_context(cadata=self.pem.decode())
        if port == "grpc":
            context.set_alpn_protocols(["h2"])
        return context.wrap_socket(plain, server_hostname="localhost")


def _post(rest: str) -> bytes:
    return f"POST /v1/models/means:predict HTTP/1.1\r\nHost: a\r\n{rest}".encode()


KINDS: dict[str, Callable[[Attacker], None]] = {
    "predict": lambda one: one.unary(f"{PREDICTION}Predict", GOOD),
    "large predict": lambda one: one.unary(f"{PREDICTION}Predict", LARGE),
    "large status": lambda one: one.unary(f"{MODEL}GetModelStatus", LARGE),
    "large metadata": lambda one: one.unary(f"{PREDICTION}GetModelMetadata", LARGE),
    "health": lambda one: one.unary(f"{HEALTH}Check", b""),
    "large health": lambda one: one.unary(f"{HEALTH}Check", LARGE),
    "watch": lambda one: one.idle_streams(f"{HEALTH}Watch"),
    "reflection": lambda one: one.idle_streams(f"{REFLECTION}ServerReflectionInfo"),
    "unknown method": lambda one: one.unary("/a/b", LARGE),
    "unfinished messages": lambda one: one.unfinished_messages(),
    "half-open gRPC": lambda one: one.silent("grpc", False),
    "half-open h2": lambda one: one.silent("grpc", True, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "half-open REST": lambda one: one.silent("rest", False),
    "slow header": lambda one: one.silent("rest", True, b"GET / HTTP/1.1\r\nA: "),
    "unfinished body": lambda one: one.silent("rest", True, _post("Content-Length: 60000000\r\n\r\n[")),
    "unknown path": lambda one: one.http(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"),
    "REST predict": lambda one: one.http(_post("Content-Length: 2\r\n\r\n{}")),
    "no HTTP": lambda one: one.http(b"\0" * 100 + b"\r\n\r\n"),
    "metrics": lambda one: one.http(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
    "reconnect": lambda one: one.connect("rest"),
}


def _attack(ports: dict[str, int], pem: bytes, kinds: list[str], connections: int, stop: Any, go: Any) -> None:
    """In a process of its own: as many threads as connections."""
    go.wait()
    attackers = [Attacker(ports, pem, stop) for _ in range(connections)]
    threads = [
        threading.Thread(target=KINDS[kind], args=(one,), daemon=True)
        for one, kind in zip(attackers, itertools.cycle(kinds), strict=False)
    ]
    for thread in threads:
        thread.start()
    stop.wait()


@contextmanager
def attacked(running: Service, ports: dict[str, int], pem: bytes, kinds: list[str], connections: int) -> Iterator[int]:
    """The attack goes on inside; gives the attacker's process id."""
    context = multiprocessing.get_context("spawn")
    stop, go = context.Event(), context.Event()
    process = context.Process(target=_attack, args=(ports, pem, kinds, connections, stop, go), daemon=True)
    process.start()
    go.set()
    try:
        yield process.pid or 0
    finally:
        stop.set()
        process.join(5)
        process.kill()
        process.join()


def _burn(share: float, stop: Any) -> None:
    """In a process of its own: use this share of one CPU, in slices as short as a request."""
    while not stop.is_set():
        start = time.perf_counter()
        while time.perf_counter() - start < share * _SLICE:
            pass
        time.sleep(max(0.0, (1 - share) * _SLICE))


@contextmanager
def burning(cpus: float) -> Iterator[None]:
    """As many CPUs as that are busy inside."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    shares = [1.0] * int(cpus) + [cpus % 1]
    processes = [context.Process(target=_burn, args=(share, stop), daemon=True) for share in shares]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join()


@contextmanager
def keyed_service(folder: Path, *more: object) -> Iterator[tuple[Service, dict[str, int], bytes]]:
    """A server with TLS and a key; its ports by name, and the PEM of its CA."""
    authority = Authority()
    tls = authority.issue()
    for name, data in (("cert.pem", tls.certificate), ("key.pem", tls.key), ("keys", KEY.encode())):
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    model = image_model(folder / "means.accelonnx")
    files = ("--ssl-cert", folder / "cert.pem", "--ssl-key", folder / "key.pem", "--key-file", folder / "keys")
    ports = ("--port", 0, "--rest-port", 0, "--admin-port", 0, "--port-file", folder / "port")
    with service(model, *files, *ports, *more) as running:
        first, *others = (folder / "port").read_text().split()
        named = dict(other.split("=") for other in others)
        yield running, {"grpc": int(first)} | {name: int(port) for name, port in named.items()}, authority.pem


@contextmanager
def client(ports: dict[str, int], pem: bytes) -> Iterator[Callable[[], float]]:
    """A function that sends one good request and gives its seconds."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{ports['grpc']}", grpc.ssl_channel_credentials(pem), options) as channel:

        def ask() -> float:
            start = time.perf_counter()
            predict(channel, GOOD, metadata=[("authorization", f"Bearer {KEY}")], timeout=20)
            return time.perf_counter() - start

        yield ask


def _for(seconds: float, ask: Callable[[], float], pause: float = 0.005) -> list[float]:
    end, taken = time.monotonic() + seconds, []
    while time.monotonic() < end:
        taken.append(ask())
        time.sleep(pause)
    return taken


def _text(seconds: list[float]) -> str:
    p50, p99 = (float(np.percentile(seconds, q)) * 1e3 for q in (50, 99))
    return f"{len(seconds)} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def _cpu_seconds(pid: int) -> float:
    """User and system time that the process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Turns:
    """What was measured in the turns of one sort: the client's seconds of each, the CPUs that the server had."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.taken: list[list[float]] = []
        self._cpu = 0.0
        self._seconds = seconds

    def take(self, ask: Callable[[], float], pid: int) -> None:
        """One more turn."""
        start = _cpu_seconds(pid)
        self.taken.append(_for(self._seconds, ask))
        self._cpu += _cpu_seconds(pid) - start

    def ratio(self, to: "Turns") -> float:
        """Median of the rounds' ratios of p99."""
        pairs = zip(self.taken, to.taken, strict=True)
        return statistics.median(float(np.percentile(mine, 99) / np.percentile(other, 99)) for mine, other in pairs)

    def __str__(self) -> str:
        used = self._cpu / self._seconds / len(self.taken)
        return f"{self.name:13} {_text([*itertools.chain(*self.taken)])}; the server had {used:.2f} CPUs"


def run(seconds: float, connections: int, kinds: list[str], rounds: int = 3) -> int:
    alone, attack, control = (Turns(name, seconds) for name in ("alone:", "under attack:", "control:"))
    appetite = []
    with tempfile.TemporaryDirectory() as folder, keyed_service(Path(folder)) as (running, ports, pem):
        server = running.process.pid
        with client(ports, pem) as ask:
            _for(2.0, ask)
            before = most = resident(server)
            for _ in range(rounds):
                alone.take(ask, server)
                with attacked(running, ports, pem, kinds, connections) as attacker:
                    time.sleep(_START_SECONDS)
                    start = _cpu_seconds(attacker)
                    attack.take(ask, server)
                    appetite.append((_cpu_seconds(attacker) - start) / seconds)
                    most = max(most, resident(server))
                with burning(appetite[-1]):
                    time.sleep(1.0)
                    control.take(ask, server)
        alive = running.process.poll() is None
    print(f"{connections} connections of {', '.join(kinds)}")
    print(alone, attack, control, sep="\n")
    print(
        f"p99 x{attack.ratio(alone):.2f} of alone, x{control.ratio(alone):.2f} by the control; the attacker had "
        f"{statistics.median(appetite):.2f} CPUs; memory {before:.0f} {most - before:+.0f} MiB"
    )
    ratios = {"p99_ratio": attack.ratio(alone), "p99_ratio_of_the_control": control.ratio(alone)}
    print(json.dumps({**ratios, "memory_mib": most - before}))
    return 0 if alive else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each turn")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    return run(options.seconds, options.connections, options.kinds)


if __name__ == "__main__":
    sys.exit(main())
