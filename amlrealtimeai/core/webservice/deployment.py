"""Putting a service on a target: what to deploy, its row, its keys, and taking it all back when it cannot start."""

import contextlib
import secrets
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from amlrealtimeai.core.arguments import caller_level, check_flag, check_strings, shown
from amlrealtimeai.core.compute import ComputeTarget
from amlrealtimeai.core.image import Image
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.webservice import fallback
from amlrealtimeai.core.webservice.wish import Wish, check_service_name
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import (
    ConfigError,
    DeploymentError,
    InvalidInputError,
    WebserviceInputError,
    WebserviceNotFoundError,
)
from amlrealtimeai.store.rows import Row, find, insert, now, set_secrets, update
from amlrealtimeai.targets.base import STOPPED, ImageReference, Limits, Resources, Scaling, Service, Tls

R = TypeVar("R")

KEY_BYTES = 32
_TRIES = 20


class _ChangedMeanwhileError(Exception):
    """Somebody else has changed the row since it was read."""


def model_of(workspace: Workspace, image: Image | None, models: "Model | str | Iterable[Model | str] | None") -> Model:
    """The one converted model to serve."""
    if image is not None and models is not None:
        raise WebserviceInputError("expected an image or models, got both: an image has its model in it")
    if image is not None:
        image.wait_for_creation()
        return image.models[0]
    given = _models(workspace, models)
    if len(given) != 1:
        raise WebserviceInputError(f"expected one model for a webservice, got {len(given)}")
    if not given[0].is_converted:
        raise WebserviceInputError(
            f"the model {given[0].id!r} is not a converted one. Convert it first: "
            "AccelOnnxConverter.convert_tf_model(workspace, model, input_node, outputs_nodes), or "
            "AccelOnnxConverter.convert_onnx_model(workspace, model) for an ONNX file."
        )
    return given[0]


def _models(workspace: Workspace, models: "Model | str | Iterable[Model | str] | None") -> list[Model]:
    if models is None:
        return []
    given = [models] if isinstance(models, str) or not isinstance(models, Iterable) else models
    return [Model.given(workspace, one) for one in given]


class InferenceConfiguration(Protocol):
    """How `Model.deploy` gets from a registered model to one that can be served."""

    def converted(self, workspace: Workspace, model: Model) -> Model:
        """`model` itself if it is a converted one, else its conversion."""


def converted(
    workspace: Workspace, models: "Model | str | Iterable[Model | str]", inference: InferenceConfiguration
) -> list[Model]:
    """The models as they can be served."""
    if not hasattr(inference, "converted"):
        raise WebserviceInputError(f"inference_config: expected an AccelInferenceConfig, got {shown(inference)}")
    return [inference.converted(workspace, model) for model in _models(workspace, models)]


def check_free(workspace: Workspace, name: str, overwrite: bool) -> None:
    """WebserviceInputError where a service of this name runs that is not to be replaced."""
    before = workspace.store.find("webservices", name=name)
    if before is not None:
        _check_replaceable(workspace, before, overwrite)


def deploy(workspace: Workspace, wish: Wish, overwrite: bool) -> None:
    """List the service and start it. An existing one is replaced if it is stopped, or with `overwrite`.

    What is refused changes nothing: the one that was there goes on with its keys, wherever it is.
    """
    check_service_name(wish.name)
    auth = resolve_auth(wish.name, wish.auth, wish.target, say=True)
    keys = new_keys(wish.keys) if auth else {}

    def attempt() -> Row | None:
        before = workspace.store.find("webservices", name=wish.name)
        if before is not None:
            _check_replaceable(workspace, before, overwrite)
        row = _row_of(wish, auth, before)
        runner = wish.target.runner()
        if before:
            row["created"] = before["created"]
            row = fallback.remember(row, before, lambda: runner.status(wish.name))
        service = service_of(workspace, row, keys)
        _warn_of_ignored(wish.target, runner.check(service))
        with _undone_at_a_failure(workspace, row, before):
            runner.deploy(service, lambda connection, server: _write(connection, row, before, keys, server))
        return before

    before = _until_unchanged(wish.name, attempt)
    if before is not None and before["compute_target"] != wish.target.name:
        former = workspace.store.find("compute_targets", name=before["compute_target"])
        if former is not None:
            ComputeTarget(workspace, former["name"]).runner().delete(wish.name, lambda connection, server: None)


