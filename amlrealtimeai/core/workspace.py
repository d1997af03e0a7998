"""Workspace: one folder on this machine that keeps models, images, compute targets and webservices."""

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amlrealtimeai.core import config
from amlrealtimeai.core.arguments import check_name, check_strings, known_keywords, warn_without_meaning
from amlrealtimeai.core.tables import Listing, Shown
from amlrealtimeai.errors import ConfigError, InUseError, InvalidInputError, NotFoundError
from amlrealtimeai.store import Store
from amlrealtimeai.store.store import now

if TYPE_CHECKING:
    from amlrealtimeai.core.compute import ComputeTarget
    from amlrealtimeai.core.image import Image
    from amlrealtimeai.core.model import Model
    from amlrealtimeai.core.webservice import Webservice

LOCAL = "local"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{1,32}"
_GROUP = r"[A-Za-z0-9_(][A-Za-z0-9_().-]{0,89}"


class Workspace(Shown):
    """An existing workspace. Without a cloud, subscription and resource group are only parts of its name.

    All workspaces are below $AMLREALTIMEAI_HOME (else ~/.amlrealtimeai). Raises NotFoundError when it does not exist.
    """

    @known_keywords
    def __init__(self, subscription_id: str, resource_group: str, workspace_name: str, auth: Any = None) -> None:
        warn_without_meaning("Workspace", auth=auth)
        self.subscription_id, self.resource_group, self.name = subscription_id, resource_group, workspace_name
        path = _path(subscription_id, resource_group, workspace_name)
        if not (path / "store.sqlite3").is_file() or "name" not in (facts := Store(path).facts()):
            raise NotFoundError(
                f"there is no workspace {workspace_name!r} on this machine. Create it: {_creation(self._identity)}"
            )
        self.store = Store(path)
        self._facts = facts

    @staticmethod
    @known_keywords
    def create(
        name: str,
        auth: Any = None,
        subscription_id: str = LOCAL,
        resource_group: str = LOCAL,
        location: str = LOCAL,
        create_resource_group: bool = True,
        sku: str | None = None,
        tags: dict[str, str] | None = None,
        friendly_name: str | None = None,
        exist_ok: bool = False,
        show_output: bool = False,
    ) -> "Workspace":
        """Create the workspace; with exist_ok an existing one is returned, else it is an InvalidInputError."""
        warn_without_meaning("Workspace.create", auth=auth, sku=sku)
        path = _path(subscription_id, resource_group, name)
        store = Store(path)
        if "name" not in store.facts():
            facts = {"name": name, "location": location, "created": now(), "friendly_name": friendly_name or name}
            tagged = {f"tag:{key}": value for key, value in check_strings("tags", tags).items()}
            store.set_facts({**tagged, **facts})
        elif not exist_ok:
            raise InvalidInputError(
                f"the workspace {name!r} exists already. Use it with exist_ok=True or Workspace.get({name!r})."
            )
        if show_output:
            print(f"Workspace {name!r} is ready.")
        return Workspace(subscription_id, resource_group, name)

    @staticmethod
    @known_keywords
    def get(
        name: str, auth: Any = None, subscription_id: str | None = None, resource_group: str | None = None
    ) -> "Workspace":
        """The workspace with this name; subscription and resource group are needed only to tell equal names apart."""
        warn_without_meaning("Workspace.get", auth=auth)
        found = Workspace.list(subscription_id, resource_group=resource_group).get(name, [])
        if len(found) == 1:
            return found[0]
        if not found:
            identity = (subscription_id or LOCAL, resource_group or LOCAL, name)
            raise NotFoundError(f"there is no workspace {name!r} on this machine. Create it: {_creation(identity)}")
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
        pattern = f"{subscription_id or '*'}/{resource_group or '*'}/*/store.sqlite3"
        for file in sorted((config.home() / "workspaces").glob(pattern)):
            subscription, group, name = file.parts[-4:-1]
            try:
                found.setdefault(name, []).append(Workspace(subscription, group, name))
            except (NotFoundError, InvalidInputError):
                continue  # being created or deleted right now
        return {name: items for name, items in found.items() if items}

    @staticmethod
    @known_keywords
    def from_config(path: str | Path | None = None, auth: Any = None, _file_name: str | None = None) -> "Workspace":
        """The workspace that config.json names: `path`, or the nearest one here or above.

        Without any config.json it is the local default workspace, made on first use. Raises ConfigError for a file that
        cannot be used.
        """
        warn_without_meaning("Workspace.from_config", auth=auth)
        if _file_name is not None:
            path = Path(path or ".") / _file_name
        file = config.find(path)
        if file is None:
            print(f"No config.json here or above: using the local workspace {LOCAL!r}.")
            return Workspace.default()
        identity = config.read(file)
        try:
            return Workspace(*identity)
        except NotFoundError:
            raise ConfigError(
                f"{file} names the workspace {identity[2]!r}, which does not exist on this machine. "
                f"Create it: {_creation(identity)}"
            ) from None
        except InvalidInputError as problem:
            raise ConfigError(f"{file} cannot be used: {problem}") from problem

    @staticmethod
    def default() -> "Workspace":
        """The local workspace that needs no configuration, made on first use."""
        return Workspace.create(LOCAL, exist_ok=True)

    @known_keywords
    def write_config(self, path: str | Path | None = None, file_name: str | None = None) -> None:
        """Write .amlrealtimeai/config.json into `path` (default: here), for Workspace.from_config."""
        config.write(Path(path or ".").expanduser(), file_name or "config.json", self._identity)

    @property
    def location(self) -> str:
        """Region that was named at creation; it has no meaning on this machine."""
        return self._facts["location"]

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
            "friendlyName": self._facts["friendly_name"],
            "location": self.location,
            "creationTime": self._facts["created"],
            "tags": self.tags,
            "storage": str(self.path),
            **{table: len(self.store.select(table)) for table in tables},
        }

    @known_keywords
    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Delete the workspace and all it holds. Webservices must be gone, or go with delete_dependent_resources."""
        services = self.webservices
        if services and not delete_dependent_resources:
            raise InUseError(
                f"the workspace {self.name!r} has the webservices {', '.join(services)}. Delete them first, or call "
                "delete(delete_dependent_resources=True)."
            )
        for service in services.values():
            service.delete()
        for target in self.compute_targets.values():
            target.delete()
        doomed = self.path.with_name(f".deleted-{secrets.token_hex(6)}")
        self.path.rename(doomed)  # gone at once for everyone; a kill after this leaves only rubbish
        shutil.rmtree(doomed, ignore_errors=True)

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


def _path(subscription_id: str, resource_group: str, name: str) -> Path:
    check_name("subscription_id", subscription_id, r"[A-Za-z0-9_-]{1,64}", "letters, digits, '-' and '_'")
    check_name("resource_group", resource_group, _GROUP, "at most 90 letters, digits and '_-.()'")
    check_name("workspace name", name, _NAME, "2 to 33 letters, digits, '-' and '_', with a letter or digit first")
    return config.home() / "workspaces" / subscription_id / resource_group / name


def _creation(identity: tuple[str, str, str]) -> str:
    subscription, group, name = identity
    more = (
        ""
        if (subscription, group) == (LOCAL, LOCAL)
        else f", subscription_id={subscription!r}, resource_group={group!r}"
    )
    return f"Workspace.create({name!r}{more})"
