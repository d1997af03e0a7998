"""Old programs as they stand, in processes of their own: TensorFlow's switches are thrown once and for all."""

import subprocess
import sys
from pathlib import Path

import pytest

from amlrealtimeai import resources

ROOT = Path(__file__).parents[2]
PICTURE = resources.path("images/red_fox.jpg").resolve()


def run(*arguments: object) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize(("switch", "notebooks"), [("disable_eager_execution", 4), ("disable_v2_behavior", 6)])
def test_the_notebooks_of_three_editions(switch: str, notebooks: int, tmp_path: Path) -> None:
    found = run("-m", "tests.core.old_editions", tmp_path, PICTURE, switch)
    assert found.count(" ran\n") == notebooks


@pytest.mark.slow
def test_the_object_detection_notebook(tmp_path: Path) -> None:
    found = run("tests/core/old_object_detection.py", tmp_path, PICTURE)
    assert found.splitlines()[-1].startswith("found ")


@pytest.mark.slow
def test_the_middle_edition_after_disable_v2_behavior() -> None:
    chosen = "keras_classifier or imported_twice"
    found = run("-m", "pytest", "-q", "-p", "tests.v1_behavior", "tests/contrib/test_brainwave.py", "-k", chosen)
    assert "2 passed" in found
