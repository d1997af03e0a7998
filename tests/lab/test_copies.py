"""`lab` opens copies: what is in version control is never touched, and a learner's work is never overwritten."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab import copies


def a_clone(root: Path) -> Path:
    (root / "notebooks").mkdir(parents=True)
    for name in ("00_QuickStart", "05_SSL"):
        (root / "notebooks" / f"{name}.ipynb").write_text(name)
    return root


def test_a_copy_that_was_changed_stays(tmp_path):
    root = a_clone(tmp_path)
    assert [path.name for path in copies.copy(root)] == ["00_QuickStart.ipynb", "05_SSL.ipynb"]
    mine = root / "my-lessons" / "05_SSL.ipynb"
    mine.write_text("my work")
    (root / "my-lessons" / "00_QuickStart.ipynb").unlink()
    assert [path.name for path in copies.copy(root)] == ["00_QuickStart.ipynb"]
    assert mine.read_text() == "my work" and (root / "notebooks" / "05_SSL.ipynb").read_text() == "05_SSL"


def test_without_notebooks_the_error_says_where_they_are(tmp_path):
    with pytest.raises(NotFoundError, match="run this from a clone"):
        copies.copy(tmp_path)


def test_copies_that_cannot_be_written_are_named(tmp_path):
    root = a_clone(tmp_path)
    (root / "my-lessons").write_text("a file")
    with pytest.raises(InvalidInputError, match=r"the copies: '.*my-lessons' cannot be written"):
        copies.copy(root)


def test_git_does_not_see_the_copies():
    root = Path(__file__).parents[2]
    ignored = subprocess.run(["git", "check-ignore", "-q", "my-lessons/00_QuickStart.ipynb"], cwd=root)
    assert ignored.returncode == 0


def test_jupyter_starts_with_these_options(tmp_path):
    """As root, too; `--show-config` reads the options and ends."""
    words = copies.command(a_clone(tmp_path), ["--show-config"])
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"root_dir = '{tmp_path}'" in said and "default_url = '/lab/tree/my-lessons'" in said
    assert words[0] == sys.executable
    assert os.geteuid() != 0 or "allow_root = True" in said
