"""Hostile requests against a server in a process of its own, for as long as one likes:

    python -m tests.hardening.soak [--requests 200000] [--clients 4] [--seed 0]

Every request has to be answered with an expected code, every thousandth one is a good one that has to get its exact
answer, the server has to be alive at the end, and its memory may not grow after a first helping. Prints the figures;
exit status 1 if anything of this failed. `make soak` runs it.
"""

import argparse
import collections
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc

from amlrealtimeai.serving.protocol import protos
from tests.hardening import fuzz
from tests.serving.conftest import predict
from tests.serving.models import arithmetic_model, image_model, many_output_model
from tests.serving.process.test_process import Watched
from tests.serving.processes import service

GROWTH_MIB = 20.0
WARM_UP = 5_000  # of the same requests first: what they need once is no leak
TIMEOUT = 20.0
AT_ONCE = 6  # calls of one client; all together below max_in_flight, so that good requests get their place


class Soak:
    """Clients that share a count of requests and what came of them."""

    def __init__(self, port: int, requests: int, clients: int, seed: int) -> None:
        self.codes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0
        self.sent = 0
        self._target = f"127.0.0.1:{port}"
        self._left = requests
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(seed * 1000 + i,)) for i in range(clients)]
        with grpc.insecure_channel(self._target) as channel:
            self._good = predict(channel, fuzz.GOOD).SerializeToString(deterministic=True)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def run(self, pid: int, say: Callable[[str], None] = lambda text: None) -> float:
        """Send everything; returns the most memory (MiB) that the server `pid` had meanwhile."""
        self.start()
        most, minute = resident(pid), time.monotonic() + 60
        while any(thread.is_alive() for thread in self._threads):
            time.sleep(0.2)
            most = max(most, resident(pid))
            if time.monotonic() > minute:
                minute += 60
                say(f"{self.sent} sent, {resident(pid):.0f} MiB")
        return most

    def _run(self, seed: int) -> None:
        source = random.Random(seed)
        options = [("grpc.use_local_subchannel_pool", 1)]
        place = threading.Semaphore(AT_ONCE)
        with grpc.insecure_channel(self._target, options) as channel:
            call = channel.unary_unary(f"/{protos.PREDICTION_SERVICE}/Predict")
            while self._take() and not self.wrong:
                if source.random() < 0.001:
                    self._check_good(channel)
                data = fuzz.request(source)
                place.acquire()
                ended = partial(self._ended, data, time.perf_counter(), place)
                call.future(data, timeout=TIMEOUT).add_done_callback(ended)
            for _ in range(AT_ONCE):
                place.acquire()

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            self.sent += self._left >= 0
            return self._left >= 0

    def _ended(self, data: bytes, start: float, place: threading.Semaphore, future: grpc.Future) -> None:
        code = future.code().name
        if code not in fuzz.EXPECTED:
            self.wrong.append(f"{code}: {future.details()}; request {data[:2000].hex()}")
        with self._lock:
            self.codes[code] += 1
            self.slowest = max(self.slowest, time.perf_counter() - start)
        place.release()

    def _check_good(self, channel: grpc.Channel) -> None:
        if predict(channel, fuzz.GOOD, timeout=TIMEOUT).SerializeToString(deterministic=True) != self._good:
            self.wrong.append("a good request got another answer than before")


def resident(pid: int) -> float:
    """MiB of memory that the process has, 0 where /proc does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def run(requests: int, clients: int, seed: int, report: bool = True) -> list[str]:
    """What went wrong, as sentences; nothing: all is well."""
    with tempfile.TemporaryDirectory() as folder:
        watched = Watched(Path(folder))
        models = {"means": image_model, "arithmetic": arithmetic_model, "heads": many_output_model}
        made = {name: str(make(Path(folder) / f"{name}.accelonnx")) for name, make in models.items()}
        watched.write(**{name: {"model": path} for name, path in made.items()})
        with service("--watch", watched.path, "--port", 0, "--limit", "workers=2") as server:
            watched.applied()
            first = Soak(server.port, min(requests, WARM_UP), clients, seed)
            early = first.run(server.process.pid)
            soak = Soak(server.port, requests, clients, seed)
            start = time.monotonic()
            soak.run(server.process.pid, print if report else lambda text: None)
            seconds = time.monotonic() - start
            growth = resident(server.process.pid) - early
            wrong = first.wrong + soak.wrong
            if server.process.poll() is not None:
                wrong.append(f"the server ended with status {server.process.returncode}")
            elif server.terminate()[0] != 0:
                wrong.append("the server did not end with status 0")
    if sum(soak.codes.values()) < requests and not wrong:
        wrong.append(f"{requests - sum(soak.codes.values())} requests were not answered")
    if growth > GROWTH_MIB:
        wrong.append(f"memory grew by {growth:.0f} MiB")
    if report:
        codes = ", ".join(f"{code} {count}" for code, count in soak.codes.most_common())
        count = sum(soak.codes.values())
        print(f"{count} hostile requests in {seconds:.0f} s, {count / seconds:.0f} a second: {codes}")
        print(
            f"slowest answer {soak.slowest:.2f} s; memory {early:.0f} MiB at most in the warm-up, "
            f"{growth:+.1f} MiB at the end"
        )
        print("\n".join(wrong) or "no crash, no hang, no leak, every good request answered")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return 1 if run(options.requests, options.clients, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
