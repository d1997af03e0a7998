"""Model: a registered file or folder, with versions. A SavedModel folder before conversion, one file after."""

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from amlrealtimeai.core.arguments import (
    check_name,
    check_path,
    check_strings,
    known_keywords,
    warn_without_meaning,
    writing,
)
from amlrealtimeai.core.cloud import names_of_azure, needs_azure
from amlrealtimeai.core.stored import Versioned
from amlrealtimeai.core.tables import in_bytes
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import InvalidInputError, ModelNotFoundError
from amlrealtimeai.store.rows import Row

if TYPE_CHECKING:
    from amlrealtimeai.core.compute import ComputeTarget
    from amlrealtimeai.core.webservice import AksServiceDeploymentConfiguration, Webservice
    from amlrealtimeai.core.webservice.deployment import InferenceConfiguration

__getattr__ = names_of_azure(
    __name__,
    {
        "InferenceConfig": "A converted model needs no script: use AccelInferenceConfig from amlrealtimeai.accel.",
        "ModelPackage Dataset": "",
    },
)

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"


@needs_azure("package profile", "Make an image: Image.create(workspace, name, [model], image_config).")
@needs_azure("run datasets add_dataset_references sample_input_dataset sample_output_dataset resource_configuration")
@needs_azure("get_sas_urls mime_type unpack", "See url and filename.")
class Model(Versioned):
    """A registered model: by name (the latest version, or `version`), or by id "name:version".

    `tags` and `properties` narrow the search: names, or [name, value] pairs. Raises NotFoundError.
    """

    _table = "models"
    _not_found = ModelNotFoundError
    _creation = "Register one: Model.register(workspace, model_path, model_name)."
    run_id: ClassVar[None] = None  # as of a model that no run has made
    experiment_name: ClassVar[None] = None

    @known_keywords
    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        tags: Any = None,
        properties: Any = None,
        version: int | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
    ) -> None:
        warn_without_meaning("Model", run_id=run_id, model_framework=model_framework)
        self.workspace = workspace
        self._row = self._find(workspace, name, id, tags, properties, version)

    @staticmethod
    @known_keywords
    def register(
        workspace: Workspace,
        model_path: str | Path,
        model_name: str,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        datasets: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Any = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        parent_id: str | None = None,
    ) -> "Model":
        """Store a copy of the file or folder as the next version of `model_name`.

        `parent_id` (ours) is the id of the model that this one was made from. Raises NotFoundError when there is
        nothing at `model_path`, StoreError when the disk is full.
        """
        warn_without_meaning(
            "Model.register",
            datasets=datasets,
            child_paths=child_paths,
            sample_input_dataset=sample_input_dataset,
            sample_output_dataset=sample_output_dataset,
            resource_configuration=resource_configuration,
        )
        check_name("model_name", model_name, _NAME, "letters, digits, '.', '_' and '-', with a letter or digit first")
        if not isinstance(model_path, str | Path):
            raise InvalidInputError(
                f"model_path: expected the path of one file or folder, got {model_path!r}. Put what belongs together "
                "into a folder and register that."
            )
        path = check_path("model_path", model_path)
        row: Row = {
            "name": model_name,
            "filename": Path(os.path.abspath(path)).name,  # noqa: PTH100 -- "." has a name, a link keeps its own
            "is_folder": int(path.is_dir()),
            "is_converted": int(_is_converted(path)),
            "parent_id": parent_id,
            "description": description,
            "framework": model_framework,
            "framework_version": model_framework_version,
            "tags": check_strings("tags", tags),
            "properties": check_strings("properties", properties),
        }
        with workspace.store.staged(path) as staged:
            version = workspace.store.add_version("models", row, staged)
        return Model(workspace, model_name, version=version)

    @staticmethod
    @known_keywords
    def list(
        workspace: Workspace,
        name: str | None = None,
        tags: Any = None,
        properties: Any = None,
        run_id: str | None = None,
        latest: bool = False,
    ) -> "Sequence[Model]":
        """Registered models, newest first; `latest` keeps one version of each name."""
        warn_without_meaning("Model.list", run_id=run_id)
        rows = Model._rows(workspace, tags, properties, name=name)[::-1]
        if latest:
            newest: dict[str, Row] = {}
            for row in rows:
                if row["name"] not in newest or row["version"] > newest[row["name"]]["version"]:
                    newest[row["name"]] = row
            rows = list(newest.values())
        return [Model._of(workspace, row) for row in rows]

    @property
    def url(self) -> str:
        """Where the bytes are, by content: equal files have equal urls."""
        return f"aml://asset/{self._row['blob']}"

    @property
    def digest(self) -> str:
        """SHA-256 of the file, or of the tar of the folder."""
        return f"sha256:{self._row['blob']}"

    @property
    def parent_id(self) -> str | None:
        """Id of the model that this one was converted from."""
        return self._row["parent_id"]

    @property
    def model_framework(self) -> str | None:
        """Framework named at registration."""
        return self._row["framework"]

    @property
    def model_framework_version(self) -> str | None:
        """Framework version named at registration."""
        return self._row["framework_version"]

    @property
    def is_converted(self) -> bool:
        """Whether it is a converted model, which can be put in an image and served."""
        return bool(self._row["is_converted"])

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return bool(self._row["is_folder"])

    @property
    def filename(self) -> str:
        """Name of the file or folder as it was registered."""
        return self._row["filename"]

    @known_keywords
    def download(self, target_dir: str | Path = ".", exist_ok: bool = False, exists_ok: bool = False) -> str:
        """Copy the file or folder into `target_dir` and return its path; its digest is checked on the way."""
        folder = check_path("target_dir", target_dir)
        with writing("target_dir", folder):
            folder.mkdir(parents=True, exist_ok=True)
        target = folder / self.filename
        if target.exists() and not (exist_ok or exists_ok):
            raise InvalidInputError(f"{target} exists already. Choose another target_dir, or pass exist_ok=True.")
        with self._listed():
            self.workspace.store.export(self._row["blob"], target, is_folder=self.is_folder)
        return str(target)

    @staticmethod
    @known_keywords
    def get_model_path(model_name: str, version: int | None = None, _workspace: Workspace | None = None) -> str:
        """Path of a read-only copy kept by the workspace (default: the one of from_config, else the local one)."""
        model = Model(_workspace or Workspace.from_config(), model_name, version=version)
        return str(model.kept_path())

    def kept_path(self) -> Path:
        """Path of a copy that the workspace keeps under the model's own file name; checked on every call."""
        with self._listed():
            return self.workspace.store.kept(self._row["blob"], self.filename, is_folder=self.is_folder)

    @known_keywords
    def update(
        self,
        tags: dict[str, str] | None = None,
        description: str | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Replace the tags or the description, add properties (ours)."""
        warn_without_meaning(
            "Model.update",
            sample_input_dataset=sample_input_dataset,
            sample_output_dataset=sample_output_dataset,
            resource_configuration=resource_configuration,
        )
        self._describe(tags, properties, description)

    @staticmethod
    @known_keywords
    def deploy(
        workspace: Workspace,
        name: str,
        models: "Model | Iterable[Model]",
        inference_config: "InferenceConfiguration",
        deployment_config: "AksServiceDeploymentConfiguration | None" = None,
        deployment_target: "ComputeTarget | None" = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Serve a model, converted first where it is not (which takes a while); no container image is built."""
        from amlrealtimeai.core.webservice import Webservice, deployment

        converted = deployment.converted(workspace, models, inference_config)
        return Webservice.deploy_from_model(
            workspace, name, converted, None, deployment_config, deployment_target, overwrite
        )

    def delete(self) -> None:
        """Delete this version; InUseError when an image or a webservice needs it."""
        self.workspace.store.delete("models", self._key)

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
            "parentId": self.parent_id,
            "url": self.url,
            "sizeInBytes": self.size,
            "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version,
        }

    def _fields(self) -> dict[str, Any]:
        return {
            "workspace": self.workspace.name,
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "size": in_bytes(self.size),
            "tags": self.tags,
            "properties": self.properties,
        }


def _is_converted(path: Path) -> bool:
    from amlrealtimeai.artifact.converted import DEFINITION  # brings NumPy and Pillow

    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return DEFINITION in archive.namelist()
    except zipfile.BadZipFile:
        return False
