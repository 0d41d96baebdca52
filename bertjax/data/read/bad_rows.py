"""Rows that cannot be used: their place and the problem."""

from collections.abc import Callable
from typing import Literal, NamedTuple


class BadRow(NamedTuple):
    """A row that cannot be used."""

    source: str  # the file, or the source of several files
    line: int  # the first line of the row in the file, or its number in the table, counted from 1
    reason: str  # the problem; it continues "line 3 ..."
    unit: Literal["line", "row"] = "line"  # whether `line` counts lines or rows

    def __str__(self) -> str:
        return f"{self.source}: {self.unit} {self.line} {self.reason}"


OnBadRow = Callable[[BadRow], None]
"""Called with each bad row; raises DataError, or keeps the row to report it."""


class Place(NamedTuple):
    """File and first line of a row, for formats whose rows span lines."""

    file: str
    line: int


PLACE = "place of the row"
"""The column of a frame with the `Place` of each row, in formats that have places."""
