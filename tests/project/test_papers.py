"""CHANGELOG, CITATION and CONTRIBUTING: the version is the package's, the forms are those that tools read."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_a_valid_cff_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format requires
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert (str(cited["version"]), cited["license"]) == (PROJECT["version"], PROJECT["license"])
    entities = [*cited["authors"], *(author for work in cited["references"] for author in work["authors"])]
    assert all("name" in entity or "family-names" in entity for entity in entities)
    assert all(
        {"type", "title", "authors"} <= set(work) and isinstance(work["year"], int) for work in cited["references"]
    )


def test_the_changelog_keeps_its_form_and_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf8")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert versions[0] == ("Unreleased", "") and versions[1][0] == PROJECT["version"]
    assert all(day for _, day in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_contributing_names_targets_and_modules_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
    targets = set(re.findall(r"^([a-z./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert [name for name in re.findall(r"\bmake ([a-z./-]+)", text) if name not in targets] == []
    modules = re.findall(r"python -m ((?:tests|benchmarks)\.[\w.]+)", text)
    assert modules and all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in modules)
