"""Putting a service on a target: what to deploy, its row, its keys, and taking it all back when it cannot start."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from amlrealtimeai.core.arguments import check_name, check_strings
from amlrealtimeai.core.compute import ComputeTarget
from amlrealtimeai.core.image import Image
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import ConfigError, InvalidInputError, WebserviceInputError
from amlrealtimeai.store.store import Row, insert, now, select, set_secrets, update
from amlrealtimeai.targets.base import STOPPED, Service

KEY_BYTES = 32
_NAME = r"[a-z][a-z0-9-]{1,30}[a-z0-9]"


@dataclass(frozen=True)
class Wish:
    """What a caller wants to run; auth None: keys where there is TLS."""

    name: str
    model: Model
    image: Image | None
    target: ComputeTarget
    replicas: int = 1
    auth: bool | None = None
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    description: str | None = None


def model_of(workspace: Workspace, image: Image | None, models: "Model | Iterable[Model] | None") -> Model:
    """The one converted model to serve."""
    if image is not None:
        image.wait_for_creation()
        return image.models[0]
    given = [models] if isinstance(models, Model) else list(models or [])
    if len(given) != 1:
        raise WebserviceInputError(f"expected one model for a webservice, got {len(given)}")
    if not given[0].is_converted:
        raise WebserviceInputError(
            f"the model {given[0].id!r} is not a converted one. Convert it first: "
            "AccelOnnxConverter.convert_tf_model(workspace, model, input_node, outputs_nodes)."
        )
    return given[0]


class InferenceConfiguration(Protocol):
    """How `Model.deploy` gets from a registered model to one that can be served."""

    def converted(self, workspace: Workspace, model: Model) -> Model:
        """`model` itself if it is a converted one, else its conversion."""


def converted(
    workspace: Workspace, models: "Model | Iterable[Model]", inference: InferenceConfiguration
) -> list[Model]:
    """The models as they can be served."""
    given = [models] if isinstance(models, Model) else list(models)
    return [inference.converted(workspace, model) for model in given]


def check_service_name(name: str) -> None:
    """InvalidInputError for a name that a service cannot have."""
    check_name("service name", name, _NAME, "3 to 32 lower-case letters, digits and '-', with a letter first")


def deploy(workspace: Workspace, wish: Wish, overwrite: bool) -> None:
    """List the service and start it. An existing one is replaced if it is stopped, or with `overwrite`."""
    check_service_name(wish.name)
    before = workspace.store.find("webservices", name=wish.name)
    if before is not None:
        _check_replaceable(workspace, before, overwrite)
        if before["compute_target"] != wish.target.name:
            ComputeTarget(workspace, before["compute_target"]).runner().delete(wish.name)
    auth = resolve_auth(wish.name, wish.auth, wish.target, say=True)
    keys = new_keys(wish.keys) if auth else {}
    revision = before["settings"]["revision"] + 1 if before else 1
    row = {**_row_of(wish), "settings": {"num_replicas": wish.replicas, "auth_enabled": auth, "revision": revision}}
    with workspace.store.database.write() as connection:
        if before is None or not select(connection, "webservices", name=wish.name):
            insert(connection, "webservices", row)
        else:
            update(connection, "webservices", {"name": wish.name}, **row)
        connection.execute("DELETE FROM secrets WHERE kind = 'webservices' AND owner = ?", (wish.name,))
        set_secrets(connection, "webservices", wish.name, keys)
    try:
        wish.target.runner().deploy(service_of(workspace, row))
    except BaseException:
        if before is None:
            workspace.store.delete("webservices", {"name": wish.name})
        else:
            workspace.store.update(
                "webservices", {"name": wish.name}, **{k: v for k, v in before.items() if k != "name"}
            )
        raise


def service_of(workspace: Workspace, row: Row) -> Service:
    """What the target needs to know about a listed service."""
    model = Model(workspace, row["model_name"], version=row["model_version"])
    keys = workspace.store.secrets("webservices", row["name"]) if row["settings"]["auth_enabled"] else {}
    return Service(
        name=row["name"],
        model=workspace.store.blobs.path(model.digest.removeprefix("sha256:")),
        revision=row["settings"]["revision"],
        replicas=row["settings"]["num_replicas"],
        keys=[keys[name] for name in sorted(keys)],
    )


def resolve_auth(name: str, wanted: bool | None, target: ComputeTarget, say: bool) -> bool:
    """Keys are the default where there is TLS, and refused where there is none."""
    secure = bool(getattr(target, "ssl_enabled", False))
    if wanted and not secure:
        raise ConfigError(
            f"auth_enabled=True, but keys exist only with TLS, and {target.name!r} was provisioned without it. "
            "Provision a cluster with ssl_cname, ssl_cert_pem_file and ssl_key_pem_file, or leave auth_enabled out."
        )
    if wanted is None and not secure and say:
        print(
            f"The service {name!r} has no keys: keys exist only with TLS, and {target.name!r} was provisioned without."
        )
    return secure if wanted is None else bool(wanted)


def new_keys(given: dict[str, str]) -> dict[str, str]:
    """Primary and secondary key: the given ones, else 32 random bytes each."""
    for key in given.values():
        check_key(key)
    return {name: given.get(name) or secrets.token_urlsafe(KEY_BYTES) for name in ("primary", "secondary")}


def check_key(key: Any) -> str:
    """`key`, if it can be sent as metadata; its text never gets into the error."""
    if not isinstance(key, str) or len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError("a key: expected at least 8 printable ASCII characters without spaces")
    return key


def _check_replaceable(workspace: Workspace, row: Row, overwrite: bool) -> None:
    name = row["name"]
    state = ComputeTarget(workspace, row["compute_target"]).runner().status(name).state
    if state == STOPPED:
        print(f"The service {name!r} was stopped, because the process that ran it has ended; it is deployed again.")
    elif not overwrite:
        raise WebserviceInputError(
            f"the service {name!r} exists already ({state}). Replace it with overwrite=True, change it with "
            f"Webservice(workspace, {name!r}).update(image=...), or delete it first."
        )


def _row_of(wish: Wish) -> Row:
    moment = now()
    return {
        "name": wish.name,
        "compute_target": wish.target.name,
        "model_name": wish.model.name,
        "model_version": wish.model.version,
        "image_name": wish.image.name if wish.image else None,
        "image_version": wish.image.version if wish.image else None,
        "description": wish.description,
        "tags": check_strings("tags", wish.tags),
        "properties": check_strings("properties", wish.properties),
        "created": moment,
        "updated": moment,
    }
