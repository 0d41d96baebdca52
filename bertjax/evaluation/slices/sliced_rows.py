"""`Slice`: some of the judged rows, chosen by a user's function or by the cells of a column."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.data.rows.cells import is_missing, label_text
from bertjax.data.rows.labelled_rows import as_string
from bertjax.data.rows.table_cells import row_places
from bertjax.errors import DataError
from bertjax.evaluation.judged_rows import JudgedRows
from bertjax.evaluation.slices.slice_functions import SliceFunction
from bertjax.user_files import told

logger = logging.getLogger(__name__)

Kind = Literal["file", "column", "length", "label", "confidence", "unknown words", "answer", "entities"]
_LISTED = 3
QUARTERS = 4


class Slice(NamedTuple):
    """Some of the judged rows.

    Attributes:
      name: distinct among those of an evaluation.
      kind: what the rows were chosen by.
      members: [N] whether each row is one.
      meaning: the name in other words, where it does not say which rows these are.
      failed: rows of which its function could not say.
    """

    name: str
    kind: Kind
    members: np.ndarray
    meaning: str = ""
    failed: int = 0


class SliceRow(SimpleNamespace):
    """A row as slices see it: its cells by column, as `row.title` and as `row["title"]`."""

    def __getitem__(self, column: str) -> Any:
        return vars(self)[column]

    def __contains__(self, column: object) -> bool:
        return column in vars(self)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def get(self, column: str, default: Any = None) -> Any:
        """The cell of a column, or the default where there is none."""
        return vars(self).get(column, default)


def slices_of_functions(functions: Sequence[SliceFunction], judged: JudgedRows, path: str) -> list[Slice]:
    """The slices of a user's functions. A row of which a function cannot say is not in its slice; the first ones are
    logged, with the line of the file.

    Args:
      functions: of the file.
      judged: the rows.
      path: of the file.
    """
    rows, places = _cells(judged), _places(judged)
    return [_slice_of(function, rows, places, judged.source, path) for function in functions]


def _slice_of(
    function: SliceFunction, rows: Sequence[Mapping[str, Any]], places: Sequence[str], source: str, path: str
) -> Slice:
    members = np.zeros(len(rows), bool)
    faults: list[tuple[int, str]] = []
    for i, cells in enumerate(rows):
        try:
            members[i] = bool(function.function(SliceRow(**cells)))
        except (Exception, SystemExit) as error:
            faults.append((i, told(path, error)))
    for i, reason in faults[:_LISTED]:
        logger.warning("%s: %s: slice %r raised %s", source, places[i], function.name, reason)
    if len(faults) > _LISTED:
        logger.warning(
            "%s: slice %r raised for %d rows, of which %d are shown", source, function.name, len(faults), _LISTED
        )
    if not members.any():
        logger.warning("%s: no row is in slice %r", source, function.name)
    return Slice(function.name, "file", members, failed=len(faults))


def _cells(judged: JudgedRows) -> list[dict[str, Any]]:
    """What functions read of each row: its cells; beside them text, pair and label as the model has them, unless these
    are columns."""
    rows = judged.rows
    read = [
        {"text": as_string(text), **({} if pair is None else {"pair": pair}), "label": label}
        for (text, pair), label in zip(rows.text_pairs(), rows.labels, strict=True)
    ]
    if judged.cells is None:
        return read
    return [known | cells for known, cells in zip(read, judged.cells.rows(), strict=True)]


def _places(judged: JudgedRows) -> list[str]:
    return row_places(judged.rows.positions) if judged.cells is None else judged.cells.places


def slices_of_column(column: str, judged: JudgedRows, most_values: int) -> tuple[list[Slice], str]:
    """A slice of each value of a column, and one of the rows without a value.

    Args:
      column: its name.
      judged: the rows, with their cells.
      most_values: numbers with more values become quarters; of other values the most frequent are slices.

    Returns:
      The slices, and what is to be said of the values that are none; empty where all are.

    Raises:
      DataError: there is no such column.
    """
    columns = {} if judged.cells is None else judged.cells.columns
    if column not in columns:
        known = f"its columns are {', '.join(columns)}" if columns else "its rows have no columns here"
        raise DataError(f"{judged.source} has no column {column!r} to slice by; {known}")
    cells = columns[column]
    missing = np.array([is_missing(cell) or cell == "" for cell in cells], bool)
    without = [Slice(f"{column} missing", "column", missing)] if missing.any() else []
    numbers = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
    if len(set(map(str, numbers))) > most_values and all(_is_number(cell) for cell in numbers):
        values = np.array([np.nan if gone else float(cell) for cell, gone in zip(cells, missing, strict=True)])
        return [*quantile_slices(column, "column", values, QUARTERS), *without], ""
    names = np.array(["" if gone else _value(cell) for cell, gone in zip(cells, missing, strict=True)], object)
    counts = Counter(names[~missing].tolist())
    frequent = sorted(counts, key=lambda value: (-counts[value], value))
    slices = [Slice(f"{column}: {value}", "column", (names == value) & ~missing) for value in frequent[:most_values]]
    rest = frequent[most_values:]
    note = (
        f"column {column!r} has {len(frequent)} values; the {most_values} most frequent are slices, the other "
        f"{len(rest)}, of {sum(counts[value] for value in rest)} rows, are not"
    )
    return [*slices, *without], note if rest else ""


def quantile_slices(name: str, kind: Kind, values: np.ndarray, parts: int, unit: str = "") -> list[Slice]:
    """Rows in groups of about one size by a number; equal numbers stay together, so groups may be fewer.

    Args:
      name: of the number.
      kind: of the slices.
      values: [N]; a row with NaN is in no group.
      parts: groups at most.
      unit: of the number, for the slices' meaning.

    Returns:
      The groups in ascending order; none where all rows would be in one.
    """
    known = np.isfinite(values)
    if parts < 2 or not known.any():
        return []
    cuts = np.unique(np.quantile(values[known], np.arange(1, parts) / parts, method="lower"))
    group = np.where(known, np.searchsorted(cuts, values, side="left"), -1)
    present = np.unique(group[known])
    if len(present) < 2:
        return []
    slices = []
    for place, i in enumerate(present.tolist(), start=1):
        members = group == i
        low, high = (f"{value:.4g}" if value % 1 else f"{value:.0f}" for value in _ends(values[members]))
        meaning = " ".join(filter(None, (low if low == high else f"{low} to {high}", unit)))
        slices.append(Slice(f"{name} {place} of {len(present)}", kind, members, meaning))
    return slices


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | np.number) and not isinstance(cell, bool)


def _value(cell: Any) -> str:
    """A cell as the name of a slice; integers that a missing cell made fractions of are written without decimals."""
    text = label_text(cell, merge=True) if isinstance(cell, str | int | float) else None
    return str(cell) if text is None else text
