"""ComputeTarget: what every kind of compute target has."""

import importlib
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol, runtime_checkable

from amlrealtimeai.core.arguments import check_kind, check_text, known_keywords, shown
from amlrealtimeai.core.cloud import needs_azure
from amlrealtimeai.core.stored import described
from amlrealtimeai.core.tables import Shown
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import ComputeTargetNotFoundError, UnsupportedError
from amlrealtimeai.store.rows import Row, delete, find, required, select
from amlrealtimeai.targets.base import Target

_CLASSES = {
    "Aks": ("amlrealtimeai.core.compute.aks", "AksCompute"),
    "Edge": ("amlrealtimeai.core.compute.edge", "EdgeCompute"),
    "Kubernetes": ("amlrealtimeai.core.compute.kubernetes", "KubernetesCompute"),
}
"""Class of each kind, as the store calls it, by its module; kinds of targets are added here."""
_EXAMPLE = "such as AksCompute.provisioning_configuration()"


@runtime_checkable
class Configuration(Protocol):
    """What `provisioning_configuration` and `attach_configuration` of a kind return."""

    def create(self, workspace: Workspace, name: str) -> None:
        """List the target in the workspace, whole or not at all."""


@needs_azure("id description tags modified_on is_attached list_nodes", "See serialize().")
class ComputeTarget(Shown):
    """An existing compute target by name, as an object of its own class. Raises NotFoundError."""

    type: ClassVar[str] = ""

    @known_keywords
    def __new__(cls, workspace: Workspace, name: str) -> "ComputeTarget":
        """An object of the class that belongs to the target's type."""
        row = _row(workspace, name)
        return object.__new__(_class_of(row["type"]) if cls is ComputeTarget else cls)

    @known_keywords
    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self._row = _row(workspace, name)
        found = _class_of(self._row["type"])
        if not isinstance(self, found):
            raise ComputeTargetNotFoundError(
                f"ComputeTargetNotFound: the compute target {name!r} is of the type {found.type!r}, not "
                f"{self.type!r}. Open it with ComputeTarget(workspace, {name!r})."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ComputeTarget) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Workspace, str, str]:
        return self.workspace, self.name, self._row["created"]

    @staticmethod
    @known_keywords
    def create(workspace: Workspace, name: str, provisioning_configuration: Configuration) -> "ComputeTarget":
        """Create a target; an existing one with the same settings is returned as it is, so that cells can be re-run."""
        check_kind(
            "provisioning_configuration", provisioning_configuration, Configuration, f"a configuration, {_EXAMPLE}"
        )
        provisioning_configuration.create(workspace, name)
        return ComputeTarget(workspace, name)

    @staticmethod
    @known_keywords
    def attach(workspace: Workspace, name: str, attach_configuration: Configuration) -> "ComputeTarget":
        """Make a target known that exists outside the workspace."""
        example = "such as AksCompute.attach_configuration(registry='host:5000/models')"
        check_kind("attach_configuration", attach_configuration, Configuration, f"a configuration, {example}")
        attach_configuration.create(workspace, name)
        return ComputeTarget(workspace, name)

    @staticmethod
    @known_keywords
    def list(workspace: Workspace) -> "Sequence[ComputeTarget]":
        """All targets of the workspace, oldest first."""
        found = []
        for row in workspace.store.select("compute_targets"):
            target = object.__new__(_class_of(row["type"]))
            target.workspace, target._row = workspace, row
            found.append(target)
        return found

    @staticmethod
    @known_keywords
    def deserialize(workspace: Workspace, object_dict: Mapping[str, Any]) -> "ComputeTarget":
        """The target that `serialize` has described, as it is now."""
        return ComputeTarget(workspace, described(object_dict, "name"))

    @property
    def name(self) -> str:
        """Name in the workspace."""
        return self._row["name"]

    @property
    def created_on(self) -> datetime:
        """Time of creation, with its time zone (UTC)."""
        return datetime.fromisoformat(self._row["created"])

    @property
    def provisioning_state(self) -> str:
        """Always "Succeeded": a target that is listed is there."""
        return "Succeeded"

    @property
    def provisioning_errors(self) -> Any:
        """Always None; what goes wrong is raised by `create`."""
        return None

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach its services."""
        return False

    @property
    def ssl_cname(self) -> str | None:
        """Host name in its certificate; None without TLS."""
        return self._row["settings"].get("ssl_cname")

    @property
    def ssl_enabled(self) -> bool:
        """Whether its services are reached by TLS."""
        return self.ssl_cname is not None

    @property
    def certificate(self) -> str | None:
        """The certificate chain as PEM text; it is no secret."""
        return self.workspace.store.secrets("compute_targets", self.name).get("certificate")

    def get_status(self) -> str:
        """The provisioning state, as long as the target is listed; NotFoundError after that."""
        self.refresh_state()
        return self.provisioning_state

    def refresh_state(self) -> None:
        """Read the target again from the workspace. Raises NotFoundError if it was deleted."""
        self._row = same_target(_row(self.workspace, self.name), self._row)

    @known_keywords
    def wait_for_completion(self, show_output: bool = False, is_delete_operation: bool = False) -> None:
        """Wait until the target is ready, or gone; here it is when `create` and `delete` return."""
        if show_output:
            print(f'{self.type} provisioning operation finished, operation "{self.provisioning_state}"')

    @known_keywords
    def wait_for_provisioning(self, show_output: bool = False) -> None:
        """The previews' name of wait_for_completion."""
        self.wait_for_completion(show_output)

    def delete(self) -> None:
        """Delete the target; InUseError when it has webservices."""
        raise UnsupportedError(f"targets of the type {self.type!r} cannot be deleted. Use detach().")

    def detach(self) -> None:
        """Forget a target that was attached."""
        raise UnsupportedError(f"{self.name!r} was created here, not attached. Use delete().")

    def runner(self) -> Target:
        """Where services of this target run."""
        raise NotImplementedError

    def check_listed(self) -> None:
        """Raise NotFoundError if it was deleted, even if another one has its name now."""
        same_target(self.workspace.store.require("compute_targets", {"name": self.name}), self._row)

    def _unlist(self, connection: sqlite3.Connection, server: str | None) -> None:
        """Delete it, but none that has its name now; InUseError when it has webservices."""
        same_target(required(connection, "compute_targets", {"name": self.name}), self._row)
        delete(connection, "compute_targets", {"name": self.name})

    def serialize(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "computeType": self.type,
            "provisioningState": self.provisioning_state,
            "createdOn": self._row["created"],
            **self.settings,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What the target was provisioned with."""
        return dict(self._row["settings"])

    def _fields(self) -> dict[str, Any]:
        return {
            "workspace": self.workspace.name,
            "name": self.name,
            "type": self.type,
            "state": self.provisioning_state,
        }


def same_target(row: Row, known: Row) -> Row:
    """`row`, if it is of the target that `known` was read of. Raises NotFoundError if another has its name now."""
    if row["created"] != known["created"]:
        raise ComputeTargetNotFoundError(
            f"ComputeTargetNotFound: the compute target {known['name']!r} does not exist any more: it was deleted; "
            "another one has its name now."
        )
    return row


def _row(workspace: Workspace, name: str) -> Row:
    check_text("compute target name", name)
    with workspace.store.database.read() as connection:  # one view: the name may come or go meanwhile
        row = find(connection, "compute_targets", {"name": name})
        known = ", ".join(row["name"] for row in select(connection, "compute_targets")) or "none"
    if row is None:
        raise ComputeTargetNotFoundError(
            f"ComputeTargetNotFound: no compute target {shown(name)} in the workspace {workspace.name!r}; "
            f"there are: {known}. Create it: ComputeTarget.create(workspace, name, configuration), with "
            "configuration = AksCompute.provisioning_configuration()."
        )
    return row


def _class_of(type: str) -> Any:
    module, name = _CLASSES[type]
    return getattr(importlib.import_module(module), name)
