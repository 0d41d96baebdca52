"""Cells and answers as plain Python values, as JSON and as the text of a csv cell."""

import json
from typing import Any

import numpy as np
import pandas as pd

from bertjax.data.rows.cells import is_missing


def plain_cells(column: pd.Series) -> list[Any]:
    """The cells of a column, None where one is missing."""
    cells = column.astype(object)
    return cells.where(cells.notna(), None).tolist()


def json_text(value: Any) -> str:
    """A value as JSON of one line; what JSON does not know (times, decimals) is text as Python writes it."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def cell_text(value: Any) -> str:
    """A value as the text of a csv cell: text as it is, nothing for a missing value, anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else _unquoted(json_text(value))


def _unquoted(text: str) -> str:
    return json.loads(text) if text.startswith('"') else text


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_missing(value):
        return None
    return value.hex() if isinstance(value, bytes) else str(value)
