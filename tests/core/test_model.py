import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from amlrealtimeai.core import Model, Workspace
from amlrealtimeai.errors import InvalidInputError, NotFoundError


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_register_and_find(workspace: Workspace, saved_model: Path) -> None:
    first = Model.register(workspace, str(saved_model), "resnet50", tags={"top1": 97}, description="float")
    second = Model.register(workspace, saved_model / "saved_model.pb", "resnet50", properties={"kind": "file"})
    assert (first.name, first.version, first.id, first.description) == ("resnet50", 1, "resnet50:1", "float")
    assert (first.tags, second.properties, first.parent_id) == ({"top1": "97"}, {"kind": "file"}, None)
    assert timedelta(0) <= datetime.now(UTC) - first.created_time < timedelta(minutes=1)
    assert second.url == f"aml://asset/{hashlib.sha256(b'graph').hexdigest()}"
    assert (Model(workspace, "resnet50").version, Model(workspace, "resnet50", version=1).version) == (2, 1)
    assert Model(workspace, id="resnet50:1").is_folder and not Model(workspace, id="resnet50:2").is_folder
    assert Model(workspace, "resnet50", tags=["top1"]).version == 1
    assert Model(workspace, name="resnet50", properties=[["kind", "file"]]).version == 2
    assert [model.id for model in Model.list(workspace)] == ["resnet50:2", "resnet50:1"]
    assert [model.id for model in Model.list(workspace, tags=[["top1", "97"]])] == ["resnet50:1"]
    assert [model.id for model in Model.list(workspace, "resnet50", latest=True)] == ["resnet50:2"]
    assert Model.list(workspace, "other") == []
    assert repr(second) == (
        f"Model(workspace={workspace.name}, name=resnet50, version=2, id=resnet50:2, size=5 B, tags={{}}, "
        "properties={'kind': 'file'})"
    )
    assert second.serialize()["url"] == second.url


def test_what_is_not_there_says_what_is(workspace: Workspace, saved_model: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no model 'x' in .*; its models are: none. Register one: Model.register"):
        Model(workspace, "x")
    Model.register(workspace, saved_model, "resnet50")
    with pytest.raises(NotFoundError, match=r"no model 'resnet50:7' .*its models are: resnet50"):
        Model(workspace, "resnet50", version=7)
    with pytest.raises(InvalidInputError, match="model id: expected 'name:version', got 'resnet50'"):
        Model(workspace, id="resnet50")
    with pytest.raises(InvalidInputError, match="expected either name= or id="):
        Model(workspace)
    with pytest.raises(NotFoundError, match="absent does not exist; expected a file or a folder"):
        Model.register(workspace, saved_model / "absent", "resnet50")
    with pytest.raises(InvalidInputError, match="model_name: expected letters, digits"):
        Model.register(workspace, saved_model, "../resnet50")
    assert [model.id for model in Model.list(workspace)] == ["resnet50:1"]


def test_download(workspace: Workspace, saved_model: Path, tmp_path: Path) -> None:
    folder, file = (Model.register(workspace, path, "m") for path in (saved_model, saved_model / "saved_model.pb"))
    assert folder.download(tmp_path / "out") == str(tmp_path / "out" / "saved")
    assert (tmp_path / "out" / "saved" / "variables" / "variables.index").read_bytes() == b"index"
    assert Path(file.download(target_dir=str(tmp_path / "out"))).read_bytes() == b"graph"
    with pytest.raises(InvalidInputError, match=r"exists already. Choose another target_dir, or pass exist_ok=True"):
        file.download(tmp_path / "out")
    assert file.download(tmp_path / "out", exist_ok=True) == str(tmp_path / "out" / "saved_model.pb")


def test_get_model_path(workspace: Workspace, saved_model: Path) -> None:
    Model.register(workspace, saved_model, "m")
    path = Path(Model.get_model_path("m", _workspace=workspace))
    assert path.name == "saved" and (path / "saved_model.pb").read_bytes() == b"graph"
    workspace.write_config()
    assert Model.get_model_path("m", version=1) == str(path)


def test_tags_properties_and_description_change(workspace: Workspace, saved_model: Path) -> None:
    model = Model.register(workspace, saved_model, "m", tags={"a": "1"}, properties={"p": "1"})
    model.add_tags({"b": 2, "a": "3"})
    model.remove_tags(["a", "unknown"])
    model.add_properties({"q": "2"})
    model.update(description="new")
    fresh = Model(workspace, "m")
    assert (fresh.tags, fresh.properties, fresh.description) == ({"b": "2"}, {"p": "1", "q": "2"}, "new")
    with pytest.raises(InvalidInputError, match="properties cannot be changed: p"):
        model.add_properties({"p": "2"})
    with pytest.raises(InvalidInputError, match="tags"):
        model.update(properties={"r": "3"}, tags=["c"])  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="tags"):
        model.update_tags_properties(add_properties={"r": "3"}, add_tags=["c"])  # type: ignore[arg-type]
    assert Model(workspace, "m").serialize() == fresh.serialize()
    model.update_tags_properties({"c": "4", "d": "5"}, "b", {"r": "3"})
    assert (model.tags, model.properties) == ({"c": "4", "d": "5"}, {"p": "1", "q": "2", "r": "3"})
    model.update(tags={})
    assert Model(workspace, "m").tags == {}


def test_only_a_converted_model_is_converted(workspace: Workspace, model: Model, saved_model: Path) -> None:
    assert model.is_converted and model.filename == "means.accelonnx"
    assert not Model.register(workspace, saved_model, "plain").is_converted
    (saved_model / "other.zip").write_bytes(b"PK\x03\x04 not a zip")
    assert not Model.register(workspace, saved_model / "other.zip", "zip").is_converted


def test_delete(workspace: Workspace, saved_model: Path) -> None:
    model = Model.register(workspace, saved_model, "m")
    model.delete()
    assert Model.list(workspace) == []
    with pytest.raises(NotFoundError, match="model 'm:1' does not exist"):
        model.delete()
    with pytest.raises(NotFoundError):
        model.add_tags({"a": "b"})
    assert Model.register(workspace, saved_model, "m").id == "m:2"


def test_a_table_has_no_rows_for_nothing(workspace, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"12345")
    plain = Model.register(workspace, tmp_path / "model.bin", "plain")._repr_html_()
    tagged = Model.register(workspace, tmp_path / "model.bin", "tagged", tags={"top1": "97"})._repr_html_()
    assert ">tags<" not in plain and ">properties<" not in plain and ">size<" in plain
    assert "top1: 97" in tagged
