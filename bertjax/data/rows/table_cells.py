"""`TableCells`: what the rows that are used have in all columns of their table, also in those that no task reads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from bertjax.data.read.bad_rows import PLACE


class TableCells(NamedTuple):
    """The original cells of some rows.

    Attributes:
      columns: the cells of each column.
      places: how messages name each row.
    """

    columns: dict[str, list[Any]]
    places: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """The cells of each row by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


def table_cells(frame: pd.DataFrame, positions: Sequence[int]) -> TableCells:
    """The cells of the rows at `positions` of a table as it was read."""
    used = frame.iloc[list(positions)]
    columns = {str(name): used[name].tolist() for name in used.columns if name != PLACE}
    if PLACE not in used.columns:
        return TableCells(columns, row_places(positions))
    return TableCells(columns, [f"line {place.line} of {place.file}" for place in used[PLACE]])


def row_places(positions: Sequence[int]) -> list[str]:
    """How messages name the rows of a table by their positions, from 0."""
    return [f"row {position + 1}" for position in positions]
