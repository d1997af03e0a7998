"""The files that ship beside the code, in a checkout and in an installed package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = "import sys; from amlrealtimeai import resources; print(resources.path(sys.argv[1]).read_text())"


def test_another_packages_data_folder_is_never_taken(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "amlrealtimeai"
    package.mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "lazy.py", "resources.py", "retired.py"):
        shutil.copy(ROOT / "amlrealtimeai" / name, package)
    for folder, text in ((package / "_data", "ours"), (package.parent / "data", "another package's")):
        folder.mkdir()
        (folder / "labels.txt").write_text(text)
    (package.parent / "data" / "only-there.txt").write_text("another package's")

    def found(name: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "AMLREALTIMEAI_DATA"}
        command = [sys.executable, "-c", CODE, name]
        done = subprocess.run(command, capture_output=True, text=True, cwd=package.parent, env=environment)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    assert found("labels.txt") == "ours"
    assert "the shipped file 'only-there.txt' is missing" in found("only-there.txt")
