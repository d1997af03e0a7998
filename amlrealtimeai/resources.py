"""Where the files that ship beside the code are: data/ in a checkout, amlrealtimeai/_data in an installed wheel."""

import os
from pathlib import Path

from amlrealtimeai.errors import NotFoundError

_PACKAGE = Path(__file__).resolve().parent


def _roots() -> list[Path]:
    chosen = os.environ.get("AMLREALTIMEAI_DATA")
    return [Path(chosen)] if chosen else [_PACKAGE.parent / "data", _PACKAGE / "_data"]


def path(name: str) -> Path:
    """Path of the shipped file or folder `name`, for example "weights/resnet50.npz".

    Raises NotFoundError naming every place that was looked at.
    """
    for root in _roots():
        if (root / name).exists():
            return root / name
    looked = " and ".join(str(root) for root in _roots())
    raise NotFoundError(
        f"the shipped file {name!r} is missing; looked in {looked}. "
        "Clone the repository again, or set AMLREALTIMEAI_DATA to a folder that holds it."
    )