def planned(workspace: Workspace, wish: Wish) -> Service:
    """What `deploy` would deploy: with the keys that the service has already, or with new ones."""
    check_service_name(wish.name)
    auth = resolve_auth(wish.name, wish.auth, wish.target, say=False)
    keys = new_keys({**workspace.store.secrets("webservices", wish.name), **wish.keys}) if auth else {}
    return service_of(workspace, _row_of(wish, auth, workspace.store.find("webservices", name=wish.name)), keys)


def change(
    workspace: Workspace,
    known: Row,
    changes: Callable[[Row], Row],
    fresh_keys: dict[str, str],
    asked: Sequence[str] = (),
) -> Row:
    """Change a service and what runs; returns its row. known: as the caller has it; it must be the same service still.

    changes(row): columns with new values, computed from the row as it is in the store, so that nobody's change is lost.
    fresh_keys: by name, in place of those that were. asked: keywords of this change, of which a warning names those
    that mean nothing on the target. Raises NotFoundError when it has been deleted.
    """

    def attempt() -> Row:
        before = same_service(workspace, known)
        target = ComputeTarget(workspace, before["compute_target"])
        runner = target.runner()
        row = {**before, **changes(before), "updated": now()}
        row = fallback.remember(row, before, lambda: runner.status(known["name"]))
        keys = {**workspace.store.secrets("webservices", row["name"]), **fresh_keys}
        if row["settings"]["auth_enabled"]:
            keys = new_keys(keys)
        service = service_of(workspace, row, keys)
        if asked:
            _warn_of_ignored(target, [name for name in runner.check(service) if name in asked])
        with _undone_at_a_failure(workspace, row, before):
            runner.update(service, lambda connection, server: _write(connection, row, before, keys, server))
        return workspace.store.find("webservices", name=row["name"]) or row

    return _until_unchanged(known["name"], attempt)


def delete(workspace: Workspace, known: Row) -> None:
    """Stop the service and forget it. Raises NotFoundError when it is not there any more."""
    row = same_service(workspace, known)

    def record(connection: sqlite3.Connection, server: str | None) -> None:
        _same(find(connection, "webservices", {"name": known["name"]}), known)
        connection.execute("DELETE FROM webservices WHERE name = ?", (known["name"],))
        connection.execute("DELETE FROM secrets WHERE kind = 'webservices' AND owner = ?", (known["name"],))

    ComputeTarget(workspace, row["compute_target"]).runner().delete(known["name"], record)


def same_service(workspace: Workspace, known: Row) -> Row:
    """The row of the service as it is now. Raises NotFoundError if it was deleted, even if another has its name now."""
    return _same(workspace.store.find("webservices", name=known["name"]), known)


def _same(row: Row | None, known: Row) -> Row:
    if row is None or row["created"] != known["created"]:
        another = "; another one has its name now" if row else ""
        raise WebserviceNotFoundError(
            f"WebserviceNotFound: the webservice {known['name']!r} does not exist any more: it was deleted{another}. "
            "Look at workspace.webservices."
        )
    return row


def _until_unchanged(name: str, attempt: Callable[[], R]) -> R:
    """The first attempt during which nobody else has changed the service."""
    for _ in range(_TRIES):
        with contextlib.suppress(_ChangedMeanwhileError):
            return attempt()
    raise DeploymentError(f"the service {name!r} is being changed by others all the time. Try again.")


def _write(
    connection: sqlite3.Connection, row: Row, before: Row | None, keys: dict[str, str], server: str | None
) -> None:
    """List the row in place of `before`, unless that is not what is there; its keys replace those that were."""
    current = find(connection, "webservices", {"name": row["name"]})
    if (current and (current["created"], current["updated"])) != (before and (before["created"], before["updated"])):
        raise _ChangedMeanwhileError
    described = {"tags", "properties", "description"}  # these may change meanwhile, and do not matter to what runs
    if before is None:
        insert(connection, "webservices", {**row, "server": server})
    else:
        changed = {column: value for column, value in row.items() if column not in described or value != before[column]}
        update(connection, "webservices", {"name": row["name"]}, **{**changed, "server": server})
    connection.execute("DELETE FROM secrets WHERE kind = 'webservices' AND owner = ?", (row["name"],))
    set_secrets(connection, "webservices", row["name"], keys)


