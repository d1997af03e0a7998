"""Image: a container image that serves one converted model, kept as one file that podman and docker load."""

import contextlib
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from amlrealtimeai.core.arguments import check_path, check_strings, known_keywords, shown
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.operation import SUCCEEDED, Operation
from amlrealtimeai.core.stored import Versioned, split_id
from amlrealtimeai.core.tables import in_bytes
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import ContainerError, ImageInputError, ImageNotFoundError, NotFoundError, UnsupportedError
from amlrealtimeai.store import failures
from amlrealtimeai.store.rows import Row, now


class ImageConfiguration(Protocol):
    """What `image_configuration` of a class returns."""

    flavor: str
    tags: dict[str, str] | None
    properties: dict[str, str] | None
    description: str | None


class Image(Versioned):
    """An existing image by name (the latest version, or `version`) or id "name:version". Raises NotFoundError."""

    _table = "images"
    _not_found = ImageNotFoundError
    _creation = "Create one: Image.create(workspace, name, [model], image_config)."
    _operation: "Operation[Row] | None" = None
    _flavors: ClassVar[dict[str, type["Image"]]] = {}

    def __init_subclass__(cls, flavor: str | None = None) -> None:
        """A class with a flavor is the one of the images with that flavor, as soon as its module is imported."""
        if flavor is not None:
            Image._flavors[flavor] = cls

    @known_keywords
    def __new__(
        cls,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        tags: Any = None,
        properties: Any = None,
        version: int | None = None,
    ) -> "Image":
        """An object of the class that belongs to the image's flavor."""
        row = cls._find(workspace, name, id, tags, properties, version)
        return object.__new__(_class_of(row["flavor"]) if cls in (Image, ContainerImage) else cls)

    @known_keywords
    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        tags: Any = None,
        properties: Any = None,
        version: int | None = None,
    ) -> None:
        self.workspace = workspace
        self._row = self._find(workspace, name, id, tags, properties, version)

    @staticmethod
    @known_keywords
    def create(
        workspace: Workspace, name: str, models: "Model | str | Iterable[Model | str]", image_config: ImageConfiguration
    ) -> "Image":
        """Begin to build an image with one converted model (a Model, or its id); wait_for_creation waits for the end.

        The workspace may come last, too. The image is listed when it is whole. Raises InvalidInputError for a name that
        is not lower case, for more than one model, or for one that was not converted.
        """
        if isinstance(image_config, Workspace):
            workspace, name, models, image_config = image_config, workspace, name, models
        model = _only_model(workspace, models)
        _check_name(name)
        if not hasattr(image_config, "flavor"):
            raise ImageInputError(
                "image_config: expected a configuration of an image, such as "
                f"AccelContainerImage.image_configuration(), got {shown(image_config)}"
            )
        if not model.is_converted:
            raise ImageInputError(
                f"the model {model.id!r} is not a converted one. Convert it first: "
                "AccelOnnxConverter.convert_tf_model(workspace, model, input_node, outputs_nodes), or "
                "AccelOnnxConverter.convert_onnx_model(workspace, model) for an ONNX file."
            )
        version = workspace.store.next_version("images", name)
        row = {
            "name": name,
            "version": version,
            "log": f"image-{name}-{version}.log",
            "model_name": model.name,
            "model_version": model.version,
            "flavor": image_config.flavor,
            "description": image_config.description,
            "tags": check_strings("tags", image_config.tags),
            "properties": check_strings("properties", image_config.properties),
            "created": now(),
        }
        image: Image = _class_of(image_config.flavor)._of(workspace, row)
        image._operation = Operation(f"image {image.id}", lambda _: _build(workspace, row, model), measured=False)
        return image

    @staticmethod
    @known_keywords
    def list(
        workspace: Workspace,
        image_name: str | None = None,
        model_name: str | None = None,
        model_id: str | None = None,
        tags: Any = None,
        properties: Any = None,
    ) -> "Sequence[Image]":
        """Images of the workspace, newest first."""
        model, version = split_id(model_id, "model") if model_id is not None else (model_name, None)
        rows = Image._rows(workspace, tags, properties, name=image_name, model_name=model, model_version=version)
        return [_class_of(row["flavor"])._of(workspace, row) for row in reversed(rows)]

    @known_keywords
    def wait_for_creation(self, show_output: bool = False) -> None:
        """Wait until the image is built. Raises ContainerError, naming the log, when that failed."""
        if self._operation is None:
            return
        succeeded = self._operation.wait(show_output)
        if show_output:
            print(f'Image creation operation finished for image {self.id}, operation "{self.creation_state}"')
        if not succeeded:
            error = self._operation.error
            raise ContainerError(f"the image {self.id!r} could not be built: {error} The log: {self._log}") from error
        self._settle()

    def update_creation_state(self) -> None:
        """Take notice of a build that has ended; the attributes do that by themselves."""
        self._settle()

    @property
    def creation_state(self) -> str:
        """ "Running", "Succeeded" or "Failed"."""
        return SUCCEEDED if self._operation is None else self._operation.state

    @property
    def image_location(self) -> str | None:
        """Path of the OCI archive, for `podman load --input`; None until it is built."""
        row = self._built()
        return str(self.workspace.store.blobs.path(row["blob"])) if row else None

    @property
    def image_build_log_uri(self) -> str:
        """file:// address of the build's log."""
        return self._log.as_uri()

    @property
    def digest(self) -> str | None:
        """Digest of the image's manifest ("sha256:..."), as registries show it; None until it is built."""
        row = self._built()
        return row["digest"] if row else None

    @property
    def size(self) -> int:
        """Bytes of the archive; 0 until it is built."""
        row = self._built()
        return row["size"] if row else 0

    @property
    def models(self) -> "Sequence[Model]":
        """The model in the image."""
        return [Model(self.workspace, self._row["model_name"], version=self._row["model_version"])]

    @property
    def model_ids(self) -> "Sequence[str]":
        """The id of the model in the image."""
        return [f"{self._row['model_name']}:{self._row['model_version']}"]

    @property
    def image_flavor(self) -> str:
        """Kind of the image."""
        return self._row["flavor"]

    @property
    def image_type(self) -> str:
        """The same as image_flavor."""
        return self.image_flavor

    @known_keywords
    def update(
        self,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
    ) -> None:
        """Replace the tags or the description, add properties."""
        self._describe(tags, properties, description)

    @known_keywords
    def export(self, path: str | Path) -> str:
        """Copy the OCI archive to the file `path` and return that; ours."""
        target = check_path("path", path)
        self._required()
        with self._listed():
            self.workspace.store.export(self._row["blob"], target, is_folder=False)
        return str(target)

    def delete(self) -> None:
        """Delete the image; InUseError when a webservice runs it."""
        if self._operation is not None:
            self._operation.wait(show_output=False)
        self.workspace.store.delete("images", self._key)
        self._log.unlink(missing_ok=True)

    def serialize(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "tags": self.tags,
            "properties": self.properties,
            "createdTime": self._row["created"],
            "creationState": self.creation_state,
            "imageLocation": self.image_location,
            "imageBuildLogUri": self.image_build_log_uri,
            "imageType": self.image_flavor,
            "digest": self.digest,
            "sizeInBytes": self.size,
            "modelIds": self.model_ids,
        }

    @property
    def _log(self) -> Path:
        return self.workspace.store.logs / self._row["log"]

    def _settle(self) -> None:
        """Take the finished row in place of the one that the build started with."""
        if self._operation is not None and self._operation.state == SUCCEEDED and self._operation.value is not None:
            self._row, self._operation = self._operation.value, None

    def _built(self) -> Row | None:
        self._settle()
        return self._row if self._operation is None else None

    def _required(self) -> Row:
        row = self._built()
        if row is None:
            state = self.creation_state
            raise ContainerError(f"the image {self.id!r} is not built: {state}. Call wait_for_creation() first.")
        return row

    def _fields(self) -> dict[str, Any]:
        built = self._built()
        return {
            "workspace": self.workspace.name,
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "state": self.creation_state,
            "model": self.model_ids[0],
            **({"size": in_bytes(self.size), "digest": built["digest"][:19]} if built else {}),
            "tags": self.tags,
        }


