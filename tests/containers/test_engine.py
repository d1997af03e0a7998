"""The command line of an engine, without one: what hangs or is not there is explained; whose secrets are whose."""

import os
import tempfile
from pathlib import Path

import pytest

from amlrealtimeai.containers.engine import Engine
from amlrealtimeai.containers.mounts import SecretFolder
from amlrealtimeai.containers.running import Running, warn_without_limits
from amlrealtimeai.errors import ContainerError

NOBODY = 65534


@pytest.fixture
def hanging(tmp_path: Path) -> Engine:
    command = tmp_path / "podman"
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    command.chmod(0o755)
    return Engine("podman", (str(command),), patience=0.2)


def test_an_engine_that_hangs_is_explained(hanging: Engine) -> None:
    for call in (
        lambda: hanging.call("info"),
        lambda: hanging.succeeds("info"),
        lambda: hanging.logs("container"),
        lambda: hanging.exit_code("container"),
        lambda: hanging.remove("container", 0),
    ):
        with pytest.raises(ContainerError, match=r"podman \w+ did not answer within 0\.2 s"):
            call()


def test_an_engine_that_was_removed_is_explained() -> None:
    with pytest.raises(ContainerError, match=r"/nowhere/docker cannot be run: No such file.*Install docker again"):
        Engine("docker", ("/nowhere/docker",)).succeeds("info")


LOGGED = 'time="2026-11-25T13:58:49Z" level=error msg="Removing timer: unable to get systemd connection"'


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (f"{LOGGED}\nError: no such image\n{LOGGED}\n", "podman run failed: Error: no such image"),
        (f"{LOGGED}\n", f"podman run failed: {LOGGED}"),
        ("Error: one\nError: two\n", "podman run failed: Error: one\nError: two"),
        ("", "podman run failed: "),
    ],
)
def test_a_failure_is_the_cause_without_what_was_logged_beside_it(tmp_path: Path, printed: str, said: str) -> None:
    (tmp_path / "stderr").write_text(printed)
    command = ("sh", "-c", f"cat {tmp_path}/stderr >&2; exit 125")
    with pytest.raises(ContainerError) as caught:
        Engine("podman", command).call("run")
    assert str(caught.value) == said


def test_secrets_are_read_through_the_group_that_their_owner_has_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.getgid", lambda: 1000)
    engines = {
        "0": [Engine("podman", ("false",)), Engine("docker", ("echo", "[name=seccomp name=rootless]"))],
        "1000": [Engine("docker", ("echo", "[name=seccomp]"))],
    }
    secrets = SecretFolder(tmp_path / "secrets")
    secrets.write({"keys": "a-key\n"})
    for group, those in engines.items():
        for engine in those:
            assert secrets.options(engine)[-2:] == ["--group-add", group]


def test_secrets_of_people_without_roots_rights_are_replaced_and_removed() -> None:
    with tempfile.TemporaryDirectory() as place:
        if os.geteuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        child = os.fork()
        if not child:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            secrets = SecretFolder(Path(place) / "secrets")
            secrets.write({"keys": "a-key\n", "tls.key": "old"})
            secrets.write({"tls.key": "new"})
            shown = {path.name: (path.read_text(), path.stat().st_mode & 0o777) for path in secrets.folder.glob("*/*")}
            secrets.remove()
            expected = {"keys": ("a-key\n", 0o640), "tls.key": ("new", 0o640)}
            os._exit(0 if shown == expected and not list(Path(place).iterdir()) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("shown", "user", "warned"), [("0", 1000, 1), ("536870912", 1000, 0), ("0", 0, 0)])
def test_limits_that_an_engine_leaves_out_are_told(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, shown: str, user: int, warned: int
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    warn_without_limits(Running(Engine("podman", ("sh", "-c", f"echo {shown}")), "svc", "image", "id"), "512m")
    assert [str(one.message) for one in recwarn] == warned * [
        "svc runs without limits of memory (512m) and CPUs: podman can set them here for root only, or on a system "
        "with cgroups v2."
    ]
