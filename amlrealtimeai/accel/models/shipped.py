"""The weights that come with the package, as archives in data/weights; data/README.md says where each is from."""

from pathlib import Path

from amlrealtimeai import resources
from amlrealtimeai.errors import NotFoundError

_ARCHIVES = {"workshop": "weights/{}.npz", "photographs": "weights/{}.photographs.npz"}


def archive(source: str, network: str) -> Path:
    """The archive with the weights `source`, "workshop" or "photographs". Raises NotFoundError where none ships."""
    return resources.path(_ARCHIVES[source].format(network))


def ships(source: str, network: str) -> bool:
    """Whether there is such an archive."""
    try:
        archive(source, network)
    except NotFoundError:
        return False
    return True
