"""The data contract: expectations of a table, checked with pandera before training."""

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
_EXAMPLES = 3  # rows shown for a broken expectation
_EXAMPLE_CHARACTERS = 60


@dataclass(frozen=True)
class Contract:
    """Expectations of a table. The default expects one row, which every table that can be read has.

    The cells of a csv are text, so a column holds integers where each of its cells can be read as one.
    """

    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    """Required columns and the type of their cells, missing cells apart."""

    unique: tuple[tuple[str, ...], ...] = ()
    """Keys: columns whose cells, taken together, never repeat; missing cells count as equal."""

    not_null: tuple[str, ...] = ()
    """Columns without a missing cell."""

    labels: tuple[str, ...] = ()
    """Allowed labels, also within lists; empty allows all."""

    min_characters: int = 0
    """Fewest characters (code points) of a cell of a text column."""

    max_characters: int | None = None
    """Most characters of such a cell."""

    min_rows: int = 1
    """Fewest rows to train on, as they are read."""


class Finding(NamedTuple):
    """The outcome of one expectation.

    Attributes:
      expectation: a sentence, unique within the contract.
      holds: None where it was not checked because one of its columns is missing.
      failures: rows that break it; 0 where it is not about single rows.
      examples: the first such rows with their numbers, counted from 1 after the header; or what the table has instead.
    """

    expectation: str
    holds: bool | None
    failures: int = 0
    examples: tuple[str, ...] = ()


class Broken(NamedTuple):
    """Rows that break an expectation."""

    rows: int  # number of rows
    first: tuple[tuple[int, str], ...]  # row number, counted from 1, and cells of the first few


class CheckedPart(NamedTuple):
    """The check of a part of a table."""

    num_rows: int  # rows of the part
    broken: Mapping[str, Broken]  # broken expectations of single rows, numbered within the part
    keys: tuple[np.ndarray, ...]  # for each unique key of the contract, [num_rows, 2] hashes of its cells


class _Rule(NamedTuple):
    """An expectation of cells: `holds` takes the column, or a frame of several, and returns one boolean a row."""

    expectation: str
    columns: tuple[str, ...]
    holds: Callable[[Any], pd.Series]
    sees_missing: bool = False  # whether a missing cell can break it


def check(contract: Contract, frame: pd.DataFrame, table: Table) -> tuple[Finding, ...]:
    """Checks every expectation of a table.

    Args:
      contract: the expectations.
      frame: the table as read; its index is ignored.
      table: settings that name the text and label columns.

    Returns:
      One finding an expectation: columns, then cells, then the number of rows.
    """
    rules = _rules(contract, table)
    return _findings(contract, rules, list(frame.columns), len(frame), _broken(frame, rules))


def columns_of(contract: Contract, table: Table) -> tuple[str, ...]:
    """All columns with an expectation."""
    return _columns(contract, _rules(contract, table))


def check_part(contract: Contract, frame: pd.DataFrame, table: Table) -> CheckedPart:
    """Checks a part of a table, with all `columns_of` the contract; datetimes must be in ISO 8601."""
    rules = _rules(replace(contract, unique=()), table, iso_only=True)
    keys = tuple(
        hash128(zip(*(map(_comparable, frame[column].tolist()) for column in key), strict=True))
        for key in contract.unique
    )
    return CheckedPart(len(frame), _broken(frame, rules), keys)


def findings_of(
    contract: Contract, table: Table, columns: Sequence[str], parts: Sequence[CheckedPart]
) -> tuple[Finding, ...]:
    """`check` of a table whose parts were checked, in their order; `columns` are those of all parts."""
    broken: dict[str, Broken] = {}
    num_rows = 0
    for part in parts:
        for expectation, (rows, first) in part.broken.items():
            before = broken.get(expectation, Broken(0, ()))
            here = tuple((row + num_rows, cells) for row, cells in first)
            broken[expectation] = Broken(before.rows + rows, (*before.first, *here)[:_EXAMPLES])
        num_rows += part.num_rows
    for key, hashes in zip(contract.unique, zip(*(part.keys for part in parts), strict=True), strict=True):
        broken[_unique_expectation(key)] = _repeated(np.concatenate(hashes))
    return _findings(contract, _rules(contract, table, iso_only=True), columns, num_rows, broken)


