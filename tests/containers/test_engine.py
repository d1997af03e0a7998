"""The command line of an engine, without one: what hangs or is not there ends in a ContainerError."""

from pathlib import Path

import pytest

from amlrealtimeai.containers.engine import Engine
from amlrealtimeai.errors import ContainerError


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
