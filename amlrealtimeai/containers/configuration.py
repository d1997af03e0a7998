"""What an image says of itself: its name, its model, and how its server is run (OCI image specification 1.0.2)."""

import hashlib
import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amlrealtimeai
from amlrealtimeai.artifact.converted import DEFINITION
from amlrealtimeai.artifact.definition import ServiceDefinition
from amlrealtimeai.containers import app, base, packages
from amlrealtimeai.containers.layer import CHUNK, file_digest
from amlrealtimeai.errors import InvalidInputError, MissingFileError
from amlrealtimeai.serving import health

PORT = 50051
HEALTH_SECONDS = {"Interval": 30, "StartPeriod": 10, "Timeout": 5}
LABEL_MODEL = "amlrealtimeai.model.name"
LABEL_MODEL_DIGEST = "amlrealtimeai.model.digest"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:[a-z0-9.-]+(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ModelFile:
    """A checked converted model: its file, the name given at conversion, the digest of the file."""

    path: Path
    name: str
    digest: str


def check_reference(name: str, tag: str) -> None:
    """Raise InvalidInputError unless `name` and `tag` follow the OCI distribution specification's grammar."""
    if not _NAME.fullmatch(name) or len(name) > 255:
        hint = f"; did you mean {name.lower()!r}?" if _NAME.fullmatch(name.lower()) and len(name) <= 255 else ""
        raise InvalidInputError(
            f"expected an image name in lower case (letters and digits, separated by . _ - or /), "
            f"got {name!r:.200}{hint}"
        )
    if not _TAG.fullmatch(tag):
        raise InvalidInputError(f"expected a tag of at most 128 letters, digits, '.', '_' and '-', got {tag!r}")


def check_model(model: str | Path) -> ModelFile:
    """Read a converted model's definition and check the digest of every file in it, without loading it."""
    path = Path(model)
    if not path.is_file():
        raise MissingFileError(
            f"there is no converted model {path}; convert one with AccelOnnxConverter.convert_tf_model"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            definition = ServiceDefinition.from_dict(json.loads(archive.read(DEFINITION)))
            for stage in definition.stages:
                if stage.file and _member_digest(archive, stage.file) != stage.sha256:
                    raise InvalidInputError(f"{stage.file} has been altered: its SHA-256 differs from the definition's")
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, EOFError) as error:
        raise InvalidInputError(
            f"{path.name} is not a usable converted model (expected a .accelonnx file): {error}; "
            "convert it again with AccelOnnxConverter.convert_tf_model"
        ) from error
    return ModelFile(path, definition.name, f"sha256:{file_digest(path)}")


def _member_digest(archive: zipfile.ZipFile, name: str) -> str:
    total = hashlib.sha256()
    with archive.open(name) as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def command(model: ModelFile, name: str) -> list[str]:
    """The image's entry point; later arguments override the ones here."""
    serve = [f"/{base.PYTHON}", "-m", "amlrealtimeai.serving", f"/model/{model.path.name}"]
    return [*serve, "--name", name.rsplit("/", 1)[-1], "--host", "0.0.0.0", "--port", str(PORT)]


def health_check() -> list[str]:
    """The command by which an engine asks the running server, wherever it listens."""
    return [f"/{base.PYTHON}", "-m", "amlrealtimeai.serving.health"]


def environment() -> dict[str, str]:
    """Environment of the serving process."""
    return {
        health.PORTS: "/dev/shm/amlrealtimeai-ports.json",  # also writable when the root is not
        "HOME": "/tmp",
        "LD_LIBRARY_PATH": f"/{base.LIBRARIES}",
        "ORT_DISABLE_TELEMETRY": "1",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHOME": "/usr/local",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": f"/{app.PLACE}:/{packages.PLACE}",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def labels(model: ModelFile, name: str, tag: str) -> dict[str, str]:
    """Labels of the image: the predefined ones of the OCI image specification, and the model's name and digest."""
    return {
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.version": tag,
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.description": f"gRPC service for the converted model {model.name}",
        "amlrealtimeai.version": amlrealtimeai.__version__,
        LABEL_MODEL: model.name,
        LABEL_MODEL_DIGEST: model.digest,
    }


def configuration(model: ModelFile, name: str, tag: str, architecture: str) -> dict[str, Any]:
    """The OCI image configuration, without rootfs."""
    return {
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": command(model, name),
            "Env": [f"{key}={value}" for key, value in sorted(environment().items())],
            "ExposedPorts": {f"{PORT}/tcp": {}},
            # Docker's, reserved in the OCI specification; nanoseconds.
            "Healthcheck": {
                "Test": ["CMD", *health_check()],
                **{key: seconds * 10**9 for key, seconds in HEALTH_SECONDS.items()},
            },
            "Labels": labels(model, name, tag),
            "StopSignal": "SIGTERM",
            "User": f"{base.USER}:{base.USER}",
            "WorkingDir": "/tmp",
        },
    }
