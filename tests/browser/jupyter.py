"""A Jupyter server as `make lab` starts it, and a notebook that runs in it, in JupyterLab or in Notebook 7."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Page

from amlrealtimeai.lab import copies
from tests.browser.conftest import ROOT, SECONDS

PATHS = {"lab": "lab/tree", "notebook": "notebooks"}
_HOMES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
_SETTINGS = {"themes": {"adaptive-theme": True}, "notification": {"fetchNews": "false", "checkForUpdates": False}}
_RUN = """async () => {
  await jupyterapp.restored;
  const { context, sessionContext } = jupyterapp.shell.currentWidget;
  await context.ready;
  await sessionContext.ready;
  await sessionContext.session.kernel.info;
  return await jupyterapp.commands.execute('notebook:run-all-cells');
}"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server whose files and settings are all in `folder`."""
    settings = folder / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    for name, values in _SETTINGS.items():
        (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(values))
    environment = os.environ | {name: str(folder / name) for name in (*_HOMES, "AMLREALTIMEAI_HOME")}
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "PYTHONPATH": str(ROOT)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--IdentityProvider.token="]
    options += ["--ServerApp.disable_check_xsrf=True"]  # the test itself asks for a kernel
    options += [f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(copies.command(folder, options), env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/"
        _wait_for(address, process, folder / "log")
        yield address
    finally:
        process.terminate()  # ends its kernels, too
        process.wait()


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            _ask(f"{address}api/status")
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Jupyter does not answer: {log.read_text()}")


def _ask(address: str, content: Any = None) -> Any:
    sent = None if content is None else json.dumps(content).encode()
    with urllib.request.urlopen(urllib.request.Request(address, sent), timeout=SECONDS) as answer:
        return json.load(answer)


def open_notebook(page: Page, address: str, folder: Path, kind: str, cells: Sequence[str]) -> None:
    """Show a new notebook of these cells in `kind` of PATHS; its kernel runs, and no cell of it was run."""
    name = f"{kind}.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.kernelspec = kernel
    nbformat.write(notebook, folder / name)
    _ask(f"{address}api/sessions", {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}})
    page.goto(f"{address}{PATHS[kind]}/{name}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()


def run_all(page: Page) -> None:
    """Run every cell; the first that fails is reported."""
    if not page.evaluate(_RUN):
        raise AssertionError("\n".join(page.locator(".jp-RenderedText[data-mime-type*=stderr]").all_inner_texts()))
