"""The pages that `make docs` builds, the lessons among them: readable for everyone, in both themes, on any screen."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import ROOT, keep

LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [f"lessons/{lesson.stem}" for lesson in LESSONS]
PAGES += [page.stem for page in sorted((ROOT / "docs").glob("*.md"))]
PAGES += ["api/client", "api/lab"]  # the others are made like these, and are long
DESKTOP, PHONE = {"width": 1366, "height": 900}, {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["light", "dark"])
def tab(request: pytest.FixtureRequest, browser: Browser) -> Iterator[tuple[str, Page]]:
    context = browser.new_context(color_scheme=request.param, reduced_motion="reduce")
    yield request.param, context.new_page()
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_anyone_from_reading_it(tab: tuple[str, Page], site: Path, axe: str, name: str) -> None:
    theme, page = tab
    page.set_viewport_size(DESKTOP)
    page.goto(f"{(site / name).as_uri()}.html")
    for folded in page.locator("details").all():
        folded.evaluate("details => { details.open = true }")
    if name.startswith("lessons/"):
        keep(page, f"{name.removeprefix('lessons/')}-{theme}")
    assert wider_than(page) == [], "on a desktop"
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [described(each) for each in found if each["impact"] in ("serious", "critical")] == []
    page.set_viewport_size(PHONE)
    if name.startswith("lessons/") and theme == "light":
        keep(page, f"{name.removeprefix('lessons/')}-phone")
    assert wider_than(page) == [], "on a phone"


def described(finding: dict[str, Any]) -> str:
    nodes = finding["nodes"]
    return f"{finding['impact']}: {finding['help']}: {len(nodes)} times, first {nodes[0]['html'][:200]}"


def wider_than(page: Page) -> list[str]:
    """What makes the page wider than its window."""
    return page.evaluate("""() => {
      const wide = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= wide) return [];
      const out = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > wide + 1);
      return [`${document.documentElement.scrollWidth} pixels`, ...out.slice(0, 5).map(e => e.outerHTML.slice(0, 120))];
    }""")