def _repeated(keys: np.ndarray) -> Broken:
    """The rows whose key ([n, 2] hashes) an earlier row has, with the number of that row for the first few."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys, the earlier row is first
    is_new = np.ones(len(order), bool)
    is_new[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    firsts = order[is_new][np.cumsum(is_new) - 1]
    rows, original = order[~is_new], firsts[~is_new]
    shown = np.argsort(rows)[:_EXAMPLES]
    return Broken(len(rows), tuple((int(rows[i]) + 1, f"as in row {original[i] + 1}") for i in shown))


def _unique_expectation(key: Sequence[str]) -> str:
    return f"{' and '.join(map(repr, key))} never repeat{'s' if len(key) == 1 else ' together'}"


def _columns(contract: Contract, rules: Iterable[_Rule]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*contract.columns, *(column for rule in rules for column in rule.columns)]))


def _findings(
    contract: Contract, rules: Sequence[_Rule], present: Sequence[str], num_rows: int, broken: Mapping[str, Broken]
) -> tuple[Finding, ...]:
    def of_table(expectation: str, holds: bool, actual: str) -> Finding:
        return Finding(expectation, True) if holds else Finding(expectation, False, 0, (actual,))

    def of_rows(rule: _Rule) -> Finding:
        if not set(rule.columns) <= set(present):
            return Finding(rule.expectation, None)
        rows, first = broken.get(rule.expectation, (0, ()))
        return Finding(rule.expectation, not rows, rows, tuple(f"row {row}: {cells}" for row, cells in first))

    least, actual = contract.min_rows, f"the columns are {', '.join(map(str, present))}"
    enough = f"there {'is 1 row' if least == 1 else f'are {least} rows'} or more"
    return (
        *(of_table(f"column {name!r} is there", name in present, actual) for name in _columns(contract, rules)),
        *map(of_rows, rules),
        of_table(enough, num_rows >= least, f"it has {num_rows}"),
    )


def describe_broken(findings: Iterable[Finding]) -> str:
    """All broken expectations in one line; empty without any.

    >>> describe_broken([Finding("'stars' holds integers", False, 2, ("row 3: 'x'", "row 9: 'y'"))])
    "'stars' holds integers, but not in 2 rows (the first is row 3: 'x')"
    """
    parts = []
    for finding in findings:
        if finding.holds is False:
            problem = finding.examples[0]
            if finding.failures:
                rows = "1 row" if finding.failures == 1 else f"{finding.failures} rows"
                problem = f"not in {rows} (the first is {problem})"
            parts.append(f"{finding.expectation}, but {problem}")
    return "; ".join(parts)


def _rules(contract: Contract, table: Table, iso_only: bool = False) -> list[_Rule]:
    """The expectations of cells; `iso_only` is for parts of a table, which cannot show another format of datetimes."""
    rules = []
    for column, kind in contract.columns.items():
        plural, holds = _ISO_DATETIMES if iso_only and kind == "datetime" else _TYPES[kind]
        rules.append(_Rule(f"{column!r} holds {plural}", (column,), holds))
    for key in contract.unique:
        rules.append(_Rule(_unique_expectation(key), key, _is_first, sees_missing=True))
    for column in contract.not_null:
        rules.append(_Rule(f"{column!r} misses no cell", (column,), lambda cells: cells.notna(), sees_missing=True))
    if contract.labels and not table.labels:
        allowed = set(contract.labels)
        sentence = f"{table.label!r} is one of {', '.join(contract.labels)}"
        holds = _each(lambda cell: allowed.issuperset(label_texts(cell, table)))
        rules.append(_Rule(sentence, (table.label,), holds))
    least, most = contract.min_characters, contract.max_characters
    if least > 0 or most is not None:
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        limit = math.inf if most is None else most
        # A cell that is no text has no length; its type is another expectation.
        fits = _each(lambda cell: not isinstance(cell, str) or least <= len(cell) <= limit)
        rules += [_Rule(f"{name!r} has {bounds} characters", (name,), fits) for name in (*table.text, *table.text_pair)]
    return rules


def _broken(frame: pd.DataFrame, rules: Sequence[_Rule]) -> dict[str, Broken]:
    """The broken expectations of rows, each with the rows that break it; rules on missing columns are skipped."""
    # pandera takes a quarter of a second to import, which only a run with a contract should wait for.
    import pandera.pandas as pandera
    from pandera.config import config_context
    from pandera.errors import SchemaErrorReason, SchemaErrors

    def as_check(rule: _Rule) -> Any:
        of_columns = rule.holds if len(rule.columns) == 1 else lambda rows: rule.holds(rows[list(rule.columns)])
        return pandera.Check(of_columns, name=rule.expectation, ignore_na=not rule.sees_missing)

    checked = {rule.expectation: rule for rule in rules if set(rule.columns) <= set(frame.columns)}
    columns = list(dict.fromkeys(name for rule in checked.values() for name in rule.columns))
    frame = frame[columns].reset_index(drop=True)  # positions; other columns would only cost time
    of_column = {name: [as_check(rule) for rule in checked.values() if rule.columns == (name,)] for name in columns}
    schema = pandera.DataFrameSchema(
        {name: pandera.Column(nullable=True, checks=checks) for name, checks in of_column.items()},
        checks=[as_check(rule) for rule in checked.values() if len(rule.columns) > 1],
    )
    broken: dict[str, Broken] = {}
    try:
        # Environment variables can turn pandera off; a contract that is named is always checked.
        with config_context(validation_enabled=True, validation_depth="SCHEMA_AND_DATA"):
            schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            if error.reason_code is not SchemaErrorReason.DATAFRAME_CHECK:
                raise error from None  # a rule that raised an exception is a bug in this file
            holds = error.check_output
            positions = holds.index[~holds].tolist()
            shown = checked[error.check.name].columns
            first = tuple((row + 1, _shown(frame, row, shown)) for row in positions[:_EXAMPLES])
            broken[error.check.name] = Broken(len(positions), first)
    return broken


def _shown(frame: pd.DataFrame, row: int, columns: Sequence[str]) -> str:
    shown = ", ".join(repr(frame[column].iloc[[row]].tolist()[0]) for column in columns)
    return shown if len(shown) <= _EXAMPLE_CHARACTERS else f"{shown[:_EXAMPLE_CHARACTERS]}..."


def _each(holds: Callable[[Any], bool]) -> Callable[[pd.Series], pd.Series]:
    """A rule for a column from a rule for a cell."""
    return lambda cells: pd.Series([holds(cell) for cell in cells], cells.index, dtype=bool)


def _is_first(cells: Any) -> pd.Series:
    # Cells of JSON and parquet may be lists, which pandas cannot compare.
    return ~cells.map(lambda cell: cell if isinstance(cell, Hashable) else repr(cell)).duplicated()


def _comparable(cell: Any) -> Any:
    """A value whose `repr` is equal where `_is_first` finds cells equal."""
    if is_missing(cell):
        return None
    if isinstance(cell, bool | np.bool_ | int | float | np.number):
        return int(cell) if math.isfinite(cell) and cell == int(cell) else float(cell)
    return cell


def _is_integer(cell: Any) -> bool:
    if isinstance(cell, str):
        return re.fullmatch(r"\s*[+-]?[0-9]+\s*", cell) is not None
    # pandas turns an integer column with a missing cell into floats.
    return _is_number(cell) and cell == int(cell)


def _is_number(cell: Any) -> bool:
    # float() reads True as 1 and "1_000" as 1000.
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
