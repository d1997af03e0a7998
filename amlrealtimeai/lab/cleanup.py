"""Removing everything of one name from a workspace, in the one order that works."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from amlrealtimeai.core import Workspace
from amlrealtimeai.errors import AmlRealtimeAiError, NotFoundError


def remove(workspace: Workspace, name: str) -> list[str]:
    """Delete the services, images, compute targets and models called `name`; returns how many, in words.

    What is derived from the name belongs to it, too: "name.1.accelonnx", and of a lesson's own name also "name-b".
    """
    found = _belongings(workspace, name)
    return [text for text in (_remove(kind, those) for kind, those in found.items()) if text]


def has_any(workspace: Workspace, name: str) -> bool:
    """Whether something called `name` is in the workspace."""
    return any(_belongings(workspace, name).values())


def _belongings(workspace: Workspace, name: str) -> dict[str, list[Any]]:
    """What is called `name`, by its kind, in the order in which it can be deleted."""
    from amlrealtimeai.core.image import Image
    from amlrealtimeai.core.model import Model

    ours = _names(name)
    # a converted model names the model that it came from, so the longest names go first
    models = sorted(Model.list(workspace), key=lambda model: len(model.name), reverse=True)
    return {
        "service": [one for key, one in workspace.webservices.items() if ours(key)],
        "image": [image for image in Image.list(workspace) if ours(image.name)],
        "compute target": [one for key, one in workspace.compute_targets.items() if ours(key)],
        "model": [model for model in models if ours(model.name)],
    }


def summary(name: str, removed: list[str]) -> str:
    """One line about what was removed."""
    return f"{name}: removed {', '.join(removed)}" if removed else f"nothing left of {name}"


def _names(name: str) -> Callable[[str], bool]:
    is_own = re.search(r"-[0-9a-f]{4}$", name) is not None
    return lambda other: other == name or other.startswith((f"{name}.", f"{name}-") if is_own else f"{name}.")


def _remove(kind: str, found: Iterable[Any]) -> str:
    count = 0
    for one in found:
        try:
            one.delete()
            count += 1
        except NotFoundError:  # another kernel was quicker
            continue
        except AmlRealtimeAiError as error:
            print(f"left in place: {error}")
    return f"{count} {kind}{'s' if count > 1 else ''}" if count else ""