@contextlib.contextmanager
def _undone_at_a_failure(workspace: Workspace, row: Row, before: Row | None) -> Iterator[None]:
    """Put back what was listed before, with its keys, if the target fails after `row` was written."""
    keys = workspace.store.secrets("webservices", row["name"])
    try:
        yield
    except BaseException:
        with workspace.store.database.write() as connection:
            current = find(connection, "webservices", {"name": row["name"]})
            if current and (current["created"], current["updated"]) == (row["created"], row["updated"]):
                connection.execute("DELETE FROM secrets WHERE kind = 'webservices' AND owner = ?", (row["name"],))
                connection.execute("DELETE FROM webservices WHERE name = ?", (row["name"],))
                if before is not None:
                    gone = before["server"] is None or find(connection, "servers", {"id": before["server"]}) is None
                    insert(connection, "webservices", {**before, "server": None if gone else before["server"]})
                    set_secrets(connection, "webservices", row["name"], keys)
        raise


def service_of(workspace: Workspace, row: Row, keys: dict[str, str]) -> Service:
    """What the target needs to know about a service."""
    settings = row["settings"]
    model = Model(workspace, row["model_name"], version=row["model_version"])
    asked = dict(settings.get("asked", {}))

    def taken(kind: type[Any]) -> Any:
        return kind(**{item.name: asked.pop(item.name, None) for item in fields(kind)})

    return Service(
        name=row["name"],
        model=workspace.store.blobs.path(model.digest.removeprefix("sha256:")),
        revision=settings["revision"],
        image=_image_of(workspace, row),
        replicas=settings["num_replicas"],
        keys=keys if settings["auth_enabled"] else {},
        tls=_tls_of(workspace, row["compute_target"]),
        resources=taken(Resources),
        limits=taken(Limits),
        scaling=taken(Scaling),
        other=asked,
    )


def _image_of(workspace: Workspace, row: Row) -> ImageReference | None:
    if row["image_name"] is None:
        return None
    image = Image(workspace, row["image_name"], version=row["image_version"])
    return ImageReference(image.id, str(image.digest), Path(str(image.image_location)))


def _tls_of(workspace: Workspace, target: str) -> Tls | None:
    texts = workspace.store.secrets("compute_targets", target)
    if "certificate" not in texts or "key" not in texts:
        return None
    name = ComputeTarget(workspace, target).ssl_cname
    return Tls(texts["certificate"], texts["key"], name or "localhost")


def _warn_of_ignored(target: ComputeTarget, names: Sequence[str]) -> None:
    if names:
        warnings.warn(
            f"{', '.join(names)} has no meaning on {target.name!r} (a target of the type {target.type}) "
            "and is ignored.",
            stacklevel=caller_level(),
        )


def resolve_auth(name: str, wanted: bool | None, target: ComputeTarget, say: bool) -> bool:
    """Keys are the default where there is TLS. Without it they are served to this machine alone, with a warning."""
    check_flag("auth_enabled", wanted)
    secure = target.ssl_enabled
    if wanted and not secure:
        if not target.is_local:
            raise ConfigError(
                f"auth_enabled=True, but {target.name!r} has no TLS: everyone on the way could read the keys. "
                "Provision it with ssl_cname, ssl_cert_pem_file and ssl_key_pem_file, or leave auth_enabled out."
            )
        warnings.warn(
            f"the service {name!r} has keys, but {target.name!r} has no TLS: programs on this machine that can see its "
            "network traffic can read them. Nobody else is served.",
            stacklevel=caller_level(),
        )
    if wanted is None and not secure and say:
        print(
            f"The service {name!r} has no keys: auth_enabled is on by default only with TLS, and {target.name!r} was "
            "provisioned without."
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


def _row_of(wish: Wish, auth: bool, before: Row | None) -> Row:
    moment = now()
    revision = before["settings"]["revision"] + 1 if before else 1
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
        "settings": {"num_replicas": wish.replicas, "auth_enabled": auth, "revision": revision, "asked": wish.asked},
        "created": moment,
        "updated": moment,
    }
