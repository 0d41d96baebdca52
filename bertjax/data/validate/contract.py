"""The data contract: what a table promises, checked with pandera before anything is trained."""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.rows.cells import is_missing, label_texts
from bertjax.data.rows.row_hashes import hash128
from bertjax.data.rows.timestamps import as_datetimes
from bertjax.data.table import Table

ColumnType = Literal["text", "integer", "number", "datetime"]
EXAMPLES = 3  # rows that are shown of a broken expectation
_EXAMPLE_CHARACTERS = 60


@dataclass(frozen=True)
class Contract:
    """What a table promises. The default asks for one row, which every table that can be read has.

    The cells of a csv are text, so a column holds integers where each of its cells can be read as one.
    """

    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    """Columns that are there and what their cells hold, missing ones apart."""

    unique: tuple[tuple[str, ...], ...] = ()
    """Keys: columns that never repeat, each key taken together; missing cells count as equal."""

    not_null: tuple[str, ...] = ()
    """Columns without a missing cell."""

    labels: tuple[str, ...] = ()
    """All that the label column may hold, in lists too; without any, what it likes."""

    min_characters: int = 0
    """Fewest characters (code points) of a cell of a text column."""

    max_characters: int | None = None
    """Most characters of such a cell."""

    min_rows: int = 1
    """Fewest rows to train on, as they are read."""


class Finding(NamedTuple):
    """One expectation and what became of it.

    Attributes:
      expectation: a sentence, unlike any other of the contract.
      holds: None where it was not checked, as a column of it is not there.
      failures: rows that break it; 0 for what is not about single rows.
      examples: the first of them with their row numbers, counted from 1 after the header; or what is there instead.
    """

    expectation: str
    holds: bool | None
    failures: int = 0
    examples: tuple[str, ...] = ()


class Broken(NamedTuple):
    """Rows that break an expectation.

    Attributes:
      rows: how many.
      first: the first of them, their numbers counted from 1 and what they hold.
    """

    rows: int
    first: tuple[tuple[int, str], ...]


class CheckedRows(NamedTuple):
    """What can be said of a part of a table.

    Attributes:
      num_rows: of the part.
      broken: the broken expectations of single rows.
      keys: of each unique key, [num_rows, 2] that are equal where the rows are.
    """

    num_rows: int
    broken: Mapping[str, Broken]
    keys: tuple[np.ndarray, ...]


class _Rule(NamedTuple):
    """An expectation of values.

    Attributes:
      expectation: a sentence, unlike any other of the contract.
      columns: that it is about.
      holds: from the column, or from a frame of several, to one boolean a row.
      sees_missing: a missing cell can break it.
    """

    expectation: str
    columns: tuple[str, ...]
    holds: Callable[[Any], pd.Series]
    sees_missing: bool = False


def check(contract: Contract, frame: pd.DataFrame, table: Table) -> tuple[Finding, ...]:
    """Checks every expectation, whichever others fail.

    Args:
      contract: what to expect.
      frame: as it was read; its index has no say.
      table: says which columns are text and label.

    Returns:
      One finding an expectation: the columns, their values, the number of rows.
    """
    rules = _rules(contract, table)
    columns = _columns(contract, rules)
    missing = {column for column in columns if column not in frame.columns}
    # The index becomes positions; columns of which nothing is expected would only cost time.
    expected = frame[[column for column in columns if column not in missing]].reset_index(drop=True)
    broken = _broken(expected, columns, [rule for rule in rules if not missing & set(rule.columns)], contract.min_rows)
    return _findings(contract, rules, list(frame.columns), len(frame), broken)


def columns_of(contract: Contract, table: Table) -> tuple[str, ...]:
    """All columns of which something is expected."""
    return _columns(contract, _rules(contract, table))


def check_rows(contract: Contract, frame: pd.DataFrame, table: Table) -> CheckedRows:
    """Checks a part of a table, as far as that can be done without the rest.

    Args:
      contract: what to expect.
      frame: with all `columns_of` the contract.
      table: says which columns are text and label.
    """
    rules = _rules(replace(contract, unique=()), table, iso_only=True)
    expected = frame[list(columns_of(contract, table))].reset_index(drop=True)
    keys = tuple(
        hash128(zip(*(map(_comparable, expected[column].tolist()) for column in key), strict=True))
        for key in contract.unique
    )
    return CheckedRows(len(frame), _broken(expected, list(expected.columns), rules, 0), keys)


