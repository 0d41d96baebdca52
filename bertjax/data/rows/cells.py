"""Cells: what one cell of a table stands for, or the one clause that says why it cannot be used."""

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd


class BadCell(ValueError):
    """A cell that cannot be used; the message reads on after "row 3".

    Attributes:
      lines_on: lines of the file between the row's first one and the one that is meant.
    """

    def __init__(self, reason: str, lines_on: int = 0):
        super().__init__(reason)
        self.lines_on = lines_on


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, or pandas' own marks for them."""
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


class Columns(Protocol):
    """Who knows which columns are the text, and which the second text: a table, or the preprocessing of a model."""

    @property
    def text(self) -> tuple[str, ...]:
        """Of the first text."""
        ...

    @property
    def text_pair(self) -> tuple[str, ...]:
        """Of the second; none where there are no pairs."""
        ...


def read_texts(cells: Mapping[str, Any], columns: Columns) -> tuple[str, str | None]:
    """Both texts of a row, in training and in prediction; the second is None where there are no pairs.

    Raises:
      BadCell: no text in any of the columns of one, or a cell that is no string.
    """
    return read_text(cells, columns.text), read_text(cells, columns.text_pair) if columns.text_pair else None


def label_text(cell: Any) -> str | None:
    """A cell as the label it stands for, None where it is neither string nor integer."""
    # An integer column that met a missing cell on its way holds floats.
    value = int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    return str(value).strip() if isinstance(value, str | int) else None


def label_texts(cell: Any, delimiter: str | None = None) -> list[str | None]:
    """The labels that a cell stands for: the items of a list, those with a delimiter between, or the cell itself."""
    if isinstance(cell, list | tuple | np.ndarray):
        return [label_text(item) for item in cell]
    if isinstance(cell, str) and delimiter is not None:
        return [item.strip() for item in cell.split(delimiter) if item.strip()]
    return [label_text(cell)]


def read_label(cells: Mapping[str, Any], column: str) -> str:
    """A label; integers are written without decimals.

    Raises:
      BadCell: it is missing, or neither string nor integer.
    """
    cell = cells[column]
    if is_missing(cell):
        raise BadCell(f"has no label in column {column!r}")
    label = label_text(cell)
    if label is None:
        raise BadCell(f"holds {shown(cell)} in column {column!r}, where a label must be a string or an integer")
    return label


def read_number(cells: Mapping[str, Any], column: str) -> float:
    """A finite number.

    Raises:
      BadCell: it is missing or no number.
    """
    cell = cells[column]
    if is_missing(cell):
        raise BadCell(f"has no number in column {column!r}")
    try:
        # Python would take True for 1 and "1_000" for 1000.
        number = math.nan if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell) else float(cell)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadCell(f"holds {shown(cell)} in column {column!r}, which is no number")
    return number


def read_flag(cells: Mapping[str, Any], column: str) -> bool:
    """A yes or no, as 0 and 1 or true and false.

    Raises:
      BadCell: it is neither.
    """
    cell = cells[column]
    flag = _FLAGS.get(str(cell).strip().lower())
    if flag is None:
        raise BadCell(f"holds {shown(cell)} in column {column!r}, which must say 0 or 1")
    return flag


def read_list(cells: Mapping[str, Any], column: str, delimiter: str | None = None) -> list[Any]:
    """The items of a list: an array of json or parquet, the text of a json array, or items with a delimiter between.

    Raises:
      BadCell: the cell is no list, and no delimiter is given that would make one of it.
    """
    cell = cells[column]
    if isinstance(cell, list | tuple | np.ndarray):
        return cell.tolist() if isinstance(cell, np.ndarray) else list(cell)
    if is_missing(cell):
        return []
    if not isinstance(cell, str):
        raise BadCell(f"holds {shown(cell)} in column {column!r}, which is no list")
    if delimiter is not None:
        return [item.strip() for item in cell.split(delimiter) if item.strip()]
    try:
        items = json.loads(cell) if cell.lstrip().startswith("[") else None
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise BadCell(f"holds {shown(cell)} in column {column!r}, which is no list")
    return items


def shown(cell: Any) -> str:
    """A cell as a message shows it, cut where it is long."""
    return reprlib.repr(cell)


_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
