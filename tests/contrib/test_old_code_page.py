"""docs/old_code.md: every call that it lists can be made, and every public name that old code imports is listed."""

import re
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs/old_code.md").read_text(encoding="utf8")
FIRST_CELLS = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| `")]
NAME = re.compile(r"`(?:azureml\.|amlrealtimeai\.)?([A-Za-z_][\w.]*)")
EDITIONS = (
    *("", "core", "core.authentication", "core.compute", "core.image", "core.webservice", "accel", "accel.models"),
    *("pipeline", "resnet50.model", "contrib.brainwave"),
)
ROOMS = ("", "core", "core.image", "core.webservice", "accel", "pipeline", "contrib.brainwave")


def module(path: str) -> Any:
    return import_module(f"amlrealtimeai.{path}".rstrip("."))


def found(name: str) -> Any:
    """What the name means in one of the editions: a class or function and its attribute, or else a module's path."""
    for edition in EDITIONS:
        try:
            return reduce(getattr, name.split("."), module(edition))
        except (AttributeError, ImportError):
            continue
    room, _, last = name.rpartition(".")
    return getattr(module(room), last, None) or module(name)


@pytest.mark.parametrize("name", sorted({name for cell in FIRST_CELLS for name in NAME.findall(cell)}))
def test_what_the_page_lists_is_there(name: str) -> None:
    assert found(name) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_the_page_names_what_a_room_offers(room: str) -> None:
    ours = {"VERSION", "__version__", "EdgeCompute", "AbstractStage", "StageEncoder"}
    # configurations are made by calls that are listed
    offered = [name for name in module(room).__all__ if name not in ours and not name.endswith("Configuration")]
    assert [name for name in offered if name not in PAGE] == []
