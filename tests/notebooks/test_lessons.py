"""What every notebook is made like: what can be seen without running it. `twice` runs them."""

import ast
import html
import os
import re
import subprocess
import symtable
import sys
from pathlib import Path

import nbformat
import pytest
from nbconvert.filters import markdown2html

from amlrealtimeai.lab import check

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXERCISES = {
    "00_QuickStart": 3,
    "01_ModelBuild": 3,
    "02_Convert": 3,
    "03_Deploy": 3,
    "04_ObjectDetection": 3,
    "05_SSL": 3,
}

pytestmark = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def cells(lesson, kind):
    return [cell for cell in nbformat.read(lesson, as_version=4).cells if cell.cell_type == kind]


def python(cell):
    """A cell's code as a syntax tree; lines of magic are none."""
    return ast.parse("\n".join("pass" if line.startswith("%") else line for line in cell.source.splitlines()))


def test_it_begins_with_its_card_and_ends_with_cleaning_up(lesson):
    notebook = nbformat.read(lesson, as_version=4)
    card = notebook.cells[0].source
    for word in ("**Goal.**", "| Time |", "of machine time", "of memory", "| You need |", "| Real |"):
        assert word in card, word
    assert notebook.cells[-1].source.splitlines()[-1] == "lab.clean_up()"
    assert "lab.start(" in "".join(cell.source for cell in cells(lesson, "code"))


def test_its_card_says_what_the_list_of_lessons_says(lesson):
    card = nbformat.read(lesson, as_version=4).cells[0].source
    row = re.search(rf"^\|[^|]*{lesson.stem}.*", (ROOT / "docs" / "lessons.md").read_text(), re.M)
    *_, minutes, _, memory, _ = (column.strip() for column in row[0].split("|"))
    assert f"| Time | {minutes.replace('min', 'minutes')} to read" in card
    assert f"the kernel takes {memory} of memory" in card


def test_code_fits_the_page(lesson):
    for cell in cells(lesson, "code"):
        lines = cell.source.splitlines()
        assert len(lines) <= 20 and all(len(line) <= 100 for line in lines), lines[0]


def test_every_assert_says_what_it_expected(lesson):
    for cell in cells(lesson, "code"):
        for node in ast.walk(python(cell)):
            assert not isinstance(node, ast.Assert) or node.msg is not None, cell.source


def test_no_cell_changes_how_later_errors_are_shown(lesson):
    assert all("xmode" not in cell.source for cell in cells(lesson, "code"))


def made_and_read(cell):
    """What a cell makes, {name: how, if it is an import}, and the names that it takes from the cells before it."""
    source = "\n".join("" if line.startswith("%") else line for line in cell.source.splitlines())
    top = symtable.symtable(source, "cell", "exec")
    imports = [step for step in ast.parse(source).body if isinstance(step, ast.Import | ast.ImportFrom)]
    how = {each.asname or each.name: ast.unparse(step) for step in imports for each in step.names}
    names = {name.get_name() for name in top.get_symbols() if name.is_assigned() or name.is_imported()}
    read, tables = {name.get_name() for name in top.get_symbols() if name.is_referenced()}, top.get_children()
    while tables:
        table = tables.pop()
        read |= {name.get_name() for name in table.get_symbols() if name.is_global()}
        tables += table.get_children()
    return {name: how.get(name, cell.id) for name in names}, read - names


def test_who_goes_back_finds_every_name_as_it_was(lesson):
    """No two cells make what a third one reads: run after both, it would find another thing than the first time."""
    found = [made_and_read(cell) for cell in cells(lesson, "code")]
    for _, read in found:
        for name in read:
            assert len({made[name] for made, _ in found if name in made}) <= 1, name


def test_whoever_has_restarted_the_kernel_can_clean_up(lesson, tmp_path):
    """The last cell alone, in a kernel that has run nothing."""
    environment = os.environ | {"AMLREALTIMEAI_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", cells(lesson, "code")[-1].source], env=environment, text=True, capture_output=True
    )
    assert (done.stdout, done.stderr) == ("nothing to remove: no lesson was started in this kernel\n", "")


def test_nothing_of_this_machine_is_stored(lesson):
    for cell in cells(lesson, "code"):
        stored = str(cell.outputs)
        for word in ("/work/", "/home/", "/root/", "widget-view", "Traceback"):
            assert word not in stored, (word, cell.source)
        assert "execution" not in cell.metadata
        learners = re.findall(r"\b[a-z]+-([a-z]+)-[0-9a-f]{4}\b", stored)
        assert set(learners) <= {"ada"}, cell.source


def test_every_stored_picture_has_words(lesson):
    for cell in cells(lesson, "code"):
        for output in cell.outputs:
            data = output.get("data", {})
            assert not {"image/png", "image/jpeg", "image/svg+xml"} & set(data), cell.source
            for image in re.findall(r"<img [^>]*>", data.get("text/html", "")):
                alt = re.search(r'alt="([^"]*)"', image)
                assert alt and len(alt[1]) > 8, image[:80]


def test_every_output_was_stored_by_a_run_in_order(lesson):
    counts = [cell.execution_count for cell in cells(lesson, "code")]
    assert counts == list(range(1, len(counts) + 1))


def test_every_exercise_has_a_hint_a_solution_and_an_open_check(lesson):
    notebook = nbformat.read(lesson, as_version=4).cells
    found = [(i, cell) for i, cell in enumerate(notebook) if re.search(r"^lab\.check\.", cell.source, re.M)]
    assert len(found) == EXERCISES[lesson.stem]
    for position, cell in found:
        assert "in place of None" in cell.outputs[-1].data["text/plain"]
        assert re.search(r"^lab\.check\.(\w+)\(", cell.source, re.M)[1] in check.__all__
        behind = notebook[position + 1].source
        assert "<summary>Hint" in behind and "<summary>Solution</summary>" in behind
        ast.parse(html.unescape(re.search(r"<pre>(.*?)</pre>", behind, re.S)[1]))


def test_solutions_keep_their_lines_where_they_are_read(lesson):
    """A blank line ends a block of HTML, unless that began with <pre>: what follows would lose its indentation."""
    for cell in cells(lesson, "markdown"):
        shown = markdown2html(cell.source)
        for solution in re.findall(r"<summary>Solution</summary>\s*<pre>(.*?)</pre>", cell.source, re.S):
            assert f"<pre>{solution}</pre>" in shown


def test_what_answers_a_prediction_is_folded(lesson):
    folded = [cell for cell in cells(lesson, "code") if cell.metadata.get("jupyter", {}).get("outputs_hidden")]
    predictions = [cell for cell in cells(lesson, "code") if re.match(r"my_guess\w* = None", cell.source)]
    assert len(folded) >= len(predictions) >= 1


def test_links_lead_somewhere_from_the_notebook_and_from_a_learners_copy(lesson):
    links = [link for cell in cells(lesson, "markdown") for link in re.findall(r"\]\(([^)\s]+)\)", cell.source)]
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        for folder in ("notebooks", "my-lessons"):
            target = (ROOT / folder / link.partition("#")[0]).resolve()
            if folder == "my-lessons" and target.parent == ROOT / folder:
                target = ROOT / "notebooks" / target.name
            assert target.exists(), link
