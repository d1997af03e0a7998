"""Old programs as they stand, in processes of their own: TensorFlow's switches are thrown once and for all."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amlrealtimeai import resources

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks a process with TensorFlow")

ROOT = Path(__file__).parents[2]
PICTURE = resources.path("images/red_fox.jpg").resolve()

# TensorFlow takes longer to load than most of the programs to run: it is loaded once, and nothing else is, because they
# throw its switches next. Each line of standard input is a program, which a fork runs to its end.
CODE = """
import json, os, runpy, sys
import tensorflow

def next_program():
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)

program = next_program()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(os.dup2(os.open(program["output"], os.O_WRONLY | os.O_CREAT), 1), 2)
os.environ.update(program["environment"])
sys.argv[1:] = program["arguments"]
runpy.run_module(program["module"], run_name="__main__", alter_sys=True)
"""


class Programs:
    """The process that forks."""

    def __init__(self) -> None:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", CODE], cwd=ROOT, **pipes)

    def run(self, module: str, *arguments: object, output: Path, **environment: str) -> str:
        """What the program printed."""
        words = [str(argument) for argument in arguments]
        program = {"module": module, "arguments": words, "output": str(output), "environment": environment}
        self.process.stdin.write(json.dumps(program) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        said = output.read_text()
        assert status == 0, said[-6000:]
        return said


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    made = Programs()
    watchdog = threading.Timer(900.0, made.process.kill)
    watchdog.start()
    yield made
    watchdog.cancel()
    made.process.communicate(timeout=60)


@pytest.fixture
def run(programs: Programs, tmp_path: Path) -> Any:
    def run(module: str, *arguments: object) -> str:
        return programs.run(
            module,
            *arguments,
            output=tmp_path / "output",
            AMLREALTIMEAI_HOME=str(tmp_path / "home"),
            PYTHONPATH=str(ROOT),
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("switch", "notebooks"), [("disable_eager_execution", 4), ("disable_v2_behavior", 6)])
def test_the_notebooks_of_three_editions(switch: str, notebooks: int, run: Any, tmp_path: Path) -> None:
    assert run("tests.core.old_editions", tmp_path, PICTURE, switch).count(" ran\n") == notebooks


@pytest.mark.slow
def test_the_object_detection_notebook(run: Any, tmp_path: Path) -> None:
    found = run("tests.core.old_object_detection", tmp_path, PICTURE)
    assert found.splitlines()[-1].startswith("found ")


@pytest.mark.slow
def test_the_middle_edition_after_disable_v2_behavior(run: Any) -> None:
    chosen = "keras_classifier or imported_twice"
    found = run("pytest", "-q", "-p", "tests.v1_behavior", "tests/contrib/test_brainwave.py", "-k", chosen)
    assert "2 passed" in found
