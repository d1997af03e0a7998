"""Where files are: those that ship beside the code, and the user's cache.

The first are in data/ in a checkout, in amlrealtimeai/_data in an installed wheel.
"""

import os
from pathlib import Path

from amlrealtimeai.errors import ConfigError, MissingFileError

_PACKAGE = Path(__file__).resolve().parent


def _roots() -> list[Path]:
    chosen = os.environ.get("AMLREALTIMEAI_DATA")
    if chosen:
        return [Path(chosen)]
    # Beside an installed package there may be a folder "data" of somebody else.
    installed = _PACKAGE / "_data"
    return [installed if installed.is_dir() else _PACKAGE.parent / "data"]


def cache() -> Path:
    """A folder for what can be made again: amlrealtimeai in $XDG_CACHE_HOME, else in ~/.cache.

    Raises ConfigError for a user without a home.
    """
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "amlrealtimeai"
    home = user_home()
    if home is None:
        raise ConfigError("this user has no home folder; set XDG_CACHE_HOME to a folder of its own")
    return home / ".cache" / "amlrealtimeai"


def user_home() -> Path | None:
    """The user's home folder; None for one who has none, as in a container that was given a number as its user."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def path(name: str) -> Path:
    """Path of the shipped file or folder `name`, for example "weights/resnet50.npz".

    Raises NotFoundError naming every place that was looked at.
    """
    for root in _roots():
        if (root / name).exists():
            return root / name
    looked = " and ".join(str(root) for root in _roots())
    raise MissingFileError(
        f"the shipped file {name!r} is missing; looked in {looked}. "
        "Clone the repository again, or set AMLREALTIMEAI_DATA to a folder that holds it."
    )
