"""The container image: its size, a rebuild after a change of the model, and podman's start to the first answer.

    python -m benchmarks.image MODEL.accelonnx OTHER.accelonnx PICTURE.jpg [--rounds 5]

Targets: 90 MiB compressed without the model, 3 s, 3 s, 200 MB resident; exit status 1 where one is missed. Best times
of the rounds: other work on the machine only makes them longer.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from amlrealtimeai.client import ServiceClient
from amlrealtimeai.containers import ImageInfo, build_image, find_engine, run
from benchmarks import measuring


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("other", type=Path, help="another model, built in turns with it")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        models = chosen.model, chosen.other
        image = build_image(models[0], Path(name) / "image.tar", name="measured", tag="1")  # fills the layer cache
        turns = [models[(turn + 1) % 2] for turn in range(chosen.rounds)]
        rebuilt = [build_image(m, Path(name) / "again.tar", name="measured", tag="1").seconds for m in turns]
        starts, resident = zip(*(start(image, chosen.picture) for _ in range(chosen.rounds)), strict=True)
        find_engine("podman").call("image", "rm", image.id)
    shared = sum(layer.size for layer in image.layers if layer.kind != "model") / 2**20
    found = [
        ("image without the model, compressed, MiB", shared, shared, 90),
        ("rebuild after a change of the model, s", min(rebuilt), max(rebuilt), 3),
        ("podman start to the first answer, s", min(starts), max(starts), 3),
        ("resident after it, MB", min(resident), max(resident), 200),
    ]
    print(f"{measuring.machine()}\n")
    rows = [[what, f"{best:.1f}", f"{worst:.1f}", str(target)] for what, best, worst, target in found]
    print(measuring.table(["", "best", "worst", "target"], rows))
    sys.exit(any(best > target for _, best, _, target in found))


def start(image: ImageInfo, picture: Path) -> tuple[float, float]:
    """Seconds from podman's start, with the image loaded, to an answer; the server's resident MB."""
    begin = time.perf_counter()
    with run(image, engine="podman") as running, ServiceClient(running.address) as client:
        client.run(picture.read_bytes())
        seconds = time.perf_counter() - begin
        shown = ("inspect", "--type", "container", "--format", "{{.State.Pid}}")
        pid = running.engine.call(*shown, running.id)
        return seconds, family_resident(int(pid))


def family_resident(pid: int) -> float:
    """Resident MB of a process and its children: the server may run under a supervisor."""
    text = Path(f"/proc/{pid}/status").read_text()
    own = int(text.split("VmRSS:")[1].split()[0]) * 1024 / 1e6
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(family_resident(int(child)) for child in children)


if __name__ == "__main__":
    main()
