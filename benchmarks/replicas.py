"""Replicas behind one address: measured here with 1, 2 and 3, and on paper for 10, 100 and 1,000 FPGAs.

    python -m benchmarks.replicas MODEL.accelonnx [IMAGE] [--seconds 10] [--clients 8] [--fpga-ms 1.8]

Each replica gets CPUs / replicas threads. CPU time is read from /proc: it says what a request costs the front (the
server that all clients connect to) and a replica, whatever else the machine does. The table on paper divides what so
many FPGAs could answer by what one front can pass on, a CPU of its own assumed for each front; an FPGA is either
emulated on one CPU of this machine, or takes --fpga-ms (Microsoft published 1.8 ms for ResNet-50).
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

from amlrealtimeai.artifact.stages import usable_cpus
from benchmarks import measuring
from benchmarks.service import PREDICT, connector, made_up_image, process, request_of
from benchmarks.service_load import measured

FPGAS = (10, 100, 1000)
BUSY = 0.8  # of its CPU that a front should use
CONNECTIONS = 1024  # max_connections of a server, by default
_HELD = 400  # connections that are opened to see what one takes
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """Answers a second, p50 in ms, CPU seconds a request of the front and of the replicas, refused or failed."""

    replicas: int
    rate: float
    p50: float
    front: float
    replica: float
    lost: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--fpga-ms", type=float, default=1.8)
    options = parser.parse_args()
    image = options.image.read_bytes() if options.image else made_up_image()
    print(f"{measuring.machine()}; {options.model.name}, image of {len(image)} bytes, {options.clients} clients\n")
    found = [measure(options, image, count) for count in (1, 2, 3)]
    rows = [
        [
            str(m.replicas),
            f"{m.rate:.0f}",
            f"{m.p50:.1f}",
            f"{1e3 * m.front:.2f}",
            f"{1e3 * m.replica:.2f}",
            str(m.lost),
        ]
        for m in found
    ]
    print(measuring.table(["replicas", "answers/s", "p50 ms", "front ms CPU", "replica ms CPU", "lost"], rows))
    held = connection_bytes(options.model)
    front = min(m.front for m in found)
    emulated = 1 / min(m.replica for m in found)
    print(f"\none connection takes {held / 1e3:.0f} kB; one front passes on {BUSY / front:.0f} requests/s\n")
    for title, rate in (("emulated", emulated), (f"of {options.fpga_ms:g} ms", 1e3 / options.fpga_ms)):
        headings = [f"FPGAs, {title}", "requests/s", "Gbit/s", "fronts", "connections", "FPGAs of one front"]
        print(measuring.table(headings, on_paper(rate, front, len(image))) + "\n")


def on_paper(rate: float, front: float, size: int) -> list[list[str]]:
    """Rows for FPGAs that answer `rate` a second, when a request of `size` bytes costs a front `front` seconds."""
    rows = []
    for count in FPGAS:
        fronts = math.ceil(count * rate * front / BUSY)
        rows.append(
            [
                f"{count:,}",
                f"{count * rate:,.0f}",
                f"{count * rate * size * 8 / 1e9:.2f}",
                f"{fronts:,}",
                f"{fronts * CONNECTIONS:,}",
                f"{BUSY / front / rate:.1f}",
            ]
        )
    return rows


def measure(options: argparse.Namespace, image: bytes, replicas: int) -> Measured:
    """The service under load, each replica with its share of the CPUs."""
    with tempfile.TemporaryDirectory() as folder:
        # "most" 2: a process of its own even for one; no look at the load while this measures
        bounds = {"least": replicas, "most": max(2, replicas), "seconds": 3600}
        watched = Path(folder) / "services.json"
        services = {"model": {"model": str(options.model.resolve()), "replicas": bounds}}
        watched.write_text(json.dumps({"services": services}))
        threads = max(1, usable_cpus() // replicas)
        command = (sys.executable, "-m", "amlrealtimeai.serving", "--watch", watched, "--port", 0, "--threads", threads)
        with process(*command) as (server, line):
            port = int(line.rpartition(":")[2])
            measured(connector(port), PREDICT, request_of(image), options.clients, 1.0)
            before = cpu_seconds(server.pid)
            result = measured(connector(port), PREDICT, request_of(image), options.clients, options.seconds, warm_up=0)
            front, below = (after - b for after, b in zip(cpu_seconds(server.pid), before, strict=True))
            answers = result.codes["OK"]
            lost = sum(result.codes.values()) - answers
            return Measured(replicas, result.rate, result.percentile(50), front / answers, below / answers, lost)


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Of a process, and of its children."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return _cpu(pid), sum(map(_cpu, children))


def _cpu(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def connection_bytes(model: Path) -> float:
    """What a connection adds to the memory of a server."""
    with process(sys.executable, "-m", "amlrealtimeai.serving", model, "--port", 0) as (server, line):
        port = int(line.rpartition(":")[2])
        before = _resident(server.pid)
        channels = [
            grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) for _ in range(_HELD)
        ]
        for channel in channels:
            grpc.channel_ready_future(channel).result(30)
        held = (_resident(server.pid) - before) / _HELD
        for channel in channels:
            channel.close()
        return held


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
