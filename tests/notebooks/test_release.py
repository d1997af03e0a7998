"""The lessons for a class: students get no solutions, teachers get all, nbgrader gets its marks."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from amlrealtimeai.lab import release
from tests.notebooks.test_lessons import EXERCISES, LESSONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("class")
    assert release.main([str(made)]) == 0
    return made


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_each_kind_of_a_lesson(lesson, folder):
    places = {"student": lesson.name, "solution": lesson.name, "source": f"{lesson.stem}/{lesson.name}"}
    found = {kind: nbformat.read(folder / kind / place, as_version=4) for kind, place in places.items()}
    for notebook in found.values():
        nbformat.validate(notebook)
        text = "\n".join(cell.source for cell in notebook.cells)
        assert "<summary>Solution" not in text and "<summary>Hint" in text
        assert not any(cell.get("outputs") for cell in notebook.cells)
    code = {kind: [c.source for c in notebook.cells if c.cell_type == "code"] for kind, notebook in found.items()}
    assert code["student"] == [c.source for c in nbformat.read(lesson, as_version=4).cells if c.cell_type == "code"]
    changed = [made for made, stub in zip(code["solution"], code["student"], strict=True) if made != stub]
    assert len(changed) == EXERCISES[lesson.stem]
    for cell in changed:
        assert re.match(r"lab\.check\.", cell.splitlines()[-1]) and len(ast.parse(cell).body) >= 3


def test_a_teachers_own_course_is_kept_and_a_place_that_cannot_be_is_named(tmp_path, capsys):
    (tmp_path / "nbgrader_config.py").write_text("# my course")
    assert release.main([str(tmp_path)]) == 0 and (tmp_path / "nbgrader_config.py").read_text() == "# my course"
    for place in (tmp_path / "nbgrader_config.py", Path("/proc/class"), tmp_path / ("x" * 300)):
        assert release.main([str(place)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: folder: ") and "cannot be written" in err and err.count("\n") == 1


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_nbgraders_marks(lesson, folder):
    notebook = nbformat.read(folder / "source" / lesson.stem / lesson.name, as_version=4)
    marked = [(cell, cell.metadata["nbgrader"]) for cell in notebook.cells if "nbgrader" in cell.metadata]
    answers = [cell.source for cell, marks in marked if marks["solution"] and not marks["locked"]]
    graded = [cell.source for cell, marks in marked if marks["grade"] and marks["locked"] and marks["points"] == 1]
    assert len(answers) == len(graded) == EXERCISES[lesson.stem]
    assert len({marks["grade_id"] for _, marks in marked}) == len(marked)
    for answer, test in zip(answers, graded, strict=True):
        assert answer.count("### BEGIN SOLUTION") == answer.count("### END SOLUTION") == 1
        assert test.startswith("verdict = lab.check.") and test.endswith("assert verdict.passed, verdict.text")
    assert (folder / "nbgrader_config.py").read_text().startswith("c = get_config()")
