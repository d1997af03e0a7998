"""A headless Chromium, Debian's or another that is installed, and where its screenshots go."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
SCREENSHOTS = ROOT / "build/screenshots"
REQUIRED = os.environ.get("AMLREALTIMEAI_REQUIRE_CHROMIUM")
NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60  # for a busy machine; what is waited for comes in seconds

expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and not REQUIRED:
        pytest.skip("NO BROWSER TEST RUNS HERE: chromium is not installed (Debian: apt install chromium)")
    assert found, f"none of {', '.join(NAMES)} is installed"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.exists() and not REQUIRED:
        pytest.skip("NO ACCESSIBILITY TEST RUNS HERE: make test-browser installs axe-core")
    return AXE.read_text(encoding="utf8")


def keep(page: Page, name: str) -> None:
    """A screenshot for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
