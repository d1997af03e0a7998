"""config.json: which workspace a folder belongs to."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from amlrealtimeai import resources
from amlrealtimeai.core.arguments import check_path, writing
from amlrealtimeai.errors import ConfigError

KEYS = ("subscription_id", "resource_group", "workspace_name")
HOME_VARIABLE = "AMLREALTIMEAI_HOME"
_NAME = "config.json"
_PLACES = (".amlrealtimeai", ".azureml", "aml_config", "")


def home() -> Path:
    """Where the workspaces are: $AMLREALTIMEAI_HOME, else ~/.amlrealtimeai."""
    chosen = os.environ.get(HOME_VARIABLE)
    if not chosen and resources.user_home() is None:
        raise ConfigError(f"this user has no home folder; set {HOME_VARIABLE} to a folder for workspaces")
    path = check_path(HOME_VARIABLE, chosen or "~/.amlrealtimeai")
    try:
        return path.resolve()
    except (OSError, RuntimeError) as problem:  # RuntimeError: a loop of links
        raise ConfigError(f"{HOME_VARIABLE}: expected a folder for workspaces, got {str(path)!r} ({problem})") from None


def find(path: str | Path | None, name: str | None = None) -> Path | None:
    """The config file at `path` (a file or a folder), or without a path the nearest one here or above, or None.

    name: of the file, for a folder. `write` puts a file into a folder of its own: one that is named as if it lay beside
    that is found, too. Raises ConfigError when a path or a name was given and there is nothing.
    """
    if path is not None or name is not None:
        given = check_path("path", path or ".")
        found = given if given.is_file() else _in_folder(given, name or _NAME)
        found = found or (None if name else _in_folder(given.parent, given.name))
        if found is None:
            raise ConfigError(
                f"no {name or _NAME} at {given}. Write one with workspace.write_config({str(path)!r}), "
                "or leave the path out to use the local workspace."
            )
        return found
    here = check_path("path", ".").absolute()
    return next((found for folder in (here, *here.parents) if (found := _in_folder(folder, _NAME))), None)


def _in_folder(folder: Path, name: str) -> Path | None:
    return next((folder / place / name for place in _PLACES if (folder / place / name).is_file()), None)


def read(path: Path) -> tuple[str, str, str]:
    """Subscription, resource group and workspace name; ConfigError for anything else."""
    expected = f"{path}: expected a JSON object with the texts {', '.join(KEYS)}"
    fix = "Write it again with workspace.write_config(), or name another file: Workspace.from_config(path=...)."
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"{expected}, got something that is not JSON ({problem}). {fix}") from problem
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror}. {fix}") from problem
    if not isinstance(content, dict):
        raise ConfigError(f"{expected}, got a {type(content).__name__}. {fix}")
    values = [str(content[key]) for key in KEYS if isinstance(content.get(key), str) and content[key]]
    if len(values) < len(KEYS):
        raise ConfigError(f"{expected}, got {', '.join(content) or 'an empty object'}. {fix}")
    return values[0], values[1], values[2]


def write(folder: Path, file_name: str, values: tuple[str, str, str]) -> Path:
    """Write .amlrealtimeai/<file_name> into `folder` and return its path."""
    path = folder / ".amlrealtimeai" / check_path("file_name", file_name)
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    with writing("path", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(dict(zip(KEYS, values, strict=True)), indent=4) + "\n", encoding="utf-8")
        partial.replace(path)
    return path
