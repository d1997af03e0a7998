"""A pytest plugin beside nbval: every cell that nbval has run and compared is run a second time, as learners do, and
every exercise is answered by its own folded solution.

A cell that took longer than AMLREALTIMEAI_TWICE_SECONDS (default 4) is run once; `inf` runs all of them twice.
"""

import html
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from nbval.plugin import IPyNbCell

_SECONDS = float(os.environ.get("AMLREALTIMEAI_TWICE_SECONDS", "4"))
_TIMEOUT = 600
_SOLUTION = re.compile(r"<summary>Solution</summary>\s*<pre>(.*?)</pre>", re.S)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """After nbval's own run of a cell, which has to pass."""
    begin = time.monotonic()
    outcome: Any = yield
    outcome.get_result()
    if not isinstance(item, IPyNbCell):
        return
    if time.monotonic() - begin <= _SECONDS:
        status, said = run(item.parent.kernel, item.cell.source)
        expected = "error" if item.options["check_exception"] else "ok"
        assert status == expected, f"the second run of this cell:\n{item.cell.source}\n{said}"
    check = [line for line in item.cell.source.splitlines() if line.startswith("lab.check.")]
    if check:
        answer = f"{solution(item)}\n{check[-1]}"
        status, said = run(item.parent.kernel, answer)
        assert said.startswith("Right."), f"the folded solution:\n{answer}\n{said}"


def solution(item: Any) -> str:
    """The folded solution in the cell behind an exercise."""
    cells = item.parent.nb.cells
    following = cells[next(i for i, cell in enumerate(cells) if cell is item.cell) + 1]
    found = _SOLUTION.search(following.source)
    assert found, f"no folded solution behind {item.cell.source}"
    return html.unescape(found[1])


def run(kernel: Any, source: str) -> tuple[str, str]:
    """Execute in a notebook's kernel: "ok" or "error", and the text of the result or of the error."""
    message = kernel.execute_cell_input(source, allow_stdin=False)
    status, said = "ok", ""
    while True:
        reply = kernel.get_message("iopub", timeout=_TIMEOUT)
        if reply["parent_header"].get("msg_id") != message:
            continue
        content = reply["content"]
        if reply["msg_type"] == "status" and content["execution_state"] == "idle":
            return status, said
        if reply["msg_type"] == "execute_result":
            said = content["data"]["text/plain"]
        elif reply["msg_type"] == "error":
            status, said = "error", f"{content['ename']}: {content['evalue']}"
