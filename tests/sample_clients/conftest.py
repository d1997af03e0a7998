"""Services to ask, and how each language's command is called."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.models import encode, image_model, picture

CLIENTS = Path(__file__).resolve().parents[2] / "sample-clients"
COMMANDS = {
    "go": [str(CLIENTS / "go/bin/score")],
    "node": ["node", str(CLIENTS / "node/bin/score.js")],
    "csharp": [str(CLIENTS / "csharp/bin/score")],
}
BUILT = [CLIENTS / "go/bin/score", CLIENTS / "node/node_modules", CLIENTS / "csharp/bin/score"]
QUIET = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "GRPC_GO_RETRY": "on"}


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    missing = [str(path.relative_to(CLIENTS)) for path in BUILT if not path.exists()]
    if missing and not os.environ.get("AMLREALTIMEAI_REQUIRE_CLIENTS"):
        pytest.skip(f"not built: {', '.join(missing)}; make test-clients builds them")


@dataclass
class Command:
    """One language's `score`."""

    words: list[str]

    def run(self, *arguments: object, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        words = [*self.words, *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, env=QUIET | (environment or {}))

    def outputs(self, *arguments: object, **options: Any) -> dict[str, Any]:
        done = self.run("--json", *arguments, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *arguments: object, **options: Any) -> tuple[str, str]:
        """The status code in capitals without underscores, and the sentence."""
        done = self.run(*arguments, **options)
        assert done.returncode == 1, f"expected exit status 1, got {done.returncode}: {done.stdout}{done.stderr}"
        program, code, sentence = done.stderr.strip().split(": ", 2)
        assert program == "score"
        return code.upper().replace("_", ""), sentence


@pytest.fixture(params=COMMANDS)
def score(request: pytest.FixtureRequest) -> Command:
    return Command(COMMANDS[request.param])


@pytest.fixture(scope="session")
def means(tmp_path_factory: pytest.TempPathFactory) -> ConvertedModel:
    return ConvertedModel.load(image_model(tmp_path_factory.mktemp("means") / "means.accelonnx"))


@pytest.fixture(scope="session")
def plain(means: ConvertedModel) -> Iterator[Server]:
    with Server(rest_port=0) as server:
        server.add_model("means", means)
        yield server


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def root(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates") / "root.pem"
    path.write_bytes(authority.pem)
    return path


@pytest.fixture(scope="session")
def secure(means: ConvertedModel, authority: Authority) -> Iterator[Server]:
    with Server(tls=authority.issue("localhost"), rest_port=0) as server:
        server.add_model("means", means, keys=["primary", "secondary"])
        yield server


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "picture.jpg"
    path.write_bytes(encode(picture(), "JPEG"))
    return path
