"""A report that prints itself as a table, as text and in notebooks."""

from html import escape


class Table:
    """Prints `heading()`, `columns()` and `rows()` as text, and as HTML in notebooks."""

    def heading(self) -> str:
        """The line above the table."""
        raise NotImplementedError

    def columns(self) -> tuple[str, ...]:
        """Headings of the columns."""
        raise NotImplementedError

    def rows(self) -> list[tuple[str, ...]]:
        """The cells."""
        raise NotImplementedError

    def left_columns(self) -> tuple[int, ...]:
        """Columns of names, which are flushed left; figures are flushed right."""
        return (1,)

    def __str__(self) -> str:
        cells, left = [self.columns(), *self.rows()], self.left_columns()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(_aligned(cell, widths[i], i in left) for i, cell in enumerate(row)) for row in cells]
        return "\n".join([self.heading(), *(line.rstrip() for line in lines)])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.columns())
        body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in self.rows())
        return f"<p>{escape(self.heading())}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _aligned(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)
