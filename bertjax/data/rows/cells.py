"""Cells: parses the value of one cell of a table, or says in one clause why it cannot be used."""

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.batch import UNLABELLED
from bertjax.data.rows.literals import looks_like_list, parse_literal, plain
from bertjax.data.rows.spellings import plain_spelling
from bertjax.data.table import Table
from bertjax.errors import DataError

_CELL_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "truth values": (bool, np.bool_),
    "numbers": (int, float, np.number),
}
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class BadCell(ValueError):
    """A cell that cannot be used; the message continues "row 3 ...".

    Attributes:
      lines_on: lines of the file from the first line of the row to the faulty one.
    """

    def __init__(self, reason: str, lines_on: int = 0):
        super().__init__(reason)
        self.lines_on = lines_on


def is_missing(cell: Any) -> bool:
    """Whether a cell is missing: null, NaN, or a missing value of pandas."""
    return bool(pd.api.types.is_scalar(cell) and pd.isna(cell))


def read_text(cells: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The texts of some columns, joined by a space; some may be missing, never all.

    Raises:
      BadCell: no text in any of them, or a cell that is no string.
    """
    parts = []
    for column in columns:
        cell = cells[column]
        if is_missing(cell):
            continue
        if not isinstance(cell, str):
            raise BadCell(f"holds {shown(cell)} ({type(cell).__name__}) in column {column!r}, which must hold text")
        if cell.strip():
            parts.append(cell)
    if not parts:
        raise BadCell(f"has no text in {' and '.join(columns)}")
    return " ".join(parts)


def read_texts(cells: Mapping[str, Any], table: Table) -> tuple[str, str | None]:
    """Both texts of a row, in training and in prediction; the second is None without pairs.

    Raises:
      BadCell: no text in any of the columns of one, or a cell that is no string.
    """
    return read_text(cells, table.text), read_text(cells, table.text_pair) if table.text_pair else None


def label_text(cell: Any, merge: bool = False) -> str | None:
    """The label in a cell, None where it is neither string nor integer.

    Args:
      cell: of any type.
      merge: whether labels that look alike are one, see `plain_spelling`.
    """
    # pandas turns an integer column with a missing cell into floats.
    value = int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    label = str(value).strip() if isinstance(value, str | int) else None
    return plain_spelling(label) if merge and label is not None else label


def label_texts(cell: Any, table: Table) -> list[str | None]:
    """The labels in a cell: the items of a list, the parts between delimiters, or the cell itself."""
    if isinstance(cell, str) and (table.labels_as or table.label_delimiter):
        try:
            cell = read_list({table.label: cell}, table.label, table.label_delimiter, any_order=True)
        except BadCell:
            return [None]
    items = plain(cell) if isinstance(cell, list | tuple | np.ndarray) else [cell]
    if table.flag_names:
        items = [name for name, flag in zip(table.flag_names, items, strict=False) if as_flag(flag)]
    return [label_text(item, table.merges_labels) for item in items]


def read_label(cells: Mapping[str, Any], column: str, merge: bool = False) -> str:
    """A label; integers are written without decimals, and labels that look alike are one where `merge` says so.

    Raises:
      BadCell: it is missing, has no visible character, or is neither string nor integer.
    """
    cell = cells[column]
    label = "" if is_missing(cell) else label_text(cell, merge)
    if label is None:
        raise BadCell(f"holds {shown(cell)} in column {column!r}, where a label must be a string or an integer")
    if not label or not (label.isprintable() or plain_spelling(label)):
        raise BadCell(f"has no label in column {column!r}")
    check_labelled([label], column)
    return label


def check_labelled(labels: Sequence[str | None], column: str) -> None:
    """Checks that no label of a row is the mark of what has none; raises BadCell where one is."""
    if str(UNLABELLED) in labels:
        raise BadCell(f"has {UNLABELLED} in column {column!r}, which marks what has no label")


def read_number(cells: Mapping[str, Any], column: str) -> float:
    """A finite number.

    Raises:
      BadCell: it is missing or no number.
    """
    cell = cells[column]
    if is_missing(cell):
        raise BadCell(f"has no number in column {column!r}")
    try:
        # float() reads True as 1 and "1_000" as 1000.
        number = math.nan if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell) else float(cell)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadCell(f"holds {shown(cell)} in column {column!r}, which is no number")
    return number


def as_flag(cell: Any) -> bool | None:
    """A truth value, written as 0 and 1 or true and false; None for anything else."""
    return _FLAGS.get(str(cell).strip().lower())


def read_flag(cells: Mapping[str, Any], column: str) -> bool:
    """A truth value, written as 0 and 1 or true and false.

    Raises:
      BadCell: any other value.
    """
    cell = cells[column]
    flag = as_flag(cell)
    if flag is None:
        raise BadCell(f"holds {shown(cell)} in column {column!r}, which must say 0 or 1")
    return flag


def read_list(
    cells: Mapping[str, Any], column: str, delimiter: str | None = None, any_order: bool = False
) -> list[Any]:
    """The items of a list: an array of json or parquet, the text of a list (`parse_literal`), or items between
    delimiters.

    Args:
      cells: of a row, by column.
      column: the one to read.
      delimiter: what stands between items that are written without brackets.
      any_order: whether a set will do, whose items have no order.

    Raises:
      BadCell: the cell is no list, and there is no delimiter to split it.
    """
    cell = plain(cells[column])
    if is_missing(cell):
        return []
    items = parse_literal(cell) if isinstance(cell, str) else cell
    if isinstance(items, list | tuple):
        return list(items)
    if isinstance(items, set):
        if not any_order:
            raise BadCell(f"holds the set {shown(cell)} in column {column!r}, whose order is not known; write a list")
        return sorted(items, key=str)
    if isinstance(cell, str):
        if looks_like_list(cell) and (delimiter is None or delimiter in cell or items is not None):
            raise BadCell(
                f"holds {shown(cell)} in column {column!r}, which begins like a list and is none that can be read; "
                f'write lists as in ["a", "b"]'
            )
        if delimiter is not None:
            return [item.strip() for item in cell.split(delimiter) if item.strip()]
    raise BadCell(f"holds {shown(cell)} in column {column!r}, which is no list")


def shown(cell: Any) -> str:
    """A cell as messages show it, shortened where it is long."""
    return reprlib.repr(cell)


class FirstCell(NamedTuple):
    """The first cell of a type: its row, counted from 1, and its `repr`."""

    row: int
    cell: str


def cell_types(cells: Iterable[Any]) -> dict[str, FirstCell]:
    """The types of the cells: text, numbers and truth values; missing cells and lists are ignored."""
    return _types([cell] for cell in cells)


def item_types(cells: Iterable[Any]) -> dict[str, FirstCell]:
    """The types of the labels in lists; other cells and items are ignored, and so is the mark of what has no label."""
    lists = (cell if isinstance(cell, list | tuple | np.ndarray) else () for cell in cells)
    return _types([item for item in plain(items) if label_text(item) not in (None, str(UNLABELLED))] for items in lists)


def _types(rows: Iterable[Iterable[Any]]) -> dict[str, FirstCell]:
    first: dict[str, FirstCell] = {}
    for row, cells in enumerate(rows, start=1):
        for cell in cells:
            name = next((name for name, types in _CELL_TYPES.items() if isinstance(cell, types)), None)
            if name is not None and name not in first and not is_missing(cell):
                first[name] = FirstCell(row, repr(cell))
    return first


def check_one_type(types: Mapping[str, FirstCell], column: str, source: str) -> None:
    """Checks that the cells of a label column have one type, since "1" and 1 would become one label.

    Raises:
      DataError: they have several.
    """
    if len(types) > 1:
        found = " and ".join(f"{name} (row {first.row}: {first.cell})" for name, first in types.items())
        raise DataError(f"{source}: column {column!r} mixes {found}; write all of its cells as one of them")
