"""docs/ says what is there: every limit with its default, every link, every name that old code imports."""

import doctest
import importlib
import re
from dataclasses import fields
from pathlib import Path

import pytest

from amlrealtimeai import npu
from amlrealtimeai.serving.request.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "sample-clients/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_every_limit_is_listed_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\d,.]+) \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    assert {name: float(value.replace(",", "")) for name, value in listed.items()} == {
        field.name: float(getattr(Limits(), field.name)) for field in fields(Limits)
    }


def test_files_that_the_walks_name_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    walk = text.split("## The way of a request")[1].split("## The way of a picture")[0]
    for name in re.findall(r"`([\w/]+\.py)`", walk):
        rooms = ("serving", "", "artifact")
        assert any((ROOT / "amlrealtimeai" / room / name).is_file() for room in rooms), name


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("core", "Workspace Model AksCompute"),
        ("core.webservice", "AksWebservice Webservice"),
        ("accel", "AccelOnnxConverter AccelContainerImage PredictionClient client_from_service"),
        ("targets.cluster.target", "ClusterTarget"),
        ("targets.cluster.api", "Cluster"),
    ],
)
def test_names_of_the_pages_can_be_imported(module: str, names: str) -> None:
    found = importlib.import_module(f"amlrealtimeai.{module}")
    assert [name for name in names.split() if not hasattr(found, name)] == []


def test_presets_of_the_page_are_those_of_the_npu() -> None:
    text = (ROOT / "docs/formats.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d) \| (\d) \| ([\d.]+) \|", text, re.MULTILINE)
    assert rows == [
        (name, str(fmt.block), str(fmt.mantissa_bits), str(fmt.exponent_bits), f"{fmt.bits_per_value:.2f}")
        for name, fmt in npu.formats.items()
    ]


def test_the_pages_example_is_what_python_says() -> None:
    assert doctest.testfile(str(ROOT / "docs/formats.md"), module_relative=False) == (0, 3)


def test_every_figure_of_the_readme_has_a_command_that_is_there() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf8").split("## Figures")[1].split("\n\n")[1]
    rows = [row.split(" | ") for row in table.splitlines()[2:]]
    modules = [re.findall(r"`python -m amlrealtimeai\.([\w.]+)|`python -m (benchmarks\.\w+)", row[2]) for row in rows]
    files = [f"amlrealtimeai/{ours}" if ours else other for found in modules for ours, other in found]
    assert len(files) == len(rows)
    assert [name for name in files if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


def test_every_picture_of_the_readme_is_there_and_has_words() -> None:
    pictures = re.findall(r"<img ([^>]+)>", (ROOT / "README.md").read_text(encoding="utf8"))
    for picture in pictures:
        given = dict(re.findall(r'(\w+)="([^"]+)"', picture))
        assert (ROOT / given["src"]).is_file() and given["alt"]
    assert pictures
