"""Modules of azureml that only Azure can fill: importing one says so, and what to use here."""

from __future__ import annotations  # read by a Python that is too old, too, before it is told so

import sys
from importlib.abc import MetaPathFinder
from typing import Any

from amlrealtimeai.errors import UnsupportedError

_TRAIN = "Train in this process, with TensorFlow."
_FILES = "Use files."
_IMAGES = "Images have what serving needs: AccelContainerImage.image_configuration()."
_SERVICES = "Converted models are served on a cluster: use AksWebservice."
_DEVICES = "A device that runs containers is an EdgeCompute (amlrealtimeai.core.compute)."

MODULES = {
    **dict.fromkeys(
        ("core.experiment", "core.run", "core.runconfig", "core.script_run_config", "core.script_run"), _TRAIN
    ),
    **dict.fromkeys(("train", "widgets", "pipeline.core", "pipeline.steps", "contrib.notebook", "interpret"), _TRAIN),
    **dict.fromkeys(("core.dataset", "core.datastore", "core.keyvault", "data", "dataprep", "opendatasets"), _FILES),
    **dict.fromkeys(("core.environment", "core.conda_dependencies", "core.container_registry"), _IMAGES),
    **dict.fromkeys(("core.webservice.aci", "core.webservice.local", "contrib.services", "core.profile"), _SERVICES),
    **dict.fromkeys(("core.compute.amlcompute", "core.compute.remote", "core.compute.batch"), _TRAIN),
    "contrib.iot": _DEVICES,
}
"""What to do instead of each, by its path below this package."""


class CloudImportError(UnsupportedError, ImportError):
    """A name or a module that needs Azure, where it is imported."""


def sentence(name: str, instead: str) -> str:
    """What an error says of a name that is not here."""
    return f"{name} needs Azure, and is not on this machine.{f' {instead}' if instead else ''}"


class _Retired(MetaPathFinder):
    """Asked last, for modules that are not here."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        package, _, module = name.partition(".")
        if package == __package__ and module in MODULES:
            raise CloudImportError(sentence(f"azureml.{module}", MODULES[module]))


def name_retired_modules() -> None:
    """Let their imports say what to use here."""
    sys.meta_path.append(_Retired())
