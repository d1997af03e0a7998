"""Names of a package that are imported on first use, by the module-level __getattr__ of PEP 562."""

from __future__ import annotations  # read by a Python that is too old, too, before it is told so

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from amlrealtimeai.errors import extras_named


def attributes(
    package: str, homes: Mapping[str, str], other: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """The __getattr__ of `package`; homes: the submodule that each name is found in, or that it is, if they are equal.

    The function returns the object of that name and raises AttributeError for a name that `homes` does not have, or
    does what `other` does with it.
    """

    def find(name: str) -> Any:
        if name not in homes and other is not None:
            return other(name)
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with extras_named():
            module = import_module(f"{package}.{homes[name]}")
        return module if name == homes[name] else getattr(module, name)

    return find
