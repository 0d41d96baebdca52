"""The cells of each column: how many are missing or blank, how many differ."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import PLACE
from bertjax.data.rows.cells import cell_types, shown


class ColumnFacts(NamedTuple):
    """A column of a table.

    Attributes:
      name: of the column.
      role: what the task reads it as, such as `text` or `label`; empty where it reads it not at all.
      holds: the types of its cells.
      missing: cells that are empty or null.
      blank: cells that hold nothing but white space.
      distinct: different values of the other cells.
      example: the first of them, shortened.
    """

    name: str
    role: str
    holds: str
    missing: int
    blank: int
    distinct: int
    example: str


def column_facts(frame: pd.DataFrame, roles: dict[str, str]) -> tuple[ColumnFacts, ...]:
    """The facts of all columns of a table; `roles` are those of the columns that have one."""
    return tuple(_facts(frame[name], roles.get(name, "")) for name in frame.columns if name != PLACE)


def _facts(column: pd.Series, role: str) -> ColumnFacts:
    missing = column.isna().to_numpy(bool)
    is_text = isinstance(column.dtype, pd.StringDtype)
    cells = column[~missing]
    blank = (cells.str.strip() == "").to_numpy(bool) if is_text else _blank(cells)
    cells = cells[~blank]
    return ColumnFacts(
        str(column.name),
        role,
        " and ".join(cell_types(cells.tolist())) or ("lists" if len(cells) else "nothing"),
        int(missing.sum()),
        int(blank.sum()),
        _distinct(cells, is_text),
        shown(cells.iloc[0]) if len(cells) else "",
    )


def _blank(cells: pd.Series) -> np.ndarray:
    return np.array([isinstance(cell, str) and not cell.strip() for cell in cells.tolist()], bool)


def _distinct(cells: pd.Series, is_text: bool) -> int:
    if is_text or pd.api.types.is_numeric_dtype(cells.dtype):
        return int(cells.nunique())
    return len({_hashable(cell) for cell in cells.tolist()})


def _hashable(cell: Any) -> Any:
    return cell if isinstance(cell, str | int | float | bool) else repr(cell)
