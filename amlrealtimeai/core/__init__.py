"""The names of azureml.core on one machine: workspaces, models, images, compute targets, webservices.

Everything is kept in the workspace's store; names load on first use, so that importing this package costs nothing.
"""

from typing import TYPE_CHECKING

from amlrealtimeai import __version__ as VERSION
from amlrealtimeai import lazy
from amlrealtimeai.core.cloud import names_of_azure

if TYPE_CHECKING:
    from amlrealtimeai.core.compute import AksCompute, ComputeTarget, EdgeCompute
    from amlrealtimeai.core.image import ContainerImage, Image
    from amlrealtimeai.core.model import Model
    from amlrealtimeai.core.webservice import AksWebservice, Webservice
    from amlrealtimeai.core.workspace import Workspace

__version__ = VERSION
__all__ = [
    "VERSION",
    "AksCompute",
    "AksWebservice",
    "ComputeTarget",
    "ContainerImage",
    "EdgeCompute",
    "Image",
    "Model",
    "Webservice",
    "Workspace",
]

__getattr__ = lazy.attributes(
    __name__,
    {
        "AksCompute": "compute",
        "AksWebservice": "webservice",
        "ComputeTarget": "compute",
        "ContainerImage": "image",
        "EdgeCompute": "compute",
        "Image": "image",
        "Model": "model",
        "Webservice": "webservice",
        "Workspace": "workspace",
    },
    names_of_azure(
        __name__,
        {
            "Experiment Run ScriptRunConfig RunConfiguration get_run": "Train in this process, with TensorFlow.",
            "Environment": "Images have what serving needs: AccelContainerImage.image_configuration().",
            "Datastore Dataset Keyvault LinkedService": "Use files.",
        },
    ),
)
