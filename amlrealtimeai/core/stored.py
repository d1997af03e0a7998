"""What models, images and webservices have in common: a row of the store with tags, properties and a description."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self

from amlrealtimeai.core.arguments import (
    check_count,
    check_kind,
    check_names,
    check_strings,
    check_text,
    known_keywords,
    matches,
    shown,
)
from amlrealtimeai.core.tables import Shown
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import InvalidInputError, NotFoundError, StoreError
from amlrealtimeai.store.rows import Row
from amlrealtimeai.store.schema import KEYS

_VERSION_DIGITS = 18


class Stored(Shown):
    """An object of a workspace; its attributes are those of the moment it was read, or last changed by itself."""

    _table: ClassVar[str]
    created_by: ClassVar[None] = None  # nobody logs in
    workspace: Workspace
    _row: Row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self._table, self.workspace, *self._key.values(), self._row["created"]

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> Self:
        made = object.__new__(cls)
        made.workspace, made._row = workspace, row
        return made

    @classmethod
    def _rows(cls, workspace: Workspace, tags: Any, properties: Any, **where: Any) -> list[Row]:
        """Rows whose columns equal `where` and whose tags and properties match, oldest first."""
        rows = workspace.store.select(cls._table, **where)
        return [row for row in rows if matches(tags, row["tags"]) and matches(properties, row["properties"])]

    @property
    def name(self) -> str:
        """Name in the workspace."""
        return self._row["name"]

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
    def created_time(self) -> datetime:
        """Time of creation, with its time zone (UTC)."""
        return datetime.fromisoformat(self._row["created"])

    @known_keywords
    def add_tags(self, tags: dict[str, str]) -> None:
        """Add tags, or give them new values."""
        added = check_strings("tags", tags)
        self._change(lambda row: {"tags": {**row["tags"], **added}})

    @known_keywords
    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Remove tags by name; unknown ones are no error."""
        names = check_names("tags", tags)
        self._change(lambda row: {"tags": {key: value for key, value in row["tags"].items() if key not in names}})

    @known_keywords
    def add_properties(self, properties: dict[str, str]) -> None:
        """Add properties; one that exists keeps its value, and it is an InvalidInputError if that would differ."""
        self._change(describing(None, properties, None))

    @known_keywords
    def update_tags_properties(
        self,
        add_tags: dict[str, str] | None = None,
        remove_tags: str | Iterable[str] | None = None,
        add_properties: dict[str, str] | None = None,
    ) -> None:
        """add_tags, remove_tags and add_properties in one call."""
        describe = describing(None, add_properties, None)
        added = {} if add_tags is None else check_strings("tags", add_tags)
        names = [] if remove_tags is None else check_names("tags", remove_tags)

        def changes(row: Row) -> Row:
            tags = {key: value for key, value in {**row["tags"], **added}.items() if key not in names}
            return {**describe(row), "tags": tags}

        self._change(changes)

    def _describe(
        self, tags: dict[str, str] | None, properties: dict[str, str] | None, description: str | None
    ) -> None:
        """Replace tags and description, add properties; None leaves them."""
        if any(value is not None for value in (tags, properties, description)):
            self._change(describing(tags, properties, description))

    @contextlib.contextmanager
    def _listed(self) -> Iterator[None]:
        """For what reads its bytes: NotFoundError when it was deleted, also meanwhile."""
        self.workspace.store.require(self._table, self._key)
        try:
            yield
        except (StoreError, OSError):
            self.workspace.store.require(self._table, self._key)
            raise

    @property
    def _key(self) -> dict[str, Any]:
        return {column: self._row[column] for column in KEYS[self._table]}

    def _change(self, function: Callable[[Row], Row]) -> None:
        def checked(row: Row) -> Row:
            if row["created"] != self._row["created"]:
                raise NotFoundError(
                    f"{self.name!r} does not exist any more: it was deleted; another one has its name now."
                )
            return function(row)

        self._row = self.workspace.store.change(self._table, self._key, checked)


