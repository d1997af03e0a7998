"""How objects look in a notebook: one small table, in text and in HTML."""

from collections.abc import Mapping
from html import escape
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound="Shown")


class Shown:
    """An object with a few fields worth seeing."""

    def _fields(self) -> dict[str, Any]:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle holds what the object holds; to make it anew would ask the workspace for it."""
        return object.__new__, (type(self),), vars(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self._fields().items())})"

    def _repr_html_(self) -> str:
        rows = [
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{_cell(value)}</td></tr>"
            for name, value in self._fields().items()
            if value is not None and value not in ({}, [], "")  # a row for nothing
        ]
        return f"<b>{type(self).__name__}</b><table>{''.join(rows)}</table>"


class Listing(dict[str, T], Generic[T]):
    """A dict of objects by name that shows itself as a table."""

    def __call__(self) -> "Listing[T]":
        """The same: the first previews had methods, workspace.images(), where properties are now."""
        return self

    def _repr_html_(self) -> str:
        if not self:
            return "<i>none</i>"
        fields = [item._fields() for item in self.values()]
        heads = list(dict.fromkeys(name for row in fields for name in row if name != "workspace"))
        head = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in heads)
        rows = [
            "<tr>" + "".join(f"<td style='text-align:left'>{_cell(row.get(name, ''))}</td>" for name in heads) + "</tr>"
            for row in fields
        ]
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{key}: {item}" for key, item in value.items())
    return escape("" if value is None else str(value))


def in_bytes(size: int) -> str:
    """12_345_678 -> '12.3 MB'."""
    if size < 1000:
        return f"{size} B"
    amount, unit = size / 1000, "kB"
    for larger in ("MB", "GB"):
        if amount >= 1000:
            amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}"
