"""Where the files that ship beside the code are: data/ in a checkout, amlrealtimeai/_data in an installed wheel."""

import os
from pathlib import Path

from amlrealtimeai.errors import MissingFileError

_PACKAGE = Path(__file__).resolve().parent


def _roots() -> list[Path]:
    chosen = os.environ.get("AMLREALTIMEAI_DATA")
    if chosen:
        return [Path(chosen)]
    # Beside an installed package there may be a folder "data" of somebody else.
    installed = _PACKAGE / "_data"
    return [installed if installed.is_dir() else _PACKAGE.parent / "data"]


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
