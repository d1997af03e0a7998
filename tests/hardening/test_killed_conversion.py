"""kill -9 in the middle of a conversion: what is listed afterwards is whole, and the next conversion cleans up."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.core import Model, Workspace
from tests.convert import networks
from tests.store.helpers import assert_whole, leftovers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process with TensorFlow")

# Forks a child for every line "file function event": it converts, and dies when that function is called or returns.
CODE = """
import os, signal, sys, threading
from amlrealtimeai.accel import AccelOnnxConverter
from amlrealtimeai.convert import convert_saved_model
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.core import Model, Workspace
tensorflow()

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def tracer(file, function, event):
    def on_event(frame, what, argument):
        if what == "return":
            die()
        return on_event
    def on_call(frame, what, argument):
        if frame.f_code.co_name == function and frame.f_code.co_filename.endswith("amlrealtimeai/" + file):
            return die() if event == "call" else on_event
    return on_call

def convert(moment):
    if moment:
        threading.settrace(tracer(*moment))
    workspace = Workspace.get(sys.argv[1])
    source = Model(workspace, "small")
    request = AccelOnnxConverter.convert_tf_model(workspace, source, "Placeholder:0", "classifier/probabilities:0")
    return request.wait_for_completion()

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(0 if convert(line.split()) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

UNFINISHED = (
    "store/folders.py _place return",  # the first file of the network has been unpacked
    "convert/convert.py _convert call",
    "npu/program_file.py save return",
    "convert/partition.py plan_stages return",
    "convert/convert.py _npu_stage return",
    "artifact/converted.py _add return",  # the first member of the file has been written
    "convert/checks.py check_converted call",
    "core/model.py register call",
    "store/store.py _copy_file return",
    "store/blobs.py commit call",
    "store/blobs.py commit return",  # the bytes are a blob, which no row names yet
)
FINISHED = "store/store.py add_version return"


class Converter:
    """The process that forks one child for each conversion."""

    def __init__(self, workspace: Workspace, temporary: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, workspace.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def convert(self, killed_at: str = "") -> int:
        """Exit status of the child."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{killed_at}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    made = Workspace.create("lab")
    Model.register(made, networks.whole(tmp_path / "small"), "small")
    yield made
    made.delete(delete_dependent_resources=True)


def listed_and_whole() -> list[str]:
    """Ids of the models, after opening the workspace again; nothing of the dead is left."""
    workspace = Workspace.get("lab")
    assert_whole(workspace.store)
    assert leftovers(workspace.store) == []
    kept = workspace.store.path / "kept"
    assert [str(path) for path in kept.rglob("*.*.*") if path.name.startswith(".")] == []
    for model in Model.list(workspace):
        if model.is_converted:
            ConvertedModel.load(model.kept_path()).warm_up()
    return sorted(model.id for model in Model.list(workspace))


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_half(workspace: Workspace, tmp_path: Path) -> None:
    system = tmp_path / "tmp"
    system.mkdir()
    converter = Converter(workspace, system)
    try:
        for moment in UNFINISHED:
            assert converter.convert(killed_at=moment) == -9, f"{moment} was not reached"
            assert listed_and_whole() == ["small:1"], moment
            assert list(system.iterdir()) == [], moment
        assert converter.convert(killed_at=FINISHED) == -9
        assert listed_and_whole() == ["small.1.accelonnx:1", "small:1"]
        assert converter.convert() == 0
        assert listed_and_whole() == ["small.1.accelonnx:1", "small.1.accelonnx:2", "small:1"]
        first, second = (Model(workspace, id=f"small.1.accelonnx:{version}") for version in (1, 2))
        assert first.url == second.url, "the same bytes, whoever died before"
    finally:
        converter.close()
