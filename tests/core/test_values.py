"""Names, paths, tags and numbers that nothing can have: an error in words, short, and the workspace as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amlrealtimeai.accel import AccelContainerImage
from amlrealtimeai.core import ComputeTarget, Image, Model, Webservice, Workspace
from amlrealtimeai.errors import AmlRealtimeAiError

VALUES = [None, 1, True, 1.5, b"x", object(), "", "a\0b", "\ud800", "x" * 5000, "m:²", "m:" + "9" * 5000, 2**63]
CALLS: dict[str, Callable[[Workspace, Model, Any], object]] = {
    "a model's name": lambda ws, model, value: Model(ws, value),
    "a model's id": lambda ws, model, value: Model(ws, id=value),
    "a new model's path": lambda ws, model, value: Model.register(ws, value, "new"),
    "a new model's name": lambda ws, model, value: Model.register(ws, __file__, value),
    "where to download": lambda ws, model, value: model.download(value),
    "a service's name": lambda ws, model, value: Webservice(ws, value),
    "a cluster's name": lambda ws, model, value: ComputeTarget(ws, value),
    "an image's name": lambda ws, model, value: Image(ws, value),
    "a new image's name": lambda ws, model, value: Image.create(
        ws, value, [model], AccelContainerImage.image_configuration()
    ),
    "an image's model": lambda ws, model, value: Image.create(
        ws, "new", value, AccelContainerImage.image_configuration()
    ),
    "a workspace's name": lambda ws, model, value: Workspace.get(value),
    "a config's path": lambda ws, model, value: Workspace.from_config(value),
}
MAY = {("where to download", "m:²"), ("a config's path", None), ("a config's path", "")}


@pytest.mark.parametrize("what", CALLS)
def test_odd_values_are_refused_in_words(
    what: str, workspace: Workspace, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in VALUES:
        if (what, value) in MAY:
            continue
        with pytest.raises(AmlRealtimeAiError) as caught:
            CALLS[what](workspace, model, value)
        text = str(caught.value)
        assert len(text) < 800, value
        text.encode()
    assert [found.id for found in Model.list(workspace)] == ["means:1"]
    assert Image.list(workspace) == []


@pytest.mark.parametrize("tags", [1, True, object(), "text", [1], [["a"]], [None], b"x"], ids=repr)
def test_tags_of_another_kind_are_refused(tags: Any, workspace: Workspace, model: Model) -> None:
    for call in (lambda: Model.list(workspace, tags=tags), lambda: model.add_tags(tags)):
        with pytest.raises(AmlRealtimeAiError, match="tags: expected a"):
            call()
    if tags not in ("text", b"x"):  # one name; and numbers would be names
        with pytest.raises(AmlRealtimeAiError, match="tags: expected a name"):
            model.remove_tags(tags)
    assert model.tags == {}


def test_any_json_value_may_be_a_tag(workspace: Workspace, model: Model) -> None:
    model.add_tags({"a": None, "b": True, "c": 1.5, "d": [1], "e": {"x": 1}, "": "\ud800", "名": "🦊"})
    assert Model(workspace, "means").tags == {
        "a": "None", "b": "True", "c": "1.5", "d": "[1]", "e": "{'x': 1}", "": "\ud800", "名": "🦊",
    }  # fmt: skip
    assert [found.id for found in Model.list(workspace, tags=[["c", 1.5], "名"])] == ["means:1"]


def test_names_that_differ_in_case_are_different(workspace: Workspace) -> None:
    first, second = (Model.register(workspace, __file__, name) for name in ("Name", "name"))
    first.delete()
    assert Model(workspace, "name").id == second.id == "name:1"
