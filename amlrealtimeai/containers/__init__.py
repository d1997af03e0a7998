"""OCI images written with the standard library: interpreter, packages, our code and one converted model.

`build_image` writes the image into one tar file, `run` starts it with podman, docker or runc, `dockerfile` gives the
same content as a build context for machines that cannot write it themselves.
"""

from typing import TYPE_CHECKING

from amlrealtimeai import lazy

if TYPE_CHECKING:
    from amlrealtimeai.containers.archive import verify_image
    from amlrealtimeai.containers.build_context import dockerfile
    from amlrealtimeai.containers.engine import Engine, find_engine
    from amlrealtimeai.containers.image import ImageInfo, LayerInfo, build_image
    from amlrealtimeai.containers.mounts import Mount, SecretFolder
    from amlrealtimeai.containers.running import Running, run

__all__ = [
    "Engine",
    "ImageInfo",
    "LayerInfo",
    "Mount",
    "Running",
    "SecretFolder",
    "build_image",
    "dockerfile",
    "find_engine",
    "run",
    "verify_image",
]

__getattr__ = lazy.attributes(
    __name__,
    {
        "Engine": "engine",
        "find_engine": "engine",
        "ImageInfo": "image",
        "LayerInfo": "image",
        "build_image": "image",
        "dockerfile": "build_context",
        "Mount": "mounts",
        "Running": "running",
        "SecretFolder": "mounts",
        "run": "running",
        "verify_image": "archive",
    },
)
