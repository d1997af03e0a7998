import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FIXED_BY_THE_ORIGINAL = [
    "jupyterlab",
    "ipywidgets",
    "matplotlib",
    "tensorflow",
    "tf2onnx",
    "onnxruntime",
    "grpcio",
    "numpy",
    "pillow",
    "nbval",
]


def pip_section() -> list[str]:
    document = yaml.safe_load((ROOT / "environment.yml").read_text())
    return next(entry for entry in document["dependencies"] if isinstance(entry, dict))["pip"]


def test_environment_has_a_name_a_python_and_the_ten_packages():
    document = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert document["name"] == "amlrealtimeai"
    assert "python=3.11" in document["dependencies"]
    named = [entry.split("=")[0].split(">")[0] for entry in pip_section() if not entry.startswith("-")]
    assert named == FIXED_BY_THE_ORIGINAL


def test_make_installs_exactly_the_pip_section():
    written = subprocess.run(
        ["sed", "-n", r"/^  - pip:/,$s/^      - //p", "environment.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert written == pip_section()
    assert (
        r"sed -n '/^  - pip:/,$$s/^      - //p' environment.yml > .pip-requirements.txt"
        in (ROOT / "Makefile").read_text()
    )


@pytest.mark.parametrize("package", [p for p in FIXED_BY_THE_ORIGINAL if p != "numpy"])
def test_what_is_installed_is_what_environment_yml_pins(package):
    assert f"{package}=={version(package)}" in pip_section()


def test_environment_and_pyproject_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["author"], *extras["lab"]]
    assert "-e .[author,lab]" in pip_section()
    assert set(entry for entry in pip_section() if not entry.startswith("-")) <= set(wanted)


def test_the_lock_pins_everything_that_is_installed():
    def normal(pin: str) -> str:
        name, _, version = pin.lower().partition("==")
        return f"{re.sub(r'[-_.]+', '-', name)}=={version}"

    lock = {normal(line.split(" ;")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    freeze = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {"amlrealtimeai", "pip", "uv", "setuptools"}
    assert [pin for pin in freeze if pin.split("==")[0] not in ours and normal(pin) not in lock] == []


def test_the_wheelhouse_has_what_the_teaching_page_installs():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = {entry.partition("==")[0] for entry in extras["class"]}
    page = (ROOT / "docs/teaching.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"pip install .*", page)
    asked = {word for line in lines for word in line.split()[2:] if re.fullmatch(r"[a-z]\w+", word)} - {"wheelhouse"}
    assert asked == brought == {"jupyterhub", "nbgrader"}
    assert "[author,lab,class]" in (ROOT / "Makefile").read_text()
    said = re.search(r"The folder has JupyterHub (\d[\d.]*\d)", page)
    assert said and f"jupyterhub=={said[1]}" in extras["class"]
