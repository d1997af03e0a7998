"""Names that no other learner has, and removing everything that a lesson made, in the one order that works."""

import getpass
import re
import secrets
from collections.abc import Callable
from typing import Any

from amlrealtimeai.errors import AmlRealtimeAiError


def own_name(lesson: str) -> str:
    """A name for this run of a lesson, for example "quickstart-ada-3f9c": lower case, as image names have to be."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "me"
    safe = re.sub(r"[^a-z0-9]+", "", user.lower())[:12] or "me"
    return f"{lesson}-{safe}-{secrets.token_hex(2)}"


def clean_up(workspace: Any, name: str) -> None:
    """Delete every service, image, compute target and model whose name begins with `name`; a second call finds none."""
    removed = [
        _remove("service", workspace.webservices, name),
        _remove_versions("image", workspace.images, name, _image_versions(workspace)),
        _remove("compute target", workspace.compute_targets, name),
        _remove_versions("model", workspace.models, name, _model_versions(workspace)),
    ]
    said = [text for text in removed if text]
    print("removed " + ", ".join(said) if said else f"nothing left of {name}")


def _remove(kind: str, found: dict[str, Any], name: str) -> str:
    ours = [thing for key, thing in found.items() if key.startswith(name)]
    for thing in ours:
        _delete(thing.delete)
    return _count(kind, len(ours))


def _remove_versions(kind: str, found: dict[str, Any], name: str, versions: Callable[[str], list[Any]]) -> str:
    # a converted model names the model that it came from, so the newest go first
    ours = [one for key in sorted(found, key=len, reverse=True) if key.startswith(name) for one in versions(key)]
    for thing in ours:
        _delete(thing.delete)
    return _count(kind, len(ours))


def _image_versions(workspace: Any) -> Callable[[str], list[Any]]:
    from amlrealtimeai.core.image import Image

    return lambda key: list(Image.list(workspace, image_name=key))


def _model_versions(workspace: Any) -> Callable[[str], list[Any]]:
    from amlrealtimeai.core.model import Model

    return lambda key: list(Model.list(workspace, name=key))


def _delete(delete: Callable[[], object]) -> None:
    try:
        delete()
    except AmlRealtimeAiError as error:
        print(f"left in place: {error}")


def _count(kind: str, count: int) -> str:
    return f"{count} {kind}{'s' if count > 1 else ''}" if count else ""
