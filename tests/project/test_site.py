"""`make docs` builds pages in which every link leads somewhere, and which load nothing from another computer."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.pictures_without_words = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {value for value in (given.get("id"), given.get("name") if tag == "a" else None) if value}
        target = given.get("href") or given.get("src")
        if target:
            (self.links if tag == "a" else self.loaded).append(target)
        self.pictures_without_words += tag == "img" and not given.get("alt")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # 404.html is shown by servers under any address, so its links are absolute
    pages = [path for path in folder.rglob("*.html") if path.name != "404.html"]
    return {path: Page(path.read_text(encoding="utf8")) for path in pages}


def test_every_link_leads_somewhere(site: dict[Path, Page]) -> None:
    broken = []
    for path, page in site.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            places = {parts.fragment, unquote(parts.fragment)}  # as browsers look for it
            at_a_place = not parts.fragment or bool(places & site[target].ids) if target in site else True
            if not (target.is_file() and at_a_place):
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_pages_load_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    assert {link for page in site.values() for link in page.loaded if urlsplit(link).netloc} == set()
    (folder,) = {path.parent for path in site if path.name == "index.html"}
    styles = [style for style in folder.rglob("*.css") if "url(http" in style.read_text(encoding="utf8")]
    assert styles == []


def test_pictures_have_words(site: dict[Path, Page]) -> None:
    assert {path.name: page.pictures_without_words for path, page in site.items() if page.pictures_without_words} == {}


@pytest.mark.parametrize(
    ("page", "named"),
    [
        ("accel", "AccelOnnxConverter.convert_tf_model QuantizedResnet50 PredictionClient.score_file preprocess_array"),
        ("core", "Workspace.from_config Model.register AksCompute.attach_configuration Webservice.regen_key"),
        ("client", "PredictionClient.score_image ServiceClient.predict"),
        ("npu", "BlockFormat quantize compile_model Native.run run estimate snr histograms"),
        ("serving", "Server Limits ConvertedModel.load"),
        ("lab", "start clean_up doctor measure"),
        ("first", "DeploymentClient.create_service ServiceDefinition.save RemoteQuantizedResNet50"),
    ],
)
def test_the_reference_has_every_rooms_names(site: dict[Path, Page], page: str, named: str) -> None:
    (found,) = (ids.ids for path, ids in site.items() if path.parts[-2:] == ("api", f"{page}.html"))
    ends = {".".join(name.split(".")[-count:]) for name in found for count in (1, 2)}
    assert [name for name in named.split() if name not in ends] == []
