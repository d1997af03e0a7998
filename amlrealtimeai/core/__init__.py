"""The names of azureml.core on one machine: workspaces, models, images, compute targets, webservices.

Everything is kept in the workspace's store; names load on first use, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amlrealtimeai.core.compute import AksCompute, ComputeTarget
    from amlrealtimeai.core.image import ContainerImage, Image
    from amlrealtimeai.core.model import Model
    from amlrealtimeai.core.webservice import AksWebservice, Webservice
    from amlrealtimeai.core.workspace import Workspace

__all__ = [
    "AksCompute",
    "AksWebservice",
    "ComputeTarget",
    "ContainerImage",
    "Image",
    "Model",
    "Webservice",
    "Workspace",
]

_HOMES = {
    "AksCompute": "compute",
    "AksWebservice": "webservice",
    "ComputeTarget": "compute",
    "ContainerImage": "image",
    "Image": "image",
    "Model": "model",
    "Webservice": "webservice",
    "Workspace": "workspace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'amlrealtimeai.core' has no attribute {name!r}")
    return getattr(import_module(f"amlrealtimeai.core.{_HOMES[name]}"), name)
