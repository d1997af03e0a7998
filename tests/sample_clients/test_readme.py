"""Every line of the table of sample-clients/README.md, run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from amlrealtimeai.serving.server import Server
from tests.sample_clients.conftest import CLIENTS, QUIET


def lines() -> list[str]:
    """The commands of the rows of "How to connect"."""
    table = (CLIENTS / "README.md").read_text(encoding="utf8").split("## How to connect")[1].split("\n## ")[0]
    cells = [cell for row in table.split("\n") if row.startswith("| ") for cell in re.split(r"(?<!\\)\|", row)[2:4]]
    return [cell.strip().strip("`").replace("\\|", "|") for cell in cells if "$" in cell]


def test_the_table_has_both_columns_for_six_clients() -> None:
    assert len(lines()) == 12


@pytest.mark.parametrize("line", lines())
def test_a_line(line: str, plain: Server, secure: Server, root: Path, image: Path) -> None:
    environment = QUIET | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{QUIET['PATH']}",
        "SERVICE": f"localhost:{plain.port}",
        "REST": f"localhost:{plain.rest_port}",
        "SECURE": f"localhost:{secure.port}",
        "SECURE_REST": f"localhost:{secure.rest_port}",
        "ROOT": str(root),
        "KEY": "secondary",
        "MODEL": "means",
        "PICTURE": str(image),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=CLIENTS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    wanted = "AVAILABLE" if "state" not in line and line.endswith("$MODEL") else r"output_alias|predictions"
    assert re.search(wanted, done.stdout), done.stdout
