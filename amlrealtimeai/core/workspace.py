"""Workspace: one folder on this machine that keeps models, images, compute targets and webservices."""

import contextlib
import glob
import secrets
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from amlrealtimeai.core import config
from amlrealtimeai.core.arguments import check_name, check_path, check_strings, known_keywords, warn_without_meaning
from amlrealtimeai.core.cloud import needs_azure
from amlrealtimeai.core.tables import Listing, Shown
from amlrealtimeai.errors import (
    ConfigError,
    InUseError,
    InvalidInputError,
    NotFoundError,
    StoreError,
    WorkspaceNotFoundError,
)
from amlrealtimeai.store import Store
from amlrealtimeai.store.rows import now

if TYPE_CHECKING:
    from amlrealtimeai.core.compute import ComputeTarget
    from amlrealtimeai.core.image import Image
    from amlrealtimeai.core.model import Model
    from amlrealtimeai.core.webservice import Webservice

LOCAL = "local"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{1,32}"
_NAME_WORDS = "2 to 33 letters, digits, '-' and '_', with a letter or digit first"
_GROUP = r"[A-Za-z0-9_(][A-Za-z0-9_().-]{0,89}"


@needs_azure("experiments get_run environments service_context discovery_url get_mlflow_tracking_uri")
@needs_azure("datastores datasets get_default_datastore get_default_keyvault", "Use files.")
@needs_azure("list_keys sync_keys", "Services have keys of their own: service.get_keys().")
@needs_azure("linked_services private_endpoints update add_private_endpoint delete_private_endpoint")
@needs_azure("setup", "Nothing has to be set up: Workspace.create(name, exist_ok=True).")
class Workspace(Shown):
    """The workspace of this name on this machine. Without a cloud, subscription and resource group are only names.

    All workspaces are below $AMLREALTIMEAI_HOME (else ~/.amlrealtimeai). One that old code names and that is not there
    is made and said so: nothing can be fetched from the cloud that it was in. `get` raises NotFoundError instead.
    """

    sku: ClassVar[str] = "basic"
    store: Store
    subscription_id: str
    resource_group: str
    name: str
    _facts: dict[str, str]

    @known_keywords
    def __init__(
        self,
        subscription_id: str,
        resource_group: str,
        workspace_name: str,
        auth: Any = None,
        _location: str | None = None,
        _disable_service_check: bool = False,
        _workspace_id: str | None = None,
        sku: str | None = None,
    ) -> None:
        warn_without_meaning("Workspace", auth=auth)
        identity = (subscription_id, resource_group, workspace_name)
        opened = _opened(*identity)
        if opened is None:
            print(
                f"The workspace {workspace_name!r} was not on this machine: it is made, empty, in {_path(*identity)}."
            )
            opened = Workspace.create(
                workspace_name, subscription_id=subscription_id, resource_group=resource_group, exist_ok=True
            )
        vars(self).update(vars(opened))

    @staticmethod
    @known_keywords
    def create(
        name: str,
        auth: Any = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        create_resource_group: bool = True,
        sku: str | None = None,
        tags: dict[str, str] | None = None,
        friendly_name: str | None = None,
        storage_account: str | None = None,
        key_vault: str | None = None,
        app_insights: str | None = None,
        container_registry: str | None = None,
        default_cpu_compute_target: Any = None,
        default_gpu_compute_target: Any = None,
        exist_ok: bool = False,
        show_output: bool = False,
        adb_workspace: Any = None,
        cmk_keyvault: str | None = None,
        resource_cmk_uri: str | None = None,
        hbi_workspace: bool = False,
    ) -> "Workspace":
        """Create the workspace; with exist_ok an existing one is returned, else it is an InvalidInputError.

        Keywords about a cloud's resources mean nothing here: one warning names them.
        """
        warn_without_meaning(
            "Workspace.create",
            auth=auth,
            sku=sku,
            storage_account=storage_account,
            key_vault=key_vault,
            app_insights=app_insights,
            container_registry=container_registry,
            default_cpu_compute_target=default_cpu_compute_target,
            default_gpu_compute_target=default_gpu_compute_target,
            adb_workspace=adb_workspace,
            cmk_keyvault=cmk_keyvault,
            resource_cmk_uri=resource_cmk_uri,
            hbi_workspace=hbi_workspace or None,
        )
        tagged = {f"tag:{key}": value for key, value in check_strings("tags", tags).items()}
        facts = {"name": name, "location": location or LOCAL, "created": now(), "friendly_name": friendly_name or name}
        subscription_id, resource_group = (
            LOCAL if part is None else part for part in (subscription_id, resource_group)
        )
        path = _path(subscription_id, resource_group, name)
        _sweep_deleted(path.parent)
        if not Store(path).add_facts({**tagged, **facts}) and not exist_ok:
            raise InvalidInputError(
                f"the workspace {name!r} exists already. Use it with exist_ok=True or Workspace.get({name!r})."
            )
        made = _opened(subscription_id, resource_group, name)
        if made is None:
            raise WorkspaceNotFoundError(f"the workspace {name!r} was deleted while it was being created.")
        if show_output:
            print(f"Workspace {name!r} is ready.")
        return made

    @staticmethod
    @known_keywords
    def get(
        name: str, auth: Any = None, subscription_id: str | None = None, resource_group: str | None = None
    ) -> "Workspace":
        """The workspace with this name; subscription and resource group are needed only to tell equal names apart."""
        warn_without_meaning("Workspace.get", auth=auth)
        check_name("workspace name", name, _NAME, _NAME_WORDS)
        found = [item for item in map(_opened_at, _files(subscription_id, resource_group, name)) if item]
        if len(found) == 1:
            return found[0]
        if not found:
            identity = (subscription_id or LOCAL, resource_group or LOCAL, name)
            raise WorkspaceNotFoundError(
                f"there is no workspace {name!r} on this machine. Create it: {_creation(identity)}"
            )
        raise InvalidInputError(
            f"{len(found)} workspaces are called {name!r}: {', '.join(map(str, found))}. "
            "Give subscription_id and resource_group."
        )

    @staticmethod
    @known_keywords
    def list(
        subscription_id: str | None = None, auth: Any = None, resource_group: str | None = None
    ) -> dict[str, "list[Workspace]"]:
        """Workspaces of this machine by name; equal names are told apart by subscription and resource group."""
        warn_without_meaning("Workspace.list", auth=auth)
        found: dict[str, list[Workspace]] = {}
        for file in _files(subscription_id, resource_group, "*"):
            try:
                if item := _opened_at(file):
                    found.setdefault(item.name, []).append(item)
            except StoreError as problem:  # one that is damaged, or of a newer version, does not hide the others
                warnings.warn(f"{file.parent} is left out: {problem}", stacklevel=3)
        return found

    @staticmethod
    @known_keywords
    def from_config(
        path: str | Path | None = None, auth: Any = None, _logger: Any = None, _file_name: str | None = None
    ) -> "Workspace":
        """The workspace that config.json names: `path`, or the nearest one here or above.

        A workspace that is not on this machine (the file of a cloud's portal, for example) is made, empty, and said so.
        Without any config.json it is the local default workspace. Raises ConfigError for a file that cannot be used.
        """
        warn_without_meaning("Workspace.from_config", auth=auth)
        file = config.find(path, _file_name)
        if file is None:
            print(f"No config.json here or above: using the local workspace {LOCAL!r}.")
            return Workspace.default()
        try:
            return Workspace(*config.read(file))
        except InvalidInputError as problem:
            raise ConfigError(f"{file} cannot be used: {problem}") from problem

    @staticmethod
    def default() -> "Workspace":
        """The local workspace that needs no configuration, made on first use."""
        return Workspace.create(LOCAL, exist_ok=True)

    @known_keywords
    def write_config(self, path: str | Path | None = None, file_name: str | None = None) -> None:
        """Write .amlrealtimeai/config.json into `path` (default: here), for Workspace.from_config."""
        folder = check_path("path", "." if path is None else path)
        config.write(folder, "config.json" if file_name is None else file_name, self._identity)

    @property
    def location(self) -> str:
        """Region that was named at creation; it has no meaning on this machine."""
        return self._facts["location"]

    @property
    def friendly_name(self) -> str:
        """Name for people that was given at creation, else the name."""
        return self._facts["friendly_name"]

    @property
    def tags(self) -> dict[str, str]:
        """Tags given at creation."""
        return {name[4:]: value for name, value in self._facts.items() if name.startswith("tag:")}

    @property
    def path(self) -> Path:
        """The workspace's folder."""
        return self.store.path

    @property
    def models(self) -> "Listing[Model]":
        """Models by name, the latest version of each."""
        from amlrealtimeai.core.model import Model

        return Listing({model.name: model for model in Model.list(self, latest=True)})

    @property
    def images(self) -> "Listing[Image]":
        """Images by name, the latest version of each."""
        from amlrealtimeai.core.image import Image

        return Listing({image.name: image for image in reversed(Image.list(self))})

    @property
    def webservices(self) -> "Listing[Webservice]":
        """Webservices by name."""
        from amlrealtimeai.core.webservice import Webservice

        return Listing({service.name: service for service in Webservice.list(self)})

    @property
    def compute_targets(self) -> "Listing[ComputeTarget]":
        """Compute targets by name."""
        from amlrealtimeai.core.compute import ComputeTarget

        return Listing({target.name: target for target in ComputeTarget.list(self)})

    def get_details(self) -> dict[str, Any]:
        """Everything known about the workspace, with the number of its objects."""
        tables = ("models", "images", "compute_targets", "webservices")
        return {
            "id": f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}/workspaces/{self.name}",
            "name": self.name,
            "friendlyName": self.friendly_name,
            "location": self.location,
            "creationTime": self._facts["created"],
            "tags": self.tags,
            "storage": str(self.path),
            **{table: len(self.store.select(table)) for table in tables},
        }

    @known_keywords
    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Delete the workspace and all it holds. Webservices must be gone, or go with delete_dependent_resources."""
        doomed = self.path.with_name(f".deleted-{secrets.token_hex(6)}")
        while True:
            services = self.webservices
            if services and not delete_dependent_resources:
                raise InUseError(
                    f"the workspace {self.name!r} has the webservices {', '.join(services)}. Delete them first, or "
                    "call delete(delete_dependent_resources=True)."
                )
            dependents: list[Webservice | ComputeTarget] = [*services.values(), *self.compute_targets.values()]
            for dependent in dependents:
                with contextlib.suppress(NotFoundError, InUseError):  # others delete and deploy at the same time
                    dependent.delete()
            if self.store.remove(doomed):
                break
        _sweep_deleted(doomed.parent)  # a kill before this leaves only rubbish

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.subscription_id, self.resource_group, self.name

    def _fields(self) -> dict[str, Any]:
        names = ("subscription_id", "resource_group", "location")
        return {"name": self.name, **{name: getattr(self, name) for name in names if getattr(self, name) != LOCAL}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)


def _sweep_deleted(folder: Path) -> None:
    """Remove what is left of deleted workspaces; who deleted them may have been killed."""
    for doomed in folder.glob(".deleted-*"):
        shutil.rmtree(doomed, ignore_errors=True)


def _opened(subscription_id: str, resource_group: str, name: str) -> Workspace | None:
    """The workspace, or None where there is none, or one that is being created or deleted right now."""
    made: Workspace = object.__new__(Workspace)
    made.subscription_id, made.resource_group, made.name = subscription_id, resource_group, name
    store = Store.opened(_path(subscription_id, resource_group, name))
    if store is None:
        return None
    with contextlib.suppress(WorkspaceNotFoundError):
        made.store, made._facts = store, store.facts()
        return made if "name" in made._facts else None
    return None


def _opened_at(file: Path) -> Workspace | None:
    """The workspace of a database file; None for a folder whose name no workspace has."""
    try:
        return _opened(*file.parts[-4:-1])
    except InvalidInputError:
        return None


def _files(subscription_id: str | None, resource_group: str | None, name: str) -> list[Path]:
    """Database files of the workspaces, by parts of their names; None: any."""
    for what, part in (("subscription_id", subscription_id), ("resource_group", resource_group)):
        if part is not None:
            check_name(what, part, r"[^/\0]{1,90}", "a text without '/'")
    parts = [glob.escape(part) if part else "*" for part in (subscription_id, resource_group)]
    return sorted((config.home() / "workspaces").glob(f"{parts[0]}/{parts[1]}/{name}/store.sqlite3"))


def _path(subscription_id: str, resource_group: str, name: str) -> Path:
    check_name("subscription_id", subscription_id, r"[A-Za-z0-9_-]{1,64}", "letters, digits, '-' and '_'")
    check_name("resource_group", resource_group, _GROUP, "at most 90 letters, digits and '_-.()'")
    check_name("workspace name", name, _NAME, _NAME_WORDS)
    return config.home() / "workspaces" / subscription_id / resource_group / name


def _creation(identity: tuple[str, str, str]) -> str:
    subscription, group, name = identity
    more = (
        ""
        if (subscription, group) == (LOCAL, LOCAL)
        else f", subscription_id={subscription!r}, resource_group={group!r}"
    )
    return f"Workspace.create({name!r}{more})"
