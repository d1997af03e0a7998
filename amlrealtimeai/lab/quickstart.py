"""Runs a lesson from the command line in a fresh kernel, writes nothing, prints what its tagged cells say."""

import time
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from amlrealtimeai.errors import AmlRealtimeAiError, NotFoundError, extras_named

TAG = "quickstart"
LESSON = "00_QuickStart.ipynb"
_CELL_SECONDS = 600


def _notebook(name: str) -> Path:
    path = Path(__file__).resolve().parents[2] / "notebooks" / name
    if not path.exists():
        raise NotFoundError(f"no notebook at {path}; run this from a clone of the repository")
    return path


def run(name: str = LESSON) -> None:
    """Execute the notebook `name`, show progress, then print what its tagged cells said and how to go on."""
    with extras_named():
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError

    path = _notebook(name)
    notebook = nbformat.read(path, as_version=4)
    begin = time.perf_counter()
    cells = len(notebook.cells)
    with tqdm(total=cells, desc=path.stem, unit="cell") as bar:
        client = NotebookClient(
            notebook,
            timeout=_CELL_SECONDS,
            kernel_name="python3",
            extra_arguments=["--log-level=CRITICAL"],
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_complete=lambda cell, cell_index: bar.update(cell_index + 1 - bar.n),
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise AmlRealtimeAiError(f"{path.name} stopped: {error.ename}: {error.evalue}") from error
        except AssertionError:  # at Ctrl-C nbclient ends the kernel, and then looks for it in vain
            raise KeyboardInterrupt from None
        bar.update(cells - bar.n)
    for cell in notebook.cells:
        if TAG in cell.metadata.get("tags", ()):
            print("\n".join(_texts(cell)).rstrip() + "\n")
    print(f"{path.name}: the whole path in {time.perf_counter() - begin:.0f} s.")
    print("Open it and the other lessons in JupyterLab:  make lab")


def _texts(cell: Any) -> list[str]:
    return [
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in cell.outputs
        if output.output_type == "execute_result" or getattr(output, "name", "") == "stdout"
    ]
