"""Rows that cannot be used: where they stand and what is wrong with them."""

from collections.abc import Callable
from typing import Literal, NamedTuple


class BadRow(NamedTuple):
    """A row that cannot be used.

    Attributes:
      source: the file, or the source of several.
      line: where the row begins, counted from 1, in the file's own lines, or in what `unit` says.
      reason: what is wrong, to be read after "line 3".
      unit: what is counted.
    """

    source: str
    line: int
    reason: str
    unit: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        return f"{self.source}: {self.unit} {self.line} {self.reason}"


OnBadRow = Callable[[BadRow], None]


class Place(NamedTuple):
    """Where a row stands, for formats whose rows are not lines."""

    file: str
    line: int


PLACE = "place of the row"
"""The column of a frame that holds the `Place` of each row, where its format has some."""
