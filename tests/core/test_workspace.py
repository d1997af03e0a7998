import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from amlrealtimeai.core import AksCompute, ComputeTarget, Model, Workspace
from amlrealtimeai.errors import ConfigError, InUseError, InvalidInputError, NotFoundError
from amlrealtimeai.store import Store


def test_without_a_config_it_is_the_local_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    first = Workspace.from_config()
    assert capsys.readouterr().out == "No config.json here or above: using the local workspace 'local'.\n"
    assert (first.name, first.location, first.subscription_id, first.resource_group) == ("local",) * 4
    assert first == Workspace.from_config() == Workspace.get("local")
    assert repr(first) == "Workspace(name=local)"
    assert "<b>Workspace</b>" in first._repr_html_()


@pytest.mark.parametrize("place", ["config.json", ".azureml/config.json", "aml_config/config.json"])
def test_the_nearest_config_here_or_above_counts(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Workspace.create("nearest", subscription_id="abc-1", resource_group="lab", exist_ok=True)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    identity = {"subscription_id": "abc-1", "resource_group": "lab", "workspace_name": "nearest"}
    (tmp_path / place).write_text(json.dumps(identity))
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert Workspace.from_config() == made
    assert Workspace.from_config(tmp_path / place) == Workspace.from_config(str(tmp_path)) == made


def test_write_config_is_what_from_config_reads(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write_config()
    assert json.loads((tmp_path / ".amlrealtimeai" / "config.json").read_text()) == {
        "subscription_id": "local",
        "resource_group": "local",
        "workspace_name": workspace.name,
    }
    assert Workspace.from_config() == workspace
    workspace.write_config(tmp_path / "other", "mine.json")
    assert Workspace.from_config(tmp_path / "other" / ".amlrealtimeai" / "mine.json") == workspace


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "got something that is not JSON"),
        ("[1]", "got a list"),
        ("{}", "got an empty object"),
        ('{"model_type": "bert", "hidden_size": 768}', "got model_type, hidden_size"),
        (
            '{"subscription_id": 1, "resource_group": "g", "workspace_name": "w"}',
            "expected a JSON object with the texts",
        ),
        (
            '{"subscription_id": "<my-id>", "resource_group": "g", "workspace_name": "w1"}',
            "subscription_id: expected letters, digits, '-' and '_', got '<my-id>'",
        ),
        ('{"subscription_id": "s", "resource_group": "..", "workspace_name": "w1"}', "resource_group: expected"),
    ],
)
def test_an_unusable_config_says_what_was_expected(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        Workspace.from_config()
    assert str(tmp_path / "config.json") in str(caught.value)


def test_the_workspace_of_a_portals_config_is_made_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    identity = ("8a3c9f7e-1b2d-4e5f-8a9b-0c1d2e3f4a5b", "Class.Of-2018_(fpga)", "brainwave-ws")
    text = json.dumps(dict(zip(("subscription_id", "resource_group", "workspace_name"), identity, strict=True)))
    (tmp_path / "config.json").write_text("\ufeff" + text, encoding="utf-8")
    made = Workspace.from_config()
    said = capsys.readouterr().out
    assert said.startswith("The workspace 'brainwave-ws' was not on this machine: it is made, empty, in ")
    assert (made.subscription_id, made.resource_group, made.name) == identity and str(made.path) in said
    Model.register(made, __file__, "m")
    again = Workspace(*identity)
    assert again == Workspace.from_config() == made and list(again.models) == ["m"]
    assert capsys.readouterr().out == ""
    for bad in ((None, "g", "w1"), ("s", "", "w1"), ("s", "g", None), ("s", "g", "../w")):
        with pytest.raises(InvalidInputError, match="expected"):
            Workspace(*bad)
    made.delete()


def test_getting_one_workspace_opens_one_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        Workspace.create(f"of-five-{number}", exist_ok=True)
    opened: list[Path] = []
    really = Store.__init__

    def counted(self: Store, path: Path) -> None:
        opened.append(path)
        really(self, path)

    monkeypatch.setattr(Store, "__init__", counted)
    assert Workspace.get("of-five-3").name == "of-five-3"
    assert len(opened) == 1


def test_a_damaged_workspace_does_not_hide_the_others() -> None:
    good, bad = Workspace.create("a-good-one"), Workspace.create("a-bad-one")
    bad.store.database.path.write_bytes(b"something else" * 400)
    with pytest.warns(UserWarning, match=r"a-bad-one is left out: .* damaged"):
        found = Workspace.list()
    assert found["a-good-one"] == [good] and "a-bad-one" not in found
    assert Workspace.get("a-good-one") == good
    shutil.rmtree(bad.path)
    good.delete()


def test_a_path_without_a_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config.json at .*nowhere\. Write one with workspace\.write_config"):
        Workspace.from_config(tmp_path / "nowhere")


def test_create_get_and_list() -> None:
    one = Workspace.create("twin", subscription_id="s1", resource_group="g", location="eastus", tags={"term": 3})
    two = Workspace.create("twin", subscription_id="s2", resource_group="g")
    assert (one.location, one.tags) == ("eastus", {"term": "3"})
    with pytest.raises(InvalidInputError, match=r"'twin' exists already. Use it with exist_ok=True"):
        Workspace.create("twin", subscription_id="s1", resource_group="g")
    assert Workspace.create("twin", subscription_id="s1", resource_group="g", exist_ok=True) == one
    with pytest.raises(InvalidInputError, match="2 workspaces are called 'twin'"):
        Workspace.get("twin")
    assert Workspace.get("twin", subscription_id="s2", resource_group="g") == two
    assert Workspace.list()["twin"] == [one, two]
    assert Workspace.list(subscription_id="s2") == {"twin": [two]}
    with pytest.raises(NotFoundError, match=r"no workspace 'other'.*Workspace.create\('other'\)"):
        Workspace.get("other")
    details = one.get_details()
    assert (details["name"], details["models"], details["webservices"]) == ("twin", 0, 0)
    assert details["storage"] == str(one.path)
    one.delete()
    two.delete()
    assert "twin" not in Workspace.list()


def test_what_a_killed_deletion_left_goes_with_the_next(home: Path) -> None:
    made = Workspace.create("first")
    doomed = made.path.rename(made.path.with_name(".deleted-0123456789ab"))  # and killed before it was removed
    assert "first" not in Workspace.list()
    second = Workspace.create("second")
    assert not doomed.exists()
    second.delete()
    assert not list(second.path.parent.glob(".deleted-*"))


def test_of_many_who_create_a_workspace_one_does(home: Path) -> None:
    made: list[object] = []

    def create(number: int) -> None:
        try:
            made.append(Workspace.create("contended", location=f"place-{number}").location)
        except InvalidInputError as problem:
            made.append(problem)

    threads = [threading.Thread(target=create, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (location,) = [one for one in made if isinstance(one, str)]
    assert len(made) == 4 and Workspace.get("contended").location == location
    Workspace.get("contended").delete()


def test_names_are_folders_and_cannot_lead_elsewhere() -> None:
    for name in ("..", "a/b", "", "x" * 40, "-a", "."):
        with pytest.raises(InvalidInputError, match="workspace name: expected"):
            Workspace.create(name)


def test_a_half_created_workspace_is_not_there(home: Path) -> None:
    Store(home / "workspaces" / "local" / "local" / "half")
    assert "half" not in Workspace.list()
    with pytest.raises(NotFoundError):
        Workspace.get("half")
    Workspace.create("half").delete()


def test_delete_refuses_while_services_run(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    from amlrealtimeai.core import Webservice

    Webservice.deploy_from_model(workspace, "means-svc", model, deployment_target=cluster)
    with pytest.raises(InUseError, match=r"has the webservices means-svc.*delete_dependent_resources=True"):
        workspace.delete()
    assert list(workspace.webservices) == ["means-svc"]


def test_the_collections_are_dicts_with_a_table(workspace: Workspace, model: Model, cluster: ComputeTarget) -> None:
    assert workspace.models["means"].id == "means:1"
    assert list(workspace.compute_targets) == ["aks"]
    assert workspace.images == {} and workspace.images._repr_html_() == "<i>none</i>"
    html = workspace.models._repr_html_()
    assert html.count("<tr>") == 2 and "means:1" in html
    Model.register(workspace, __file__, "tagged", tags={"a": "<script>"})
    assert "<script>" not in workspace.models._repr_html_()


def test_unknown_keywords_list_the_known_ones(workspace: Workspace) -> None:
    with pytest.raises(TypeError, match=r"Workspace.get\(\) has no keyword 'resource'; it knows: name, auth, subscr"):
        Workspace.get("local", resource="x")
    with pytest.raises(
        TypeError, match=r"Model.register\(\) has no keyword 'asset'; it knows: workspace, model_path, mo"
    ):
        Model.register(workspace, "x", "x", asset="y")


def test_keywords_without_a_meaning_are_one_warning() -> None:
    with pytest.warns(UserWarning) as caught:
        AksCompute.provisioning_configuration(vnet_name="net", subnet_name="sub", dns_service_ip="10.0.0.10")
    assert [str(one.message) for one in caught] == [
        "AksCompute.provisioning_configuration: vnet_name, subnet_name, dns_service_ip has no meaning on this machine "
        "and is ignored."
    ]
    assert caught[0].filename == __file__


def test_no_name_of_core_imports_tensorflow() -> None:
    code = (
        "import sys; import amlrealtimeai.core as core; [getattr(core, name) for name in core.__all__]; "
        "import amlrealtimeai.accel.converter, amlrealtimeai.accel.container_image; "
        "assert 'tensorflow' not in sys.modules and 'onnx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