class ContainerImage(Image):
    """Base of the images that a container engine runs."""

    @staticmethod
    def image_configuration(*arguments: Any, **keywords: Any) -> Any:
        """Images with a scoring script of your own: not here."""
        raise UnsupportedError(
            "images with a scoring script are not built here. Use AccelContainerImage.image_configuration() "
            "from amlrealtimeai.accel, for a converted model."
        )

    @known_keywords
    def run(self, input_data: Any = None, port: int = 0, engine: str | None = None) -> Any:
        """Run the image with podman, docker or runc on this machine.

        Without `input_data`: returns the running container (a context manager with .address and .stop()). With an image
        file's path, its bytes, or an array: scores that, stops the container and returns the answer. Raises
        ContainerError when there is no engine.
        """
        from amlrealtimeai import containers

        self._required()
        running = containers.run(str(self.image_location), port=port, engine=engine)
        if input_data is None:
            return running
        from amlrealtimeai.client import ServiceClient

        with running, ServiceClient(running.address, service_name=self.name) as client:
            return client.run(input_data)


def _only_model(workspace: Workspace, models: "Model | str | Iterable[Model | str]") -> Model:
    given = [models] if isinstance(models, Model | str) else list(models) if isinstance(models, Iterable) else [models]
    if len(given) != 1:
        raise ImageInputError(f"expected one model for an image, got {len(given)}. Make an image for each of them.")
    return Model.given(workspace, given[0])


def _check_name(name: str) -> None:
    from amlrealtimeai.containers.configuration import check_reference

    if not isinstance(name, str) or "/" in name:
        raise ImageInputError(f"image name: expected a text without '/', got {shown(name)}")
    check_reference(name, "1")


def _class_of(flavor: str) -> Any:
    return Image._flavors.get(flavor, ContainerImage)


def _build(workspace: Workspace, row: Row, model: Model) -> Row:
    """Build the archive in the store's temporary folder, then list it; returns the listed row."""
    from amlrealtimeai.containers import build_image

    store = workspace.store
    log = store.logs / row["log"]
    _append(log, f"{now()} building {row['name']}:{row['version']} with the model {model.id}\n")
    try:
        with store.blobs.temporary_folder() as folder:
            source = Path(model.download(folder))
            info = build_image(source, folder / "image.tar", name=row["name"], tag=str(row["version"]))
            finished = {**row, "digest": info.digest, "seconds": info.seconds}
            with store.blobs.adopt(info.path) as staged:
                store.add_version("images", finished, staged, version=row["version"])
        layers = "".join(f"  {layer}\n" for layer in info.layers)
        _append(log, f"{now()} {info}\n{layers}")
    except BaseException:
        with contextlib.suppress(NotFoundError):  # the workspace may be what is gone
            _append(log, f"{now()} failed\n{traceback.format_exc()}")
        raise
    return store.require("images", {"name": row["name"], "version": row["version"]})


def _append(log: Path, text: str) -> None:
    with failures.workspace(log.parent.parent), log.open("a") as stream:
        stream.write(text)
