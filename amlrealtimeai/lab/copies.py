"""The learner's own copies of the lessons: what is in version control stays as it is."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from amlrealtimeai.core.arguments import writing
from amlrealtimeai.errors import NotFoundError

FOLDER = "my-lessons"  # beside notebooks/, so that links to the sources lead to them from either


def copy(root: Path) -> list[Path]:
    """Copy notebooks/*.ipynb into my-lessons/; a copy that is there stays. Returns the new ones."""
    lessons = sorted((root / "notebooks").glob("*.ipynb"))
    if not lessons:
        raise NotFoundError(f"no notebooks in {root / 'notebooks'}; run this from a clone of the repository")
    with writing("the copies", root / FOLDER):
        (root / FOLDER).mkdir(exist_ok=True)
        new = [lesson for lesson in lessons if not (root / FOLDER / lesson.name).exists()]
        return [Path(shutil.copyfile(lesson, root / FOLDER / lesson.name)) for lesson in new]


def command(root: Path, options: Sequence[str] = ()) -> list[str]:
    """What opens JupyterLab on the copies; its root is the repository, so links to the sources work."""
    words = [sys.executable, "-m", "jupyter", "lab", "--ServerApp.root_dir", str(root)]
    words += ["--LabApp.default_url", f"/lab/tree/{FOLDER}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-root")  # in a container everybody is root, and Jupyter would refuse
    return [*words, *options]


def open_lab(options: Sequence[str] = ()) -> int:
    """Copy what is missing, say so, and become JupyterLab."""
    root = Path(__file__).resolve().parents[2]
    new = copy(root)
    print(f"Your copies of the lessons are in {root / FOLDER} ({len(new)} new). To have one afresh, delete it there.")
    sys.stdout.flush()
    words = command(root, options)
    os.execv(words[0], words)
