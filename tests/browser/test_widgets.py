"""The lessons' widgets, used with the mouse in JupyterLab and in Notebook 7."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import jupyter
from tests.browser.conftest import ROOT, SECONDS, keep

WIDGETS = ("mantissa_slider", "program_explorer", "threshold_slider", "latency_against_clients", "upload_and_score")
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def widget_cells() -> list[str]:
    """Every cell of the lessons that shows a widget; `tests.browser.small` makes what they name."""
    cells = [cell.source for lesson in LESSONS for cell in nbformat.read(lesson, as_version=4).cells]
    return [source for source in cells if source.startswith("lab.widgets.")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jupyter")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with jupyter.server(folder) as address:
        yield address


@pytest.fixture(scope="module", params=jupyter.PATHS)
def page(request: pytest.FixtureRequest, browser: Browser, address: str, folder: Path) -> Iterator[Page]:
    """The notebook, open and run."""
    dark = request.param == "notebook"  # one in each theme
    context = browser.new_context(
        viewport={"width": 1366, "height": 2000}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    context.set_default_timeout(SECONDS * 1000)
    opened = context.new_page()
    cells = ["from tests.browser.small import *", *widget_cells(), "print(kept())"]
    jupyter.open_notebook(opened, address, folder, request.param, cells)
    jupyter.run_all(opened)
    yield opened
    keep(opened, f"widgets-{request.param}")
    context.close()


def cell(page: Page, widget: str) -> Locator:
    return page.locator(".jp-CodeCell", has_text=f"lab.widgets.{widget}(")


def drag(page: Page, slider: Locator, share: float) -> None:
    """Take a slider's handle with the mouse to `share` of its way."""
    handle, way = slider.locator(".noUi-handle").bounding_box(), slider.locator(".noUi-base").bounding_box()
    assert handle and way
    middle = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(way["x"] + share * way["width"], middle, steps=6)
    page.mouse.up()


def test_the_mantissa_slider(page: Page) -> None:
    seen = cell(page, "mantissa_slider")
    shown = seen.locator(".widget-html pre")
    expect(shown).to_contain_text("0.25 -> 0 x 1 = 0")
    drag(page, seen, 1.0)
    expect(seen.locator(".widget-readout")).to_have_text("7")
    expect(shown).to_contain_text("step 2**-4 = 0.0625")
    expect(shown).to_contain_text("0.25 -> 4 x 0.0625 = 0.25")
    drag(page, seen, 0.0)
    expect(shown).to_contain_text("0.25 -> 0 x 4 = 0")


def test_the_program_explorer(page: Page) -> None:
    seen = cell(page, "program_explorer")
    shown, bars = seen.locator(".widget-html pre"), seen.locator("img[alt^='Modelled cycles of']")
    expect(shown).to_contain_text("chain 0")
    expect(shown).to_contain_text("mv_mul")
    expect(bars).to_have_attribute("alt", re.compile(r"Chain 0 has [\d,]+\.$"))
    drag(page, seen, 1.0)
    expect(shown).to_contain_text("chain 4")
    expect(shown).not_to_contain_text("mv_mul")
    expect(shown).to_contain_text("0% of the multipliers")
    expect(bars).to_have_attribute("alt", re.compile(r"Chain 4 has [\d,]+\.$"))


def test_the_threshold_slider(page: Page) -> None:
    seen = cell(page, "threshold_slider")
    picture, shown = seen.locator("img"), seen.locator(".widget-html")
    expect(picture).to_have_attribute("alt", "Boxes on a picture: cat 90 % halfway down, left.")
    expect(shown).to_contain_text(re.compile("1 box$"))
    before = picture.get_attribute("src")
    drag(page, seen.locator(".widget-slider", has_text="select"), 0.2)
    expect(picture).to_have_attribute("alt", re.compile("cat 90 % .*; dog 37 %"))
    expect(shown).to_contain_text("2 boxes")
    assert picture.get_attribute("src") != before
    drag(page, seen.locator(".widget-slider", has_text="select"), 1.0)
    expect(picture).to_have_attribute("alt", "A picture without a box on it.")


def test_latency_against_clients(page: Page) -> None:
    seen = cell(page, "latency_against_clients")
    shown, ask = seen.locator(".widget-html"), seen.get_by_role("button", name="ask for a second")
    expect(shown).to_contain_text("Nothing is measured yet")
    ask.click()
    expect(shown).to_contain_text(re.compile(r" 1 clients: +[\d.]+ ms"))
    expect(ask).to_be_enabled()
    drag(page, seen, 0.5)
    expect(seen.locator(".widget-readout")).to_have_text("4")
    ask.click()
    expect(shown).to_contain_text(re.compile(r" 4 clients: +[\d.]+ ms"))
    expect(seen.locator("img")).to_have_attribute("alt", re.compile(r"1: \d+ ms.*; 4: \d+ ms"))


def test_a_picture_of_mine_is_answered_and_another_file_refused_in_words(page: Page, tmp_path: Path) -> None:
    seen = cell(page, "upload_and_score")
    shown = seen.locator(".widget-html")
    expect(shown).to_contain_text("It stays on this computer")
    for name, colour in (("red fox", (255, 0, 0)), ("zebra", (0, 255, 0))):
        Image.new("RGB", (64, 48), colour).save(tmp_path / f"{name}.png")
        upload(page, seen, tmp_path / f"{name}.png")
        expect(shown.locator("tr").first).to_contain_text(name)
        expect(shown.locator("tr").first).to_contain_text(re.compile(r"^ ?\d\d\.\d %"))
    (tmp_path / "letter.png").write_text("Dear service, this is no picture.")
    upload(page, seen, tmp_path / "letter.png")
    expect(shown).to_contain_text("INVALID_ARGUMENT")
    expect(shown).not_to_contain_text("Traceback")
    expect(seen.locator("button.widget-upload")).to_contain_text("(0)")  # sent, and not kept


def upload(page: Page, seen: Locator, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        seen.locator("button.widget-upload").click()
    chooser.value.set_files(file)


def test_running_the_cells_again_leaves_nothing_behind(page: Page) -> None:
    """After the tests above: what they measured, sent and moved is gone, and each cell shows one widget afresh."""
    said = page.locator(".jp-CodeCell", has_text="print(kept())").locator(".jp-OutputArea-output")
    jupyter.run_all(page)
    expect(said).to_contain_text(" widgets, ")
    first = said.inner_text()
    jupyter.run_all(page)
    expect(said).to_have_text(first)
    for widget in WIDGETS:
        expect(cell(page, widget).locator(".jp-OutputArea-output")).to_have_count(1)
    expect(cell(page, "latency_against_clients")).to_contain_text("Nothing is measured yet")
    expect(page.locator(".jp-OutputArea-output", has_text="Error")).to_have_count(0)
