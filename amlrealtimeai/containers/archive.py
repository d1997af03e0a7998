"""The image file: an OCI image layout and a docker-archive manifest over the same blobs, in one tar.

OCI image specification 1.0.2, "Image Layout", "Image Manifest" and "Image Configuration"; the docker manifest.json is
what `docker save` writes, so that podman, docker, skopeo and containerd all read the file.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from amlrealtimeai.containers.layer import CHUNK, Packed
from amlrealtimeai.errors import ContainerError, MissingFileError

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
# No file of ours that is read whole is larger; a damaged size must not fill the memory.
_LARGEST_DOCUMENT = 4 << 20


@dataclass(frozen=True)
class Image:
    """What an image file says about itself. `id` is the digest of the configuration: the engines' image id."""

    reference: str
    digest: str
    id: str
    config: dict[str, Any]


def _document(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _qualified(reference: str) -> str:
    """The name with the registry that containerd and docker assume when there is none."""
    first, _, rest = reference.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return reference
    return f"docker.io/{reference}" if rest else f"docker.io/library/{reference}"


def _add(tar: tarfile.TarFile, name: str, size: int, content: BinaryIO) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, content)


def write_image(
    out: BinaryIO, reference: str, config: dict[str, Any], layers: Sequence[tuple[Packed, BinaryIO]]
) -> Image:
    """Write the image of `layers`, lowest first, open at their start; `config`: OCI configuration without rootfs."""
    name, tag = reference.rsplit(":", 1)
    config = {**config, "rootfs": {"type": "layers", "diff_ids": [packed.diff_id for packed, _ in layers]}}
    config_data = _document(config)
    manifest = _document({
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, _digest(config_data), len(config_data)),
        "layers": [_descriptor(_LAYER, packed.digest, packed.size) for packed, _ in layers],
    })  # fmt: skip
    named = {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": _qualified(reference)}
    entry = {**_descriptor(_MANIFEST, _digest(manifest), len(manifest)), "annotations": named}
    docker = {
        "Config": _blob(_digest(config_data)),
        "RepoTags": [f"{name}:{tag}"],
        "Layers": [_blob(packed.digest) for packed, _ in layers],
    }
    documents = {
        "oci-layout": _document({"imageLayoutVersion": "1.0.0"}),
        "index.json": _document({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}),
        "manifest.json": _document([docker]),
        _blob(_digest(config_data)): config_data,
        _blob(_digest(manifest)): manifest,
    }
    with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, copybufsize=CHUNK) as tar:
        for path, data in documents.items():
            _add(tar, path, len(data), io.BytesIO(data))
        blobs = {packed.digest: (packed.size, source) for packed, source in layers}
        for digest in sorted(blobs):
            _add(tar, _blob(digest), *blobs[digest])
    return Image(reference, _digest(manifest), _digest(config_data), config)


def verify_image(path: Path) -> Image:
    """Read an image file and check every digest and size in it.

    Raises NotFoundError when there is no such file, ContainerError when it is not an image of ours or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"there is no image file {path}; build it with amlrealtimeai.containers.build_image")
    try:
        with tarfile.open(path, "r:") as tar:
            return _verified(tar)
    except (tarfile.TarError, KeyError, ValueError, TypeError, IndexError, AttributeError, OSError) as error:
        raise ContainerError(
            f"{path} is damaged or no container image ({error}); "
            "build it again with amlrealtimeai.containers.build_image"
        ) from error


def _verified(tar: tarfile.TarFile) -> Image:
    members = {member.name: member for member in tar}
    index = json.loads(_read(tar, members["index.json"]))
    docker = json.loads(_read(tar, members["manifest.json"]))[0]
    entry = index["manifests"][0]
    manifest = json.loads(_checked(tar, members, entry))
    config = json.loads(_checked(tar, members, manifest["config"]))
    for layer in manifest["layers"]:
        _check(tar, members, layer)
    expected = [_blob(layer["digest"]) for layer in manifest["layers"]]
    if docker["Layers"] != expected or docker["Config"] != _blob(manifest["config"]["digest"]):
        raise ValueError("manifest.json and index.json name different content")
    return Image(docker["RepoTags"][0], entry["digest"], manifest["config"]["digest"], config)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None or member.size > _LARGEST_DOCUMENT:
        raise ValueError(f"{member.name} is not a document")
    return file.read()


def _check(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], descriptor: dict[str, Any]) -> None:
    member = members[_blob(descriptor["digest"])]
    file = tar.extractfile(member)
    if file is None or member.size != descriptor["size"]:
        raise ValueError(f"{member.name} has {member.size} bytes, expected {descriptor['size']}")
    actual = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if actual != descriptor["digest"]:
        raise ValueError(f"{member.name} holds {actual}")


def _checked(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], descriptor: dict[str, Any]) -> bytes:
    _check(tar, members, descriptor)
    return _read(tar, members[_blob(descriptor["digest"])])
