"""lab.start and lab.clean_up: what a lesson makes is found and removed by whoever comes next, and nothing else is."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from amlrealtimeai import lab
from amlrealtimeai.core import AksCompute, ComputeTarget, Workspace
from amlrealtimeai.core.model import Model
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab import lesson as lessons
from amlrealtimeai.lab.security import small_model


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lessons, "_started", {})
    monkeypatch.setenv("AMLREALTIMEAI_FPGA_QUOTA", "")  # set, so that lab.start's own is put back after the test
    monkeypatch.delenv("AMLREALTIMEAI_FPGA_QUOTA")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_ten_students_under_one_account_have_a_cluster_each():
    lab.start("quickstart")
    configuration = AksCompute.provisioning_configuration(vm_size="Standard_PB6s", agent_count=1)
    for student in range(10):
        ComputeTarget.create(Workspace.default(), f"student-{student}", configuration)
    assert len(Workspace.default().compute_targets) == 10


LESSON = """
import sys
import threading
from amlrealtimeai import DeploymentClient, lab
from amlrealtimeai.core import Workspace
from amlrealtimeai.core.model import Model
lesson = lab.start("quickstart")
(lesson.folder / "big.bin").write_bytes(bytes(2_000_000))
model = lab.small_model(lesson.folder)
Model.register(Workspace.default(), str(model), lesson.name)
Model.register(Workspace.default(), str(model), lesson.name + ".1.accelonnx")
client = DeploymentClient("local", "lessons", lesson.name)
client.create_service("colour", client.register_model("colour", model))
print(lesson.name, flush=True)
sys.stdin.read()
"""


class Kernel:
    """Another process that has started a lesson and waits."""

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", LESSON], **pipes)
        self.name = self.process.stdout.readline().strip()
        return self

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.communicate()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()


def models():
    return sorted(model.name for model in Model.list(Workspace.default()))


def test_a_second_call_goes_on_with_the_same_lesson():
    first = lab.start("quickstart")
    assert re.fullmatch(r"quickstart-[a-z0-9]+-[0-9a-f]{4}", first.name)
    (first.folder / "kept").write_text("kept")
    again = lab.start("quickstart")
    assert (again.name, again.folder) == (first.name, first.folder) and (again.folder / "kept").exists()
    assert lab.start("ssl").name != first.name


def test_a_fresh_path_is_empty_whatever_was_there():
    lesson = lab.start("quickstart")
    (lesson.folder / "saved").mkdir()
    (lesson.folder / "saved" / "old").write_text("old")
    (lesson.folder / "file").write_text("old")
    for name in ("saved", "file", "new"):
        assert not Path(lesson.fresh(name)).exists()
    for name in ("..", ".", "", "../other", "/tmp"):
        with pytest.raises(InvalidInputError, match="inside the lesson's folder"):
            lesson.fresh(name)


@pytest.mark.parametrize("name", ["", "Quick", "a-b", "../x", "x" * 15, None, 3, "1a", "*"])
def test_names_that_services_cannot_have(name):
    with pytest.raises(InvalidInputError, match="lower-case letters"):
        lab.start(name)


def test_what_a_killed_kernel_left_is_removed_and_said(own_home, capsys):
    with Kernel() as other:
        other.end()
    assert len(models()) == 2 and (own_home / "lessons" / other.name / "big.bin").exists()
    lab.start("quickstart")
    said = capsys.readouterr().out
    assert said.startswith(f"of an earlier run: {other.name}: removed ") and "2 models" in said and "2 MB" in said
    assert models() == [] and other.name not in Workspace.list()
    assert not [path for path in (own_home / "lessons").iterdir() if other.name in path.name]
    lab.clean_up()
    assert "earlier" not in capsys.readouterr().out


def test_a_living_kernel_keeps_what_is_its_own(own_home, capsys):
    with Kernel() as other:
        mine = lab.start("quickstart")
        lab.clean_up()
        assert other.name != mine.name and "earlier" not in capsys.readouterr().out
        assert models() == [other.name, f"{other.name}.1.accelonnx"] and other.name in Workspace.list()
        assert (own_home / "lessons" / other.name / "big.bin").exists()


def test_after_a_restart_clean_up_needs_no_variables(capsys):
    with Kernel() as other:
        other.end(signal.SIGTERM)
    lab.clean_up()
    assert other.name in capsys.readouterr().out and models() == []
    lab.clean_up()
    assert capsys.readouterr().out == "nothing to remove: no lesson was started in this kernel\n"


def test_a_kernel_that_ends_in_peace_takes_its_files_along(own_home):
    with Kernel() as other:
        other.process.communicate()
    assert [path.name for path in (own_home / "lessons").iterdir()] == [f"{other.name}.lock"], "models are left"
    lab.clean_up()
    assert models() == [] and list((own_home / "lessons").iterdir()) == []


def test_a_kernel_that_has_cleaned_up_and_ends_in_peace_leaves_nothing(own_home):
    cleaning = LESSON.replace("sys.stdin.read()", "lab.clean_up()")
    said = subprocess.run([sys.executable, "-c", cleaning], capture_output=True, text=True, check=True)
    assert "1 workspace" in said.stdout and said.stderr == ""
    assert list((own_home / "lessons").iterdir()) == []


def test_after_cleaning_the_lesson_goes_on(capsys):
    lesson = lab.start("quickstart")
    Model.register(Workspace.default(), str(small_model(lesson.folder)), lesson.name)
    lab.clean_up()
    assert f"{lesson.name}: removed 1 model" in capsys.readouterr().out
    Model.register(Workspace.default(), str(small_model(lesson.folder)), lesson.name)
    lab.clean_up()
    lab.clean_up()
    assert models() == [] and capsys.readouterr().out.endswith(f"nothing left of {lesson.name}\n")


def test_only_what_has_the_name_is_removed(tmp_path, capsys):
    ws, model = Workspace.default(), str(small_model(tmp_path))
    others = ["ada", "ada2", "quickstart-ada-3f9c2", "quickstart-adam-3f9c", "quick"]
    for name in ["quickstart-ada-3f9c", "quickstart-ada-3f9c.1.accelonnx", "quickstart-ada-3f9c-b", *others]:
        Model.register(ws, model, name)
    for name in ("", " ", None, "quickstart", "quickstart-", "a", "*", 3):
        lab.clean_up(ws, name)
    assert len(models()) == 8
    lab.clean_up(ws, "quickstart-ada-3f9c")
    assert models() == sorted(others)
    lab.clean_up(ws, "ada")
    assert "ada" not in models() and "ada2" in models()
    lab.clean_up(None, "ada2")
    assert "ada2" in models()


def test_a_forked_child_owns_nothing(own_home):
    lesson = lab.start("quickstart")
    (lesson.folder / "kept").write_text("kept")
    pid = os.fork()
    if pid == 0:
        lessons._leave_no_files()
        os._exit(len(lessons._started))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (lesson.folder / "kept").exists()


def test_five_start_at_once(own_home):
    script = (
        "from amlrealtimeai import lab; print(lab.start('quickstart').name, flush=True); import sys; sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(5)]
    names = {process.stdout.readline().strip() for process in running}
    assert len(names) == 5 and all(names)
    for process in running:
        assert process.communicate()[0] == "" and process.returncode == 0


def test_kernels_that_start_at_once_remove_what_was_left_together(own_home, capsys):
    for _ in range(3):
        left = lessons._new("ended")
        (left.folder / "big.bin").write_bytes(b"x" * 600_000)
        workspace = Workspace.create(left.name)
        for other in (workspace, Workspace.default()):
            for version in range(4):
                Model.register(other, __file__, f"{left.name}-{version}")
        left.lock.release()
    failed = []

    def remove():
        try:
            lessons._remove_orphans("ended")
        except BaseException as problem:
            failed.append(problem)

    kernels = [threading.Thread(target=remove) for _ in range(4)]
    for kernel in kernels:
        kernel.start()
    for kernel in kernels:
        kernel.join()
    assert not failed
    assert "left in place" not in capsys.readouterr().out
    assert list(Workspace.list()) == ["local"] and Workspace.default().models == {}
    assert not list((own_home / "lessons").glob("ended-*"))


def test_a_lessons_kernel_gives_back_what_a_cell_has_left(own_home):
    """Three hundred megabytes in a cycle, as TensorFlow's graphs are: only a collection frees them."""
    notebook = new_notebook(
        cells=[
            new_code_cell(source)
            for source in (
                "import numpy as np\nfrom amlrealtimeai import lab\nlesson = lab.start('quickstart')",
                "cycle = [np.ones(300_000_000, np.uint8)]\ncycle.append(cycle)\ndel cycle",
                "print([line for line in open('/proc/self/status') if line.startswith('VmRSS')][0].split()[1])",
            )
        ]
    )
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert int(notebook.cells[-1].outputs[0].text) < 250_000