def describing(
    tags: dict[str, str] | None, properties: dict[str, str] | None, description: str | None
) -> Callable[[Row], Row]:
    """What describing a row anew changes in it, all or nothing; None leaves what is there."""
    fixed: Row = {} if tags is None else {"tags": check_strings("tags", tags)}
    fixed |= {} if description is None else {"description": description}
    added = {} if properties is None else check_strings("properties", properties)

    def changes(row: Row) -> Row:
        refused = [key for key, value in added.items() if row["properties"].get(key, value) != value]
        if refused:
            raise InvalidInputError(f"properties cannot be changed: {', '.join(refused)}. Use tags for that.")
        return {**fixed, **({"properties": {**row["properties"], **added}} if added else {})}

    return changes


class Versioned(Stored):
    """A stored object whose name has versions; its id is "name:version"."""

    _creation: ClassVar[str]  # what to do when there is none: a sentence for people
    _not_found: ClassVar[type[NotFoundError]]

    @classmethod
    def _find(
        cls, workspace: Workspace, name: str | None, id: str | None, tags: Any, properties: Any, version: int | None
    ) -> Row:
        """The latest row of that name, or that of `version`, or of the id "name:version". Raises NotFoundError."""
        what = cls._table.removesuffix("s")
        if (name is None) == (id is None):
            example = f"{what.capitalize()}(workspace, name='resnet50')"
            raise InvalidInputError(f"expected either name= or id=. For example: {example}")
        if id is not None:
            name, version = split_id(id, what)
        version = None if version is None else _checked_version(what, version)
        check_text(f"{what} name", name)
        rows = cls._rows(workspace, tags, properties, name=name, version=version)
        if not rows:
            asked = id or (name if version is None else f"{name}:{version}")
            known = ", ".join(dict.fromkeys(row["name"] for row in workspace.store.select(cls._table))) or "none"
            raise cls._not_found(
                f"{what.capitalize()}NotFound: no {what} {shown(asked)} in the workspace {workspace.name!r}; "
                f"its {cls._table} are: {known}. {cls._creation}"
            )
        return max(rows, key=lambda row: row["version"])

    @classmethod
    def given(cls, workspace: Workspace, value: Any) -> Self:
        """`value`, or what a text names: its id "name:version", or its name for the latest version."""
        what = cls._table.removesuffix("s")
        if isinstance(value, str):
            return cls(workspace, **{"id" if ":" in value else "name": value})  # type: ignore[call-arg]
        found: Self = check_kind(what, value, cls, f"one of the workspace ({cls.__name__}), or its name or id")
        return found

    @classmethod
    def deserialize(cls, workspace: Workspace, payload: Mapping[str, Any]) -> Self:
        """The object that `serialize` has described, as it is now."""
        return cls(workspace, id=described(payload, "id"))  # type: ignore[call-arg]

    @property
    def version(self) -> int:
        """1, 2, 3, ... by name; never given twice."""
        return self._row["version"]

    @property
    def id(self) -> str:
        """The text "name:version"."""
        return f"{self.name}:{self.version}"

    @property
    def size(self) -> int:
        """Stored size in bytes."""
        return self._row["size"]


def described(payload: Any, key: str) -> str:
    """What `serialize` has written under `key`."""
    if not isinstance(payload, Mapping) or key not in payload:
        raise InvalidInputError(f"deserialize: expected what serialize() returns, got {shown(payload)}")
    return str(payload[key])


def _checked_version(what: str, version: Any) -> int:
    text = isinstance(version, str) and version.isascii() and version.isdigit() and len(version) <= _VERSION_DIGITS
    found = check_count(int(version) if text else version)
    if found is None:
        raise InvalidInputError(f"{what} version: expected a number of at least 1, got {shown(version)}")
    return found


def split_id(id: str, what: str) -> tuple[str, int]:
    """("resnet50", 3) of "resnet50:3"."""
    name, _, version = str(id).rpartition(":")
    if not name or not re.fullmatch(f"[0-9]{{1,{_VERSION_DIGITS}}}", version):
        raise InvalidInputError(f"{what} id: expected 'name:version', got {shown(id)}")
    return name, int(version)
