"""Replicas behind one address: measured here with 1, 2 and 3, and on paper for 10, 100 and 1,000 FPGAs.

    python -m benchmarks.replicas MODEL.accelonnx [IMAGE] [--seconds 5] [--rounds 3] [--clients 8] [--fpga-ms 1.8]

0 replicas is the model in the server itself. Each replica gets CPUs / replicas threads; the clients share the CPUs. The
counts take turns: the best rate, the least CPU time. CPU time is read from /proc: it says what a request costs the
front (the server that all clients connect to) and a replica, whatever else the machine does. On paper so many FPGAs
meet what one front can pass on with one CPU (it is Python: more threads do not help it), and what decoding costs beside
it. An FPGA is either emulated on one CPU of this machine, or takes --fpga-ms (1.8: Microsoft's figure for ResNet-50).
"""

import argparse
import json
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from amlrealtimeai.npu.cpus import usable_cpus
from amlrealtimeai.serving.request.limits import Limits
from benchmarks import measuring
from benchmarks.service import PREDICT, connector, made_up_image, process, request_of
from benchmarks.service import measure as measure_stages
from benchmarks.service_load import measured

COUNTS = (0, 1, 2, 3)
FPGAS = (10, 100, 1000)
BUSY = 0.8  # of its CPU that a front should use
_HELD = 400  # connections that are opened to see what one takes
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """Answers a second, p50 in ms, CPU ms a request of front and replicas, requests refused or failed, MiB of both."""

    rate: float
    p50: float
    front: float
    replicas: float
    lost: int
    front_size: float
    replica_size: float


def main() -> None:
    options = _options()
    image = options.image.read_bytes() if options.image else made_up_image()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{measuring.machine()}; load average {load}; {options.model.name}, image of {len(image)} bytes, ", end="")
    print(f"{options.clients} clients, {options.rounds} rounds of {options.seconds:g} s\n")
    turns = [{count: measure(options, image, count) for count in COUNTS} for _ in range(options.rounds)]
    found = {count: best([turn[count] for turn in turns]) for count in COUNTS}
    columns = ["replicas", "answers/s", "p50 ms", "front ms CPU", "replica ms CPU", "lost", "front MiB", "replica MiB"]
    print(measuring.table(columns, [_row(count, one) for count, one in found.items()]))
    front = min(one.front for count, one in found.items() if count)
    whole = min(one.replicas for count, one in found.items() if count)
    host, held = decoding(options.model, image), connection_bytes(options.model)
    print(
        f"\nOne front passes on {1e3 * BUSY / front:.0f} requests/s; decoding and the classifier take {host:.2f} ms of "
        f"a CPU beside the FPGA; a connection takes {held / 1e3:.0f} kB.\n"
    )
    for title, milliseconds, beside in (
        ("emulated", whole, whole),
        (f"of {options.fpga_ms:g} ms", options.fpga_ms, host),
    ):
        headings = [
            f"FPGAs, {title}",
            "requests/s",
            "Gbit/s",
            "fronts",
            "FPGAs of a front",
            "other CPUs",
            "connections",
        ]
        print(measuring.table(headings, on_paper(milliseconds, beside, front, len(image))) + "\n")


def on_paper(fpga: float, beside: float, front: float, size: int) -> list[list[str]]:
    """Rows for FPGAs that take `fpga` ms for a request of `size` bytes, which costs a front `front` ms of a CPU and
    other processes `beside`.
    """
    rows = []
    for count in FPGAS:
        rate = 1e3 * count / fpga
        fronts = math.ceil(rate * front / 1e3 / BUSY)
        rows.append(
            [
                f"{count:,}",
                f"{rate:,.0f}",
                f"{rate * size * 8 / 1e9:.2f}",
                f"{fronts:,}",
                f"{BUSY * fpga / front:.1f}",
                f"{math.ceil(rate * beside / 1e3):,}",
                f"{fronts * Limits.max_connections:,}",
            ]
        )
    return rows


def best(rounds: list[Measured]) -> Measured:
    """Of the same count: other work on the machine only makes them worse."""
    return Measured(
        max(one.rate for one in rounds),
        min(one.p50 for one in rounds),
        min(one.front for one in rounds),
        min(one.replicas for one in rounds),
        sum(one.lost for one in rounds),
        max(one.front_size for one in rounds),
        max(one.replica_size for one in rounds),
    )


def measure(options: argparse.Namespace, image: bytes, replicas: int) -> Measured:
    """The service under load, each replica with its share of the CPUs."""
    with tempfile.TemporaryDirectory() as folder:
        service: dict[str, object] = {"model": str(options.model.resolve())}
        if replicas:  # "most" 2: a process of its own even for one; no look at the load while this measures
            service["replicas"] = {"least": replicas, "most": max(2, replicas), "seconds": 3600}
        watched = Path(folder) / "services.json"
        watched.write_text(json.dumps({"services": {"model": service}}))
        threads = max(1, usable_cpus() // max(1, replicas))
        command = (sys.executable, "-m", "amlrealtimeai.serving", "--watch", watched, "--port", 0, "--threads", threads)
        with process(*command) as (server, line):
            connect, request = connector(int(line.rpartition(":")[2])), request_of(image)
            measured(connect, PREDICT, request, options.clients, 1.0)
            before = _cpu(server.pid), sum(map(_cpu, _children(server.pid)))
            result = measured(connect, PREDICT, request, options.clients, options.seconds, warm_up=0)
            after = _cpu(server.pid), sum(map(_cpu, _children(server.pid)))
            answers = result.codes["OK"]
            front, below = (1e3 * (then - now) / answers for then, now in zip(after, before, strict=True))
            lost = sum(result.codes.values()) - answers
            sizes = [_resident(pid) / 2**20 for pid in (server.pid, *_children(server.pid))]
            return Measured(
                result.rate, result.percentile(50), front, below, lost, sizes[0], max(sizes[1:], default=0.0)
            )


def decoding(model: Path, image: bytes) -> float:
    """Milliseconds of what stays on a CPU where the network runs on an FPGA; one client, medians."""
    with process(sys.executable, "-m", "amlrealtimeai.serving", model, "--port", 0) as (_, line):
        stages = measure_stages(int(line.rpartition(":")[2]), image, 100)
        return float(np.median(stages["decode"]) + np.median(stages["classifier"]))


def connection_bytes(model: Path) -> float:
    """What a connection adds to the memory of a server."""
    with process(sys.executable, "-m", "amlrealtimeai.serving", model, "--port", 0) as (server, line):
        connect = connector(int(line.rpartition(":")[2]))
        before = _resident(server.pid)
        channels = [connect() for _ in range(_HELD)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(60)
        held = (_resident(server.pid) - before) / _HELD
        for channel in channels:
            channel.close()
        return held


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _cpu(pid: int) -> float:
    """Seconds."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _row(count: int, one: Measured) -> list[str]:
    numbers = f"{one.rate:.1f} {one.p50:.0f} {one.front:.2f} {one.replicas:.2f} {one.lost}"
    return [str(count), *numbers.split(), f"{one.front_size:.0f}", f"{one.replica_size:.0f}" if count else ""]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--fpga-ms", type=float, default=1.8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
