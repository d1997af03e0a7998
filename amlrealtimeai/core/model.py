"""Model: a registered file or folder, with versions. A SavedModel folder before conversion, one file after."""

import zipfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from amlrealtimeai.core.arguments import check_name, check_strings, known_keywords, matches, warn_without_meaning
from amlrealtimeai.core.tables import Shown, in_bytes
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.serving.converted import DEFINITION
from amlrealtimeai.store.store import Row

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"


class Model(Shown):
    """A registered model: by name (the latest version, or `version`), or by id "name:version".

    `tags` and `properties` narrow the search: names, or [name, value] pairs. Raises NotFoundError.
    """

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
        if (name is None) == (id is None):
            raise InvalidInputError("expected either name= or id=. For example: Model(workspace, name='resnet50')")
        if id is not None:
            name, version = split_id(id, "model")
        rows = workspace.store.select("models", name=name, version=version)
        rows = [row for row in rows if matches(tags, row["tags"]) and matches(properties, row["properties"])]
        if not rows:
            asked = id or (name if version is None else f"{name}:{version}")
            known = ", ".join(workspace.models) or "none"
            raise NotFoundError(
                f"no model {asked!r} in the workspace {workspace.name!r}; its models are: {known}. "
                "Register one: Model.register(workspace, model_path, model_name)."
            )
        self.workspace = workspace
        self._row = max(rows, key=lambda row: row["version"])

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
        parent_id: str | None = None,
    ) -> "Model":
        """Store a copy of the file or folder as the next version of `model_name`.

        `parent_id` (ours) is the id of the model that this one was made from. Raises NotFoundError when there is
        nothing at `model_path`, StoreError when the disk is full.
        """
        warn_without_meaning("Model.register", datasets=datasets, child_paths=child_paths)
        check_name("model_name", model_name, _NAME, "letters, digits, '.', '_' and '-', with a letter or digit first")
        path = Path(model_path).expanduser()
        row: Row = {
            "name": model_name,
            "filename": path.resolve().name,
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
        workspace: Workspace, name: str | None = None, tags: Any = None, properties: Any = None, latest: bool = False
    ) -> "list[Model]":
        """Registered models, newest first; `latest` keeps one version of each name."""
        rows = [
            row
            for row in reversed(workspace.store.select("models", name=name))
            if matches(tags, row["tags"]) and matches(properties, row["properties"])
        ]
        if latest:
            newest: dict[str, Row] = {}
            for row in rows:
                if row["name"] not in newest or row["version"] > newest[row["name"]]["version"]:
                    newest[row["name"]] = row
            rows = list(newest.values())
        return [Model._of(workspace, row) for row in rows]

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> "Model":
        model = cls.__new__(cls)
        model.workspace, model._row = workspace, row
        return model

    @property
    def name(self) -> str:
        """Name it was registered by."""
        return self._row["name"]

    @property
    def version(self) -> int:
        """1, 2, 3, ... by name; never given twice."""
        return self._row["version"]

    @property
    def id(self) -> str:
        """The text "name:version"."""
        return f"{self.name}:{self.version}"

    @property
    def description(self) -> str | None:
        """Free text."""
        return self._row["description"]

    @property
    def tags(self) -> dict[str, str]:
        """Tags; change them with add_tags, remove_tags and update."""
        return dict(self._row["tags"])

    @property
    def properties(self) -> dict[str, str]:
        """Properties, which can be added to but not changed."""
        return dict(self._row["properties"])

    @property
    def url(self) -> str:
        """Where the bytes are, by content: equal files have equal urls."""
        return f"aml://asset/{self._row['blob']}"

    @property
    def digest(self) -> str:
        """SHA-256 of the file, or of the tar of the folder."""
        return f"sha256:{self._row['blob']}"

    @property
    def size(self) -> int:
        """Stored size in bytes."""
        return self._row["size"]

    @property
    def created_time(self) -> datetime:
        """Time of registration, with its time zone (UTC)."""
        return datetime.fromisoformat(self._row["created"])

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
    def filename(self) -> str:
        """Name of the file or folder as it was registered."""
        return self._row["filename"]

    @known_keywords
    def download(self, target_dir: str | Path = ".", exist_ok: bool = False) -> str:
        """Copy the file or folder into `target_dir` and return its path; its digest is checked on the way."""
        folder = Path(target_dir).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / self.filename
        if target.exists() and not exist_ok:
            raise InvalidInputError(f"{target} exists already. Choose another target_dir, or pass exist_ok=True.")
        self.workspace.store.export(self._row["blob"], target, is_folder=bool(self._row["is_folder"]))
        return str(target)

    @staticmethod
    @known_keywords
    def get_model_path(model_name: str, version: int | None = None, _workspace: Workspace | None = None) -> str:
        """Path of a read-only copy kept by the workspace (default: the one of from_config, else the local one)."""
        model = Model(_workspace or Workspace.from_config(), model_name, version=version)
        return str(model.kept_path())

    def kept_path(self) -> Path:
        """Path of a copy that the workspace keeps under the model's own file name; checked on every call."""
        return self.workspace.store.kept(self._row["blob"], self.filename, is_folder=bool(self._row["is_folder"]))

    @known_keywords
    def add_tags(self, tags: dict[str, str]) -> None:
        """Add tags, or give them new values."""
        added = check_strings("tags", tags)
        self._change(lambda row: {"tags": {**row["tags"], **added}})

    @known_keywords
    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Remove tags by name; unknown ones are no error."""
        names = {tags} if isinstance(tags, str) else set(tags)
        self._change(lambda row: {"tags": {key: value for key, value in row["tags"].items() if key not in names}})

    @known_keywords
    def add_properties(self, properties: dict[str, str]) -> None:
        """Add properties; one that exists keeps its value, which is an InvalidInputError if it would differ."""
        added = check_strings("properties", properties)

        def merged(row: Row) -> Row:
            fixed = {key for key, value in added.items() if row["properties"].get(key, value) != value}
            if fixed:
                raise InvalidInputError(
                    f"the properties {sorted(fixed)} of {self.id!r} cannot be changed. Use tags for that."
                )
            return {"properties": {**row["properties"], **added}}

        self._change(merged)

    @known_keywords
    def update(
        self,
        tags: dict[str, str] | None = None,
        description: str | None = None,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Replace the tags or the description, add properties."""
        if properties is not None:
            self.add_properties(properties)
        changes: Row = {}
        if tags is not None:
            changes["tags"] = check_strings("tags", tags)
        if description is not None:
            changes["description"] = description
        self._change(lambda row: changes)

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

    @property
    def _key(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version}

    def _change(self, function: Any) -> None:
        self._row = self.workspace.store.change("models", self._key, function)

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


def split_id(id: str, what: str) -> tuple[str, int]:
    """("resnet50", 3) of "resnet50:3"."""
    name, _, version = str(id).rpartition(":")
    if not name or not version.isdigit():
        raise InvalidInputError(f"{what} id: expected 'name:version', got {id!r}")
    return name, int(version)


def _is_converted(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return DEFINITION in archive.namelist()
    except zipfile.BadZipFile:
        return False
