"""Tables for the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertjax.report_pages.literal_text import literal


class TextTable(Table):
    """A rich table that shows every string as it is: `[red]`, `[/b]` and `:warning:` are no markup in it."""

    def __init__(self, *headers: str, title: str | None = None, **options: Any):
        super().__init__(
            title=None if title is None else Text(literal(title), "table.title"), title_justify="left", **options
        )
        for header in headers:
            self.add_column(header)

    def add_column(self, header: Any = "", *rest: Any, **options: Any) -> None:
        super().add_column(_shown(header), *rest, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_shown, cells), **options)


def print_table(table: TextTable, width_of_a_log: int | None = None) -> None:
    """Prints a table as wide as the terminal; in a log as wide as given, by default 80 columns."""
    console = Console()
    if width_of_a_log is not None and not console.is_terminal:
        console.width = width_of_a_log
    console.print(table)


def _shown(cell: Any) -> Any:
    return Text(literal(cell)) if isinstance(cell, str) else cell
