"""Names that old code finds in azureml and that only Azure can answer: each says so, and what to use here."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from amlrealtimeai.errors import UnsupportedError
from amlrealtimeai.retired import CloudImportError, sentence

T = TypeVar("T")


class CloudNameError(UnsupportedError, AttributeError):
    """An attribute that needs Azure; hasattr() is False for it."""


class _CloudName:
    """Stands in for an attribute, of the class and of its objects."""

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def __get__(self, found: Any, owner: type) -> Any:
        raise CloudNameError(sentence(f"{owner.__name__}.{self._name}", self._instead))


def needs_azure(names: str, instead: str = "") -> Callable[[type[T]], type[T]]:
    """Class decorator: these attributes (words of one text) raise CloudNameError. instead: what to do here."""

    def marked(owner: type[T]) -> type[T]:
        for name in names.split():
            setattr(owner, name, _CloudName(name, instead))
        return owner

    return marked


def names_of_azure(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's __getattr__: these names raise CloudImportError. names: what to do here, by words of one text."""
    known = {name: instead for words, instead in names.items() for name in words.split()}

    def find(name: str) -> Any:
        if name in known:
            raise CloudImportError(sentence(name, known[name]))
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
