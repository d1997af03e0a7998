"""The doctor says what is wrong where something is wrong, and its command's exit status says it, too."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from amlrealtimeai import lab, resources
from amlrealtimeai.lab import diagnosis


def lines(capsys) -> dict[str, str]:
    """What the doctor prints, by the name of what was looked at."""
    lab.doctor()
    said = capsys.readouterr().out.splitlines()
    return {line[6:24].strip(): line for line in said[:-1]} | {"verdict": said[-1]}


def test_it_finds_everything_here(capsys):
    said = lines(capsys)
    assert said["verdict"] == "everything that the lessons need is here"
    assert re.search(r"instruction set", said["NPU kernel"])
    assert re.search(r"GB free$", said["memory"])


def test_it_says_why_the_kernel_is_slow(capsys, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_ISA", "generic")
    slow = r"instruction set generic, .*slower: (unset AMLREALTIMEAI_ISA|this CPU has neither AVX2)"
    assert re.search(slow, lines(capsys)["NPU kernel"])


def test_missing_weights_are_named_with_the_place_that_was_looked_at(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AMLREALTIMEAI_DATA", str(tmp_path))
    said = lines(capsys)
    assert said["verdict"] == "mend first: weights" and str(tmp_path) in said["weights"]


@pytest.mark.parametrize("altered", ["resnet50.npz", "resnet50.photographs.npz", "ssdvgg.npz"])
def test_altered_weights_are_not_good_weights(altered, capsys, monkeypatch, tmp_path):
    (tmp_path / "weights").mkdir()
    for name in ("resnet50.npz", "resnet50.photographs.npz", "ssdvgg.npz"):
        for file in (name, f"{name}.sha256"):
            shutil.copyfile(resources.path(f"weights/{file}"), tmp_path / "weights" / file)
    with (tmp_path / "weights" / altered).open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    monkeypatch.setenv("AMLREALTIMEAI_DATA", str(tmp_path))
    said = lines(capsys)
    assert said["weights"].startswith("FAIL") and f"{altered}, " in said["weights"]
    assert "not the bytes" in said["weights"]


@pytest.mark.parametrize("home", ["/proc/nobody/home", "FILE", "FILE/below"])
def test_a_home_that_cannot_be_written(home, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMLREALTIMEAI_HOME", home.replace("FILE", str(tmp_path / "file")))
    said = lines(capsys)
    assert said["home"].startswith("FAIL") and "AMLREALTIMEAI_HOME" in said["home"]
    assert said["verdict"] == "mend first: home"


def test_little_memory_and_little_disk(capsys, monkeypatch):
    monkeypatch.setattr(diagnosis, "_free_memory", lambda: 1.2e9)
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9e9, 8e9, 1e9))
    said = lines(capsys)
    assert "1.2 GB free  ->  close other notebooks" in said["memory"]
    assert said["verdict"] == "mend first: memory, home, temporary folder"
    monkeypatch.setattr(diagnosis, "_free_memory", lambda: 2.5e9)
    assert lines(capsys)["memory"].startswith("note")


def engine(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("name", "script", "starts", "said"),
    [
        ("docker", "echo Cannot connect to the Docker daemon >&2; exit 1", "note", "daemon does not answer"),
        ("podman", "echo storage is damaged >&2; exit 125", "note", "storage is damaged"),
        ("podman", "echo '{}'", "ok", "podman answers"),
        ("", "", "note", "no container engine is installed"),
    ],
)
def test_an_engine_is_good_when_it_answers(name, script, starts, said, capsys, monkeypatch, tmp_path):
    if name:
        engine(tmp_path, name, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = lines(capsys)
    assert found["container engine"].startswith(starts) and said in found["container engine"]
    assert found["verdict"] == "everything that the lessons need is here"


def test_a_proxy_is_named_without_its_password(capsys, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://ada:secret@proxy.school:3128")
    said = lines(capsys)["proxy"]
    assert said.startswith("note") and "http_proxy=http://proxy.school:3128" in said and "secret" not in said
    monkeypatch.setenv("no_proxy", "localhost, 127.0.0.1")
    assert lines(capsys)["proxy"].startswith("ok")


def test_a_proxy_that_is_no_address_is_said(capsys, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://[half")
    said = lines(capsys)
    assert said["proxy"].startswith("note") and "http_proxy=something that is no URL" in said["proxy"]
    assert said["verdict"] == "everything that the lessons need is here"


@pytest.mark.parametrize("broken", diagnosis.LOOKS, ids=lambda look: look.__name__.strip("_"))
def test_whatever_is_broken_the_doctor_says_so_and_looks_on(broken, monkeypatch):
    def failing() -> diagnosis.Finding:
        raise RuntimeError("out of order")

    failing.__name__ = broken.__name__
    monkeypatch.setattr(diagnosis, "LOOKS", tuple(failing if look is broken else look for look in diagnosis.LOOKS))
    found = diagnosis.examine()
    assert len(found) == len(diagnosis.LOOKS)
    assert [str(each) for each in found if "out of order" in str(each) and not each.ok] != []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_user_without_a_home_is_told_what_to_set():
    """A number without a name, as containers are given; what is not there to be read is another matter."""
    homes = ("HOME", "XDG_CACHE_HOME", "AMLREALTIMEAI_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in homes}
    script = (
        "import os, pwd\n"
        "from amlrealtimeai import resources\n"
        "from amlrealtimeai.core import config\n"
        "os.setuid(54321)\n"
        "for look in (config.home, resources.cache):\n"
        "    try: look()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    home, cache = done.stdout.splitlines()
    assert home == "ConfigError this user has no home folder; set AMLREALTIMEAI_HOME to a folder for workspaces"
    assert cache == "ConfigError this user has no home folder; set XDG_CACHE_HOME to a folder of its own"


@pytest.mark.parametrize("place", ["é", "\udcff"])
def test_a_place_that_the_terminal_cannot_show_is_shown_otherwise(place, tmp_path):
    environment = os.environ | {"AMLREALTIMEAI_HOME": str(tmp_path / place), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "amlrealtimeai", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("is here\n"), done.stderr


def test_nobody_reads_what_the_command_prints():
    """Closed before Python starts: there is no sys.stdout then."""
    command = f"'{sys.executable}' -m amlrealtimeai doctor >&- <&-"
    done = subprocess.run(["sh", "-c", f"{command}; echo $? >&2"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "0\n")


def test_the_command_ends_with_status_1_when_something_is_missing(tmp_path):
    command = [sys.executable, "-m", "amlrealtimeai", "doctor"]
    for home, status in (("/proc/nobody", 1), (str(tmp_path), 0)):
        environment = os.environ | {"AMLREALTIMEAI_HOME": home}
        assert subprocess.run(command, env=environment, capture_output=True).returncode == status