def findings_of(
    contract: Contract, table: Table, columns: Sequence[str], num_rows: int, broken: Mapping[str, Broken]
) -> tuple[Finding, ...]:
    """What became of the expectations of a table that was checked in parts.

    Args:
      contract: what was expected.
      table: says which columns are text and label.
      columns: that the table has.
      num_rows: of all parts.
      broken: the expectations that single rows break, in any part.
    """
    rules = _rules(contract, table, iso_only=True)
    told = dict(broken)
    told |= {_is_there(column): Broken(0, ()) for column in _columns(contract, rules) if column not in columns}
    if num_rows < contract.min_rows:
        told[_has_rows(contract.min_rows)] = Broken(0, ())
    return _findings(contract, rules, columns, num_rows, told)


def unique_expectation(key: Sequence[str]) -> str:
    """What is expected of a unique key."""
    return f"{' and '.join(map(repr, key))} never repeat{'s' if len(key) == 1 else ' together'}"


def _columns(contract: Contract, rules: Iterable[_Rule]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*contract.columns, *(column for rule in rules for column in rule.columns)]))


def _findings(
    contract: Contract, rules: Sequence[_Rule], there: Sequence[str], num_rows: int, broken: Mapping[str, Broken]
) -> tuple[Finding, ...]:
    def of_table(expectation: str, found: str) -> Finding:
        return Finding(expectation, False, 0, (found,)) if expectation in broken else Finding(expectation, True)

    def of_rows(rule: _Rule) -> Finding:
        if not set(rule.columns) <= set(there):
            return Finding(rule.expectation, None)
        rows, first = broken.get(rule.expectation, (0, ()))
        return Finding(rule.expectation, not rows, rows, tuple(f"row {row}: {cells}" for row, cells in first))

    columns = _columns(contract, rules)
    return (
        *(of_table(_is_there(column), f"the columns are {', '.join(map(str, there))}") for column in columns),
        *map(of_rows, rules),
        of_table(_has_rows(contract.min_rows), f"it has {num_rows}"),
    )


def complaint(findings: Iterable[Finding]) -> str:
    """Every broken expectation, in one line; empty where there is none.

    >>> complaint([Finding("'stars' holds integers", False, 2, ("row 3: 'x'", "row 9: 'y'")), Finding("...", True)])
    "'stars' holds integers, but not in 2 rows (the first is row 3: 'x')"
    """
    parts = []
    for finding in findings:
        if finding.holds is False:
            found = finding.examples[0]
            if finding.failures:
                rows = "1 row" if finding.failures == 1 else f"{finding.failures} rows"
                found = f"not in {rows} (the first is {found})"
            parts.append(f"{finding.expectation}, but {found}")
    return "; ".join(parts)


def _rules(contract: Contract, table: Table, iso_only: bool = False) -> list[_Rule]:
    """What is expected of values; of a table in parts, datetimes in ISO 8601, since no part tells another format."""
    rules = []
    for column, kind in contract.columns.items():
        plural, holds = _ISO_DATETIMES if iso_only and kind == "datetime" else _TYPES[kind]
        rules.append(_Rule(f"{column!r} holds {plural}", (column,), holds))
    for key in contract.unique:
        rules.append(_Rule(unique_expectation(key), key, _is_first, sees_missing=True))
    for column in contract.not_null:
        rules.append(_Rule(f"{column!r} misses no cell", (column,), lambda cells: cells.notna(), sees_missing=True))
    if contract.labels and not table.labels:
        allowed = set(contract.labels)
        sentence = f"{table.label!r} is one of {', '.join(contract.labels)}"
        holds = _each(lambda cell: allowed.issuperset(label_texts(cell, table.label_delimiter)))
        rules.append(_Rule(sentence, (table.label,), holds))
    least, most = contract.min_characters, contract.max_characters
    if least > 0 or most is not None:
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        limit = math.inf if most is None else most
        # A cell that is no text has no length; that it must be text is another complaint.
        fits = _each(lambda cell: not isinstance(cell, str) or least <= len(cell) <= limit)
        rules += [_Rule(f"{name!r} has {bounds} characters", (name,), fits) for name in (*table.text, *table.text_pair)]
    return rules


