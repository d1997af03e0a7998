"""What MkDocs does not do by itself: the lessons as pages, and links out of docs/, which hold in a clone only."""

import posixpath
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_WIDGET = "<em>To be moved in a lesson that runs: <code>make lab</code>.</em>"
_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with links that lead somewhere."""
    folder = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri)))
    return _linked(markdown, folder, folder)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Every lesson, as it is stored, becomes a page in lessons/."""
    from mkdocs.structure.files import File

    for lesson in sorted((_ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"lessons/{lesson.stem}.html", content=_page(lesson)))
    return files


def _page(lesson: Path) -> str:
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(lesson, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _linked(cell.source, "notebooks", "docs/lessons")
        elif cell.source.startswith("lab.widgets."):
            cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": _WIDGET})]
    exporter = HTMLExporter(template_name="lesson_page", extra_template_basedirs=[str(_ROOT / "docs")])
    return exporter.from_notebook_node(notebook, {"metadata": {"name": lesson.stem}})[0]


def _linked(markdown: str, folder: str, page: str) -> str:
    """A text in `folder`, whose page will be in `page`, with a file's name in place of each link to what is no page."""

    def named(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if target.startswith("notebooks/"):
            target = f"docs/lessons/{posixpath.basename(target).removesuffix('.ipynb')}.html"
        elif not target.startswith("docs/"):
            return f"{link[1]} (`{target}`)"
        elif folder == page:
            return link[0]
        target = re.sub(r"\.md$", ".html", target)
        return f"[{link[1]}]({posixpath.relpath(target, page)})"

    return _LINK.sub(named, markdown)
