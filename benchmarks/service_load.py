"""Clients that keep a server busy: each sends one request after the other on a connection of its own."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

BACK_OFF, LONGEST = 0.1, 3.2  # seconds that a refused client waits, each time twice as long, as a real one does
TIMEOUT = 60.0
Connect = Callable[[], grpc.Channel]


@dataclass
class Load:
    """What the clients saw: milliseconds of answered requests, with the time of the answer, and codes."""

    milliseconds: list[float] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds

    def percentile(self, percent: float, start: float = 0.0, end: float = float("inf")) -> float:
        """Of the answers that came between two moments of time.monotonic()."""
        chosen = [ms for ms, moment in zip(self.milliseconds, self.moments, strict=True) if start <= moment <= end]
        return float(np.percentile(chosen, percent)) if chosen else float("nan")

    def failures(self) -> int:
        """Requests that were neither answered nor refused for being too many."""
        return sum(count for code, count in self.codes.items() if code not in ("OK", "RESOURCE_EXHAUSTED"))

    def __str__(self) -> str:
        others = ", ".join(f"{code} {count}" for code, count in self.codes.items() if code != "OK") or "none"
        times = f"p50 {self.percentile(50):7.1f} ms  p99 {self.percentile(99):7.1f} ms"
        return f"{self.rate:7.1f}/s  {times}  refused: {others}"


@contextmanager
def load(connect: Connect, method: str, request: bytes, clients: int, metadata: tuple = ()) -> Iterator[Load]:
    """Run the clients as long as the block lasts; metadata may be a function that is asked before every request."""
    result, stop, lock = Load(), threading.Event(), threading.Lock()
    barrier = threading.Barrier(clients + 1)

    def run() -> None:
        with connect() as channel:
            call = channel.unary_unary(method)
            barrier.wait()
            pause = BACK_OFF
            while not stop.is_set():
                start = time.monotonic()
                try:
                    call(request, timeout=TIMEOUT, metadata=metadata() if callable(metadata) else metadata)
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                end = time.monotonic()
                with lock:
                    result.codes[code] += 1
                    if code == "OK":
                        result.milliseconds.append((end - start) * 1e3)
                        result.moments.append(end)
                if code == "OK":
                    pause = BACK_OFF
                else:
                    stop.wait(pause * random.uniform(0.75, 1.25))
                    pause = min(2 * pause, LONGEST)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.monotonic()
    try:
        yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT + 5)
        result.seconds = time.monotonic() - begin
        if any(thread.is_alive() for thread in threads):
            result.codes["HANGING"] += sum(thread.is_alive() for thread in threads)


def measured(
    connect: Connect,
    method: str,
    request: bytes,
    clients: int,
    seconds: float,
    metadata: tuple = (),
    warm_up: float = 0.5,
) -> Load:
    """What was seen in `seconds` of load, after some warming up; the codes are those of the whole time."""
    with load(connect, method, request, clients, metadata) as result:
        time.sleep(warm_up)
        start = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
    kept = [pair for pair in zip(result.milliseconds, result.moments, strict=True) if start <= pair[1] <= end]
    return Load([ms for ms, _ in kept], [moment for _, moment in kept], result.codes, end - start)
