"""The libraries' own tests, in their own languages, against a running service; and what they are made from."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.sample_clients.conftest import CLIENTS, QUIET
from tests.serving.models import arithmetic_model, image_model

TESTS = {
    "go": [str(CLIENTS / "go/bin/scoring.test")],
    "node": ["node", "--test", str(CLIENTS / "node/test")],
    "csharp": [str(CLIENTS / "csharp/bin/test")],
}


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    with Server() as server:
        server.add_model("arithmetic", ConvertedModel.load(arithmetic_model(folder / "arithmetic.accelonnx")))
        server.add_model("means", ConvertedModel.load(image_model(folder / "means.accelonnx")))
        yield server


@pytest.mark.parametrize("language", TESTS)
def test_the_librarys_own_tests(language: str, arithmetic: Server, image: Path) -> None:
    environment = QUIET | {"SERVICE": f"localhost:{arithmetic.port}", "PICTURE": str(image)}
    done = subprocess.run(TESTS[language], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_field_numbers_of_csharp_are_those_of_protos(tmp_path: Path) -> None:
    made = tmp_path / "Fields.cs"
    subprocess.run([sys.executable, CLIENTS / "csharp/fields.py", made], check=True, timeout=60, env=os.environ)
    assert made.read_text() == (CLIENTS / "csharp/client/Fields.cs").read_text(), (
        "run: python sample-clients/csharp/fields.py"
    )
