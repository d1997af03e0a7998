"""What is in an image, as a CycloneDX 1.6 document (cyclonedx.org/docs/1.6/json): the same image, the same bytes."""

import platform
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import amlrealtimeai
from amlrealtimeai.containers import packages
from amlrealtimeai.containers.configuration import ModelFile
from amlrealtimeai.errors import extras_named

PLACE = "usr/share/doc/amlrealtimeai/sbom.cdx.json"
"""Where the document is inside the image."""
_NAMESPACE = uuid.UUID("6d0f5a0e-3b1f-5c1e-9a51-3a1c6f0c8b11")
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def document(model: ModelFile, name: str, tag: str, libraries: Iterable[str]) -> bytes:
    """The image `name:tag` with its model: interpreter, packages, our code, and the system's shared `libraries`."""
    with extras_named():
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6

    image = Component(type=ComponentType.CONTAINER, name=name, version=tag, bom_ref="image")
    bom = Bom(components=[*_components(model), *map(_library, sorted(libraries))])
    bom.metadata.component = image
    bom.metadata.timestamp = _NEVER
    content = sorted(str(component.bom_ref.value) for component in bom.components)
    bom.serial_number = uuid.uuid5(_NAMESPACE, f"{name}:{tag} {content}")
    bom.register_dependency(image, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1).encode()


def _components(model: ModelFile) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    ours = _package("amlrealtimeai", amlrealtimeai.__version__, "MIT")
    version = platform.python_version()
    python = Component(type=ComponentType.APPLICATION, name="python", version=version, bom_ref=f"python@{version}")
    weights = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=model.name,
        bom_ref=f"model@{model.digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=model.digest.removeprefix("sha256:"))],
    )
    found = [_package(d.metadata["Name"], d.version, _licence(d)) for d in packages.distributions()]
    return [python, ours, *found, weights]


def _package(name: str, version: str, licence: str) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    url = PackageURL("pypi", name=name.lower(), version=version)
    licences = [DisjunctiveLicense(name=licence)] if licence else []
    return Component(
        type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=url.to_string(), licenses=licences
    )


def _licence(distribution: metadata.Distribution) -> str:
    """What a distribution says of its licence, in one line."""
    fields = distribution.metadata.json
    lines = str(fields.get("license_expression") or fields.get("license") or "").strip().splitlines()
    if lines:
        return lines[0]
    classifiers = fields.get("classifier") or []
    return next((line.rsplit(" :: ", 1)[-1] for line in classifiers if line.startswith("License ::")), "")


def _library(path: str) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    name = Path(path).name
    return Component(type=ComponentType.FILE, name=name, bom_ref=f"file@{name}")