def _broken(frame: pd.DataFrame, columns: Sequence[str], rules: Sequence[_Rule], min_rows: int) -> dict[str, Broken]:
    """The broken expectations, each with the rows that break it.

    Args:
      frame: with an index of positions.
      columns: that must be there.
      rules: about columns that are.
      min_rows: fewest rows.
    """
    # pandera takes a quarter of a second to import, which only a run with a contract should wait for.
    import pandera.pandas as pandera
    from pandera.config import config_context
    from pandera.errors import SchemaErrorReason, SchemaErrors

    def as_check(rule: _Rule) -> Any:
        of_columns = rule.holds if len(rule.columns) == 1 else lambda rows: rule.holds(rows[list(rule.columns)])
        return pandera.Check(of_columns, name=rule.expectation, ignore_na=not rule.sees_missing)

    of_column = {name: [as_check(rule) for rule in rules if rule.columns == (name,)] for name in columns}
    of_frame = [as_check(rule) for rule in rules if len(rule.columns) > 1]
    enough = pandera.Check(lambda rows: len(rows) >= min_rows, name=_has_rows(min_rows), ignore_na=False)
    schema = pandera.DataFrameSchema(
        {name: pandera.Column(nullable=True, checks=checks) for name, checks in of_column.items()},
        checks=[*of_frame, enough],
    )
    columns_by_rule = {rule.expectation: rule.columns for rule in rules}
    broken: dict[str, Broken] = {}
    try:
        # Variables of the environment can turn pandera off; a contract that is named is always checked.
        with config_context(validation_enabled=True, validation_depth="SCHEMA_AND_DATA"):
            schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            if error.reason_code is SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME:
                broken[_is_there(error.failure_cases)] = Broken(0, ())
            elif error.reason_code is SchemaErrorReason.DATAFRAME_CHECK:
                kept = error.check_output
                positions = kept.index[~kept].tolist() if isinstance(kept, pd.Series) else []
                looked_at = columns_by_rule.get(error.check.name, ())
                first = tuple((row + 1, _shown(frame, row, looked_at)) for row in positions[:EXAMPLES])
                broken[error.check.name] = Broken(len(positions), first)
            else:
                raise error from None  # a rule that failed itself is a mistake of this file
    return broken


def _is_there(column: str) -> str:
    return f"column {column!r} is there"


def _has_rows(least: int) -> str:
    return f"there {'is 1 row' if least == 1 else f'are {least} rows'} or more"


def _shown(frame: pd.DataFrame, row: int, columns: Sequence[str]) -> str:
    shown = ", ".join(repr(frame[column].iloc[[row]].tolist()[0]) for column in columns)
    if len(shown) > _EXAMPLE_CHARACTERS:
        shown = f"{shown[:_EXAMPLE_CHARACTERS]}..."
    return shown


def _each(holds: Callable[[Any], bool]) -> Callable[[pd.Series], pd.Series]:
    """A rule about a column out of one about a cell."""
    return lambda cells: pd.Series([holds(cell) for cell in cells], cells.index, dtype=bool)


def _is_first(cells: Any) -> pd.Series:
    # Cells of JSON and parquet may be lists, which pandas cannot compare.
    return ~cells.map(lambda cell: cell if isinstance(cell, Hashable) else repr(cell)).duplicated()


def _comparable(cell: Any) -> Any:
    """What is written alike where `_is_first` takes cells for equal."""
    if is_missing(cell):
        return None
    if isinstance(cell, bool | np.bool_ | int | float | np.number):
        return int(cell) if math.isfinite(cell) and cell == int(cell) else float(cell)
    return cell


def _is_integer(cell: Any) -> bool:
    if isinstance(cell, str):
        return re.fullmatch(r"\s*[+-]?[0-9]+\s*", cell) is not None
    # An integer column that met a missing cell on its way holds floats.
    return _is_number(cell) and cell == int(cell)


def _is_number(cell: Any) -> bool:
    # Python would take True for 1 and "1_000" for 1000.
    if isinstance(cell, bool | np.bool_) or (isinstance(cell, str) and "_" in cell):
        return False
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError, OverflowError):
        return False


_TYPES: Mapping[ColumnType, tuple[str, Callable[[pd.Series], pd.Series]]] = {
    "text": ("text", _each(lambda cell: isinstance(cell, str))),
    "integer": ("integers", _each(_is_integer)),
    "number": ("numbers", _each(_is_number)),
    "datetime": ("datetimes", lambda cells: as_datetimes(cells).notna()),
}
_ISO_DATETIMES = ("datetimes in ISO 8601", lambda cells: as_datetimes(cells, iso_only=True).notna())
