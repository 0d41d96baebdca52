"""Times in a column of a table: datetimes, dates, numbers or text."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from bertjax.errors import DataError

_PARSERS: tuple[dict[str, Any], ...] = ({"format": "ISO8601"}, {"dayfirst": False}, {"dayfirst": True})


def as_datetimes(column: pd.Series, iso_only: bool = False) -> pd.Series:
    """The cells as datetimes in UTC, NaT where a cell is missing or cannot be read.

    Text is ISO 8601, or has one format throughout, of those that pandas recognises. Where every row's day could be its
    month as well, the month is first. A time without a zone counts as UTC.

    Args:
      column: a column of a table, or a part of one.
      iso_only: parses only ISO 8601, so that a part is parsed as the whole would be.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.to_datetime(column, utc=True)
    # str() of a date or datetime is in ISO 8601.
    cells = column.astype(str).where(column.notna())
    parsers = _PARSERS[:1] if iso_only else _PARSERS
    return min((_parse(cells, options) for options in parsers), key=lambda times: int(times.isna().sum()))


def sortable_times(column: pd.Series, source: str) -> np.ndarray:
    """One number or datetime a row, of the same kind throughout.

    Args:
      column: numbers, text that is a number in every row, or what `as_datetimes` reads.
      source: named in the error.

    Returns:
      [n] numbers, or datetimes in UTC.

    Raises:
      DataError: a cell that is neither; missing cells must be refused before.
    """
    times = as_datetimes(column)
    if not pd.api.types.is_datetime64_any_dtype(column):
        numeric = pd.api.types.is_numeric_dtype(column)
        numbers = pd.to_numeric(column if numeric else column.astype(str), errors="coerce")
        # 20240531 and 2024 are both a number and a date; as numbers they have the same order.
        times = numbers if numbers.isna().sum() <= times.isna().sum() else times
    unread = times.isna().to_numpy()
    if unread.any():
        first = int(unread.argmax())
        raise DataError(
            f"{source}: column {column.name!r} orders the rows, but row {first + 1} holds {column.iloc[first]!r}, "
            f"neither a number nor a time; write times as 2024-05-31 or 2024-05-31T18:00"
        )
    return (times.dt.tz_localize(None) if isinstance(times.dtype, pd.DatetimeTZDtype) else times).to_numpy()


def _parse(cells: pd.Series, options: dict[str, Any]) -> pd.Series:
    with warnings.catch_warnings():
        # pandas warns where day and month are the other way round; all rows are parsed the same way.
        warnings.filterwarnings("ignore", "Parsing dates in", UserWarning)
        # Without a common format pandas would parse each row in a way of its own.
        warnings.filterwarnings("error", "Could not infer format", UserWarning)
        try:
            return pd.to_datetime(cells, errors="coerce", utc=True, **options)
        except UserWarning:
            return pd.Series(pd.NaT, cells.index, dtype="datetime64[ns, UTC]")
