"""Webservice: a service that is listed in a workspace, wherever it runs."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from amlrealtimeai.core.arguments import check_count, check_seconds, check_text, known_keywords, shown
from amlrealtimeai.core.cloud import needs_azure
from amlrealtimeai.core.compute import ComputeTarget, own
from amlrealtimeai.core.image import Image, ImageConfiguration
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.pem import self_signed
from amlrealtimeai.core.stored import Stored, described, describing, split_id
from amlrealtimeai.core.webservice import deployment, fallback
from amlrealtimeai.core.webservice.asked import Asked
from amlrealtimeai.core.webservice.keys import Keyed
from amlrealtimeai.core.webservice.scaling import check_replicas, counts
from amlrealtimeai.core.webservice.wish import check_service_name, wished
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import (
    DeploymentError,
    NotFoundError,
    WebserviceInputError,
    WebserviceNotFoundError,
)
from amlrealtimeai.store.rows import Row, find, select
from amlrealtimeai.targets.base import FAILED, STOPPED, TRANSITIONING, UNHEALTHY, Status

if TYPE_CHECKING:
    from amlrealtimeai.core.webservice.aks import AksServiceDeploymentConfiguration

_POLL_SECONDS = 0.05
_WAIT_SECONDS = 600.0


@needs_azure("deploy deploy_local_model", "Use deploy_from_model, with a converted model.")
@needs_azure("swagger_uri environment inference_config", "The interface is TensorFlow Serving's Predict: scoring_uri.")
@needs_azure("get_access_token", "Use keys: get_keys().")
class Webservice(Asked, Keyed, Stored):
    """An existing webservice by name. Raises NotFoundError."""

    _table = "webservices"
    _editions: ClassVar[dict[str, type["Webservice"]]] = {}

    def __init_subclass__(cls, edition: str | None = None) -> None:
        """A class with an edition is the one of services on that edition's clusters, once its module is imported."""
        if edition is not None:
            Webservice._editions[edition] = cls

    @known_keywords
    def __new__(cls, workspace: Workspace, name: str) -> "Webservice":
        """An object of the class that belongs to the service's target."""
        from amlrealtimeai.core.webservice.aks import AksWebservice

        if cls is not Webservice:
            return object.__new__(cls)
        edition = own.edition_of(workspace, name) if isinstance(name, str) else None
        return object.__new__(Webservice._editions.get(edition or "", AksWebservice))

    @known_keywords
    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        check_text("webservice name", name)
        with workspace.store.database.read() as connection:  # one view: the name may come or go meanwhile
            row = find(connection, "webservices", {"name": name})
            known = ", ".join(row["name"] for row in select(connection, "webservices")) or "none"
        if row is None:
            raise WebserviceNotFoundError(
                f"WebserviceNotFound: no webservice {shown(name)} in the workspace {workspace.name!r}; there are: "
                f"{known}. Deploy it: "
                "Webservice.deploy_from_image(workspace, name, image, deployment_config, deployment_target)."
            )
        self._row = row

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> "Webservice":
        made = cls.__new__(cls, workspace, row["name"])
        made.workspace, made._row = workspace, row
        return made

    @staticmethod
    @known_keywords
    def deploy_from_image(
        workspace: Workspace,
        name: str,
        image: Image,
        deployment_config: "AksServiceDeploymentConfiguration | None" = None,
        deployment_target: ComputeTarget | None = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Begin to serve the image's model on a target; wait_for_deployment waits until it answers.

        A stopped service of this name is replaced, a running one only with overwrite (without losing a request). Raises
        DeploymentError when the cluster has too few FPGAs, ConfigError for keys without TLS.
        """
        image = Image.given(workspace, image)
        model = deployment.model_of(workspace, image, None)
        return _deploy(workspace, name, model, image, deployment_config, deployment_target, overwrite)

    @staticmethod
    @known_keywords
    def deploy_from_model(
        workspace: Workspace,
        name: str,
        models: "Model | Iterable[Model]",
        image_config: ImageConfiguration | None = None,
        deployment_config: "AksServiceDeploymentConfiguration | None" = None,
        deployment_target: ComputeTarget | None = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Like deploy_from_image, for a converted model; an image is built first if `image_config` is given."""
        model = deployment.model_of(workspace, None, models)
        if image_config is None:
            return _deploy(workspace, name, model, None, deployment_config, deployment_target, overwrite)
        check_service_name(name)
        deployment.check_free(workspace, name, overwrite)  # before the time and the room that an image takes
        image = Image.create(workspace, name, model, image_config)
        image.wait_for_creation()
        try:
            return _deploy(workspace, name, model, image, deployment_config, deployment_target, overwrite)
        except BaseException:
            image.delete()
            raise

    @known_keywords
    def wait_for_deployment(self, show_output: bool = False, timeout_sec: float | None = None) -> None:
        """Wait until the service is healthy. Raises DeploymentError, with the reason, when it will not be."""
        started, dots = time.monotonic(), 0
        seconds = check_seconds("timeout_sec", timeout_sec)
        limit = _WAIT_SECONDS if seconds is None else seconds
        while (status := self._status()).state in (TRANSITIONING, UNHEALTHY):
            if time.monotonic() - started >= limit:
                raise DeploymentError(
                    f"the service {self.name!r} is {status.state} after {time.monotonic() - started:.0f} s. "
                    f"{status.reason} Look at get_logs()."
                )
            if show_output and time.monotonic() - started > dots:
                print("." if dots else "Running.", end="", flush=True)
                dots += 1
            time.sleep(_POLL_SECONDS)
        if show_output:
            outcome = "Failed" if status.state in (FAILED, STOPPED) else "Succeeded"
            print(f'{"" if not dots else chr(10)}Service {self.name} operation finished, operation "{outcome}"')
        if status.state in (FAILED, STOPPED):
            raise DeploymentError(f"the service {self.name!r} is {status.state}: {status.reason}. Look at get_logs().")

    @known_keywords
    def update(
        self,
        image: Image | None = None,
        models: "Model | Iterable[Model] | None" = None,
        num_replicas: int | None = None,
        auth_enabled: bool | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        _asked: "Mapping[str, Any] | None" = None,
    ) -> None:
        """Change the service in place: requests in flight finish, none is refused. A stopped service is deployed again.

        With a new image the old model serves until the new one is loaded and warm; wait_for_deployment waits for that.
        """
        describe = describing(tags, properties, description)
        described = any(value is not None for value in (tags, properties, description))
        columns: Row = {}
        if image is not None or models is not None:
            image = None if image is None else Image.given(self.workspace, image)
            model = deployment.model_of(self.workspace, image, models)
            columns |= {"model_name": model.name, "model_version": model.version}
            columns |= {"image_name": image.name if image else None, "image_version": image.version if image else None}
        given = {} if num_replicas is None else {"num_replicas": check_replicas(num_replicas)}
        if auth_enabled is not None:
            given["auth_enabled"] = deployment.resolve_auth(self.name, auth_enabled, self._target, say=False)

        def changes(row: Row) -> Row:
            before = row["settings"]
            merged = {**before.get("asked", {}), **(_asked or {})}
            asked = {name: value for name, value in merged.items() if value is not False}
            revision = before["revision"] + (1 if columns else 0)
            settings = {**before, **given, "asked": asked, "revision": revision}
            return {**columns, **describe(row), "settings": settings}

        row = deployment.same_service(self.workspace, self._row)
        stopped = self.state == STOPPED
        if not columns and changes(row)["settings"] == row["settings"] and (described or not stopped):
            self._change(describe)
            return
        if stopped:
            print(f"The service {self.name!r} was stopped; it is deployed again.")
        self._row = deployment.change(self.workspace, self._row, changes, {}, list(_asked or {}))

    def delete(self) -> None:
        """Stop the service and forget it; requests are refused when this returns. Raises NotFoundError the 2nd time."""
        deployment.delete(self.workspace, self._row)

    def update_deployment_state(self) -> None:
        """Read the service again from the workspace; `state` and `error` are always those of now."""
        self._row = deployment.same_service(self.workspace, self._row)

    @staticmethod
    @known_keywords
    def list(
        workspace: Workspace,
        compute_type: str | None = None,
        image_name: str | None = None,
        image_id: str | None = None,
        model_name: str | None = None,
        model_id: str | None = None,
        tags: Any = None,
        properties: Any = None,
        image_digest: str | None = None,
    ) -> "Sequence[Webservice]":
        """Webservices of the workspace, oldest first."""
        image, image_version = split_id(image_id, "image") if image_id is not None else (image_name, None)
        model, version = split_id(model_id, "model") if model_id is not None else (model_name, None)
        images = {"image_name": image, "image_version": image_version}
        rows = Webservice._rows(workspace, tags, properties, **images, model_name=model, model_version=version)
        found = [Webservice._of(workspace, row) for row in rows]
        if image_digest is not None:
            found = [item for item in found if item.image is not None and item.image.digest == image_digest]
        if compute_type is None:
            return found
        return [item for item in found if item.compute_type.lower() == check_text("compute_type", compute_type).lower()]

    @staticmethod
    @known_keywords
    def deserialize(workspace: Workspace, webservice_payload: Mapping[str, Any]) -> "Webservice":
        """The service that `serialize` has described, as it is now."""
        return Webservice(workspace, described(webservice_payload, "name"))

    @property
    def state(self) -> str:
        """ "Transitioning", "Healthy", "Unhealthy", "Failed", or "Stopped" when the process that ran it has ended."""
        return self._status().state

    @property
    def error(self) -> str | None:
        """Why the service is not healthy, if it is not."""
        return self._status().reason or None

    @property
    def scoring_uri(self) -> str:
        """http://host:port or https://host:port. Raises DeploymentError while nothing listens."""
        status = self._status()
        if status.address is None:
            reason = status.reason or "call wait_for_deployment() first"
            raise DeploymentError(f"the service {self.name!r} has no address: it is {status.state}; {reason}.")
        return self._uri(status.address)

    @property
    def ssl_enabled(self) -> bool:
        """Whether it is reached by TLS."""
        return self._target.ssl_enabled

    @property
    def root_certificates(self) -> bytes | None:
        """PEM of the cluster's certificate, to be trusted by clients, if it is signed by itself; else None."""
        pem = self._target.certificate
        return pem.encode() if pem and self_signed(pem) else None

    @property
    def auth_enabled(self) -> bool:
        """Whether requests need a key."""
        return bool(self._row["settings"]["auth_enabled"])

    @property
    def num_replicas(self) -> int:
        """Number of replicas that was asked for; where it follows the load, deployment_status has the number of now."""
        return int(self._row["settings"]["num_replicas"])

    @property
    def image_id(self) -> str | None:
        """Id of the image, "name:version"; None when a model was deployed without one."""
        row = self._settled_row()
        return f"{row['image_name']}:{row['image_version']}" if row["image_name"] else None

    @property
    def image(self) -> Image | None:
        """The image it was deployed from."""
        return Image(self.workspace, id=self.image_id) if self.image_id else None

    @property
    def models(self) -> "Sequence[Model]":
        """The model that it serves."""
        row = self._settled_row()
        return [Model(self.workspace, row["model_name"], version=row["model_version"])]

    @property
    def compute_name(self) -> str:
        """Name of its compute target."""
        return self._row["compute_target"]

    @property
    def compute_type(self) -> str:
        """Kind of its compute target."""
        return self._target.type

    @property
    def updated_time(self) -> datetime:
        """Time of the last change, with its time zone (UTC)."""
        return datetime.fromisoformat(self._row["updated"])

    @known_keywords
    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """The last lines that the service has logged."""
        deployment.same_service(self.workspace, self._row)
        count = check_count(num_lines, least=0)
        if count is None:
            raise WebserviceInputError(f"num_lines: expected a number of at least 0, got {shown(num_lines)}")
        return self._target.runner().logs(self.name, count) if count else ""

    @property
    def _target(self) -> ComputeTarget:
        return ComputeTarget(self.workspace, self._row["compute_target"])

    def _uri(self, address: str) -> str:
        cname = self._target.ssl_cname
        return f"https://{cname}:{address.rpartition(':')[2]}" if cname else f"http://{address}"

    def _status(self) -> Status:
        row = deployment.same_service(self.workspace, self._row)
        status = ComputeTarget(self.workspace, row["compute_target"]).runner().status(self.name)
        row, status = fallback.settle(self.workspace, row, status)
        if "former" in self._row["settings"]:
            self._row = row
        return status

    def _settled_row(self) -> Row:
        """Its row; where it is not known yet whether its new model can be served, the target is asked."""
        if "former" in self._row["settings"]:
            with suppress(NotFoundError):
                self._status()
        return self._row

    def serialize(self) -> dict[str, Any]:
        """Plain values, for JSON; no keys."""
        status = self._status()
        return {
            "name": self.name,
            "state": status.state,
            "error": status.reason or None,
            "scoringUri": self._uri(status.address) if status.address else None,
            "computeType": self.compute_type,
            "computeName": self.compute_name,
            "imageId": self.image_id,
            "modelIds": [model.id for model in self.models],
            "authEnabled": self.auth_enabled,
            "sslEnabled": self.ssl_enabled,
            "numReplicas": self.num_replicas,
            "deploymentStatus": counts(status),
            "description": self.description,
            "tags": self.tags,
            "properties": self.properties,
            "createdTime": self._row["created"],
            "updatedTime": self._row["updated"],
        }

    def _fields(self) -> dict[str, Any]:
        model = f"none, model {self._row['model_name']}:{self._row['model_version']}"
        address: Row = {}
        try:
            status = self._status()
            address = {"scoring_uri": self._uri(status.address)} if status.address else {}
        except NotFoundError:
            status = Status("Deleted")
        return {
            "workspace": self.workspace.name,
            "name": self.name,
            "state": status.state,
            **address,
            "image": self.image_id or model,
            "target": self.compute_name,
            "auth": self.auth_enabled,
            "tags": self.tags,
        }


def _deploy(
    workspace: Workspace,
    name: str,
    model: Model,
    image: Image | None,
    config: "AksServiceDeploymentConfiguration | None",
    target: ComputeTarget | None,
    overwrite: bool,
) -> Webservice:
    wish = wished(workspace, name, model, image, config, target)
    try:
        deployment.deploy(workspace, wish, overwrite)
    finally:
        own.discard_unused(workspace, name)
    return Webservice(workspace, name)
