"""The lessons for a class: what students get, what teachers keep, and nbgrader's source, all from notebooks/.

    python -m amlrealtimeai.lab.release FOLDER

student/    without the folded solutions; solution/ with every exercise solved
source/     for nbgrader: solutions between ### BEGIN SOLUTION and ### END SOLUTION, a graded cell behind each exercise,
            and nbgrader_config.py above it; `nbgrader generate_assignment 05_SSL --create` takes it from there
"""

import copy
import html
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amlrealtimeai import command_line
from amlrealtimeai.core.arguments import writing
from amlrealtimeai.errors import NotFoundError

_ROOT = Path(__file__).resolve().parents[2]
_CHECK = re.compile(r"^lab\.check\.(\w+)\(.*\)$", re.M)
_SOLUTION = re.compile(r"\n?<details><summary>Solution</summary>\s*<pre>(.*?)</pre></details>", re.S)
_CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "amlrealtimeai"
c.ClearSolutions.code_stub = {"python": "# your code here"}
c.ExecutePreprocessor.timeout = 600
"""


def student(notebook: Any) -> Any:
    """The notebook without its solutions; hints stay."""
    return _transformed(notebook, lambda cell, solution: [cell])


def solved(notebook: Any) -> Any:
    """The notebook with every exercise solved."""
    return _transformed(notebook, lambda cell, solution: [_with(cell, solution)])


def source(notebook: Any) -> Any:
    """The notebook as nbgrader wants it: marked solutions, and a graded cell of one point behind each exercise."""

    def marked(cell: Any, solution: str) -> list[Any]:
        answer = _with(cell, f"### BEGIN SOLUTION\n{solution}\n### END SOLUTION")
        found = _CHECK.search(cell.source)
        assert found
        answer.metadata["nbgrader"] = _marks(found[1], solution=True)
        graded = copy.deepcopy(cell)
        graded.source = f"verdict = {found[0]}\nassert verdict.passed, verdict.text"
        graded.id = f"{cell.id}-graded"
        graded.metadata = {"nbgrader": {**_marks(f"{found[1]}_graded", solution=False), "points": 1}}
        return [answer, graded]

    return _transformed(notebook, marked)


def _marks(name: str, solution: bool) -> dict[str, Any]:
    ends = {"solution": solution, "grade": not solution, "locked": not solution, "task": False}
    return {"grade_id": name, "schema_version": 3, **ends}


def _with(cell: Any, solution: str) -> Any:
    """The exercise's cell with the solution before its check."""
    made = copy.deepcopy(cell)
    made.source = _CHECK.sub(lambda check: f"{solution}\n\n{check[0]}", cell.source)
    return made


def _transformed(notebook: Any, exercise: Callable[[Any, str], list[Any]]) -> Any:
    made = copy.deepcopy(notebook)
    made.cells = []
    for position, cell in enumerate(notebook.cells):
        found = _SOLUTION.search(notebook.cells[position + 1].source) if position + 1 < len(notebook.cells) else None
        if cell.cell_type == "code" and _CHECK.search(cell.source) and found:
            made.cells += exercise(cell, html.unescape(found[1]))
        else:
            made.cells.append(copy.deepcopy(cell))
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION.sub("", cell.source)
        else:
            cell.outputs, cell.execution_count = [], None
    return made


def write(folder: Path) -> list[Path]:
    """Write student/, solution/, source/ and nbgrader_config.py into `folder`; returns the notebooks.

    A nbgrader_config.py that is there stays: it may name a teacher's own course. Raises InvalidInputError where the
    folder cannot be written.
    """
    lessons = sorted((_ROOT / "notebooks").glob("*.ipynb"))
    if not lessons:
        raise NotFoundError(f"no notebooks in {_ROOT / 'notebooks'}; run this from a clone of the repository")
    with writing("folder", folder):
        return _written(lessons, folder)


def _written(lessons: Sequence[Path], folder: Path) -> list[Path]:
    import nbformat

    written = []
    for lesson in lessons:
        notebook = nbformat.read(lesson, as_version=4)
        for kind, transform in (("student", student), ("solution", solved), ("source", source)):
            # nbgrader wants a folder for every assignment
            path = folder / kind / (lesson.stem if kind == "source" else "") / lesson.name
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(transform(notebook), path)
            written.append(path)
    if not (folder / "nbgrader_config.py").exists():
        (folder / "nbgrader_config.py").write_text(_CONFIG)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = command_line.Parser(prog="python -m amlrealtimeai.lab.release", description="The lessons for a class.")
    parser.add_argument("folder", type=Path, help="where student/, solution/ and source/ are written")
    options = parser.parse_args(arguments)

    def run() -> None:
        print(f"{len(write(options.folder))} notebooks in {options.folder}")

    return command_line.run(run)


if __name__ == "__main__":
    sys.exit(main())
