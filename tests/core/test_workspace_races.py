"""Workspaces that threads and processes create, use and delete at the same time."""

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from amlrealtimeai.core import AksCompute, ComputeTarget, Model, Workspace
from amlrealtimeai.errors import InvalidInputError, NotFoundError

ROUNDS = 25
PROCESS = """
import sys
from tests.core.test_workspace_races import contend
contend(sys.argv[1])
"""


def contend(name: str) -> None:
    """Four threads at one workspace. Raises what is neither a success nor a sentence about what the others did."""
    problems: list[BaseException] = []

    def make() -> None:
        Workspace.create(name, exist_ok=True)

    def make_new() -> None:
        Workspace.create(name)

    def delete() -> None:
        Workspace.get(name).delete()

    def use() -> None:
        workspace = Workspace.get(name)
        model = Model.register(workspace, __file__, "m")
        model.add_tags({"a": "b"})
        ComputeTarget.create(workspace, f"aks-{model.version}", AksCompute.provisioning_configuration()).delete()
        with suppress(FileNotFoundError):  # the workspace may go between the two
            Path(model.kept_path()).read_text()
        assert name in repr(Workspace.list(resource_group="races")) + repr(workspace)
        model.delete()

    def repeated(act: Callable[[], None]) -> None:
        for _ in range(ROUNDS):
            try:
                act()
            except (NotFoundError, InvalidInputError):
                pass
            except BaseException as problem:
                problems.append(problem)

    threads = [threading.Thread(target=repeated, args=[act]) for act in (make, make_new, delete, use)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def whole_or_absent(name: str, home: Path) -> None:
    workspace = Workspace.create(name, exist_ok=True)
    Model.register(workspace, __file__, "last").kept_path()
    workspace.delete()
    assert not list((home / "workspaces" / "local" / "local").glob(f"*{name}*"))
    assert not list((home / "workspaces" / "local" / "local").glob(".deleted-*"))


def test_threads_create_use_and_delete_a_workspace(home: Path) -> None:
    contend("by-threads")
    whole_or_absent("by-threads", home)


def test_processes_create_use_and_delete_a_workspace(home: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, "by-processes"], cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    whole_or_absent("by-processes", home)


def test_what_is_left_of_a_deleted_workspace_says_so_and_spares_the_next(home: Path) -> None:
    old = Workspace.create("again")
    model = Model.register(old, __file__, "m")
    target = ComputeTarget.create(old, "aks", AksCompute.provisioning_configuration())
    Workspace.get("again").delete()
    for _ in range(2):  # gone; then another one has its name
        calls: list[Callable[[], object]] = [
            old.delete,
            old.get_details,
            lambda: old.models,
            lambda: Model.register(old, __file__, "m"),
            lambda: Model.list(old),
            lambda: ComputeTarget.create(old, "other", AksCompute.provisioning_configuration()),
            model.delete,
            lambda: model.download(home / "elsewhere"),
            model.kept_path,
            lambda: model.add_tags({"a": "b"}),
            target.delete,
        ]
        for call in calls:
            with pytest.raises(NotFoundError, match="again does not exist any more: the workspace was deleted"):
                call()
        assert "again" in repr(old) and "m:1" in repr(model)
        new = Workspace.create("again", exist_ok=True)
        assert list(new.models) == list(new.compute_targets) == []
    new.delete()


def test_a_deleted_model_cannot_be_downloaded_though_another_has_its_bytes(workspace: Workspace) -> None:
    one, two = (Model.register(workspace, __file__, name) for name in ("one", "two"))
    one.delete()
    for call in (one.download, one.kept_path, one.delete, lambda: one.add_tags({"a": "b"})):
        with pytest.raises(NotFoundError, match="'one:1' does not exist any more"):
            call()
    assert Path(two.download()).read_bytes() == Path(__file__).read_bytes()
