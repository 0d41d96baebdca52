"""Reads labelled tables: files to a frame, checked against the contract, parsed for the task, preprocessed.

Every table that trains or evaluates a model is read here, but for the training rows of a stream.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from bertjax.data.read.bad_rows import PLACE
from bertjax.data.read.content import Reading
from bertjax.data.read.sources import ReadTable, listing, read_table
from bertjax.data.rows.cells import check_one_type
from bertjax.data.rows.labelled_rows import ParsedRows, PreprocessedRows, Rows, parse_rows, preprocess
from bertjax.data.rows.preprocessing import DROP_DUPLICATES, DROP_EMPTY, JOIN, Preprocessing
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import TaskFormat
from bertjax.data.task_formats.label_probabilities import class_columns, separated, with_probabilities
from bertjax.data.validate.contract import Finding, check, describe_broken
from bertjax.data.validate.contract_file import read_contract
from bertjax.data.validate.data_report import TableReport
from bertjax.errors import DataError

logger = logging.getLogger(__name__)

_LISTED_COLUMNS = 50


class LabelledTable(NamedTuple):
    """A table that was read for a task."""

    preprocessed: PreprocessedRows  # usable rows after the preprocessing
    frame: pd.DataFrame  # all columns, as read
    usable: list[int]  # positions in the frame of the usable rows, before the preprocessing drops those without text
    report: TableReport  # counts, skipped rows and contract findings

    @property
    def rows(self) -> Rows:
        """Usable rows after the preprocessing."""
        return self.preprocessed.rows


def read_labelled_tables(
    table: Table, task_format: TaskFormat, sources: Mapping[Side, str], preprocessing: Preprocessing | None = None
) -> tuple[Table, dict[Side, LabelledTable]]:
    """Reads the tables of some sides.

    Args:
      table: settings.
      task_format: parses the rows.
      sources: the name of each table.
      preprocessing: steps; default: those of the settings.

    Returns:
      The settings, with what they left open and the training table decides (columns, how labels are read); the tables.

    Raises:
      DataError: a source, column, text or label that cannot be used, or a broken contract.
      ConfigError: a contract that cannot be read, an unknown preprocessing step, or a setting that is missing.
    """
    reading = Reading.of(table, class_names=task_format.indexed)
    reads = {side: read_table(source, reading, table.on_bad_row) for side, source in sources.items()}
    return parse_labelled_tables(table, task_format, sources, reads, preprocessing)


def parse_labelled_tables(
    table: Table,
    task_format: TaskFormat,
    sources: Mapping[Side, str],
    reads: Mapping[Side, ReadTable],
    preprocessing: Preprocessing | None = None,
) -> tuple[Table, dict[Side, LabelledTable]]:
    """`read_labelled_tables`, of tables that are in memory; `sources` name them in messages."""
    reads = {side: _gathered(read, task_format, sources[side]) for side, read in reads.items()}
    if "train" in reads:
        table = task_format.with_usual_columns(table, reads["train"].frame.columns)
    for side, source in sources.items():  # what the training rows decide holds for the others
        table = task_format.decided(table, [reads[side].frame], source)
    findings = _check_contract(table, sources, reads)
    # Rows of other tables are evaluated, by their labels.
    tables = {side: table if side == "train" else replace(table, label_probabilities=None) for side in sources}
    parsed = {side: parse_table(reads[side].frame, tables[side], task_format, sources[side]) for side in sources}
    steps = preprocessing or preprocessing_of(table)
    return table, {
        side: _preprocessed(reads[side], parsed[side], steps, source, findings[side])
        for side, source in sources.items()
    }


def _gathered(read: ReadTable, task_format: TaskFormat, source: str) -> ReadTable:
    frames = list(task_format.gathered([read.frame], source))
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return read._replace(frame=frame)


def preprocessing_of(table: Table) -> Preprocessing:
    """The preprocessing of a table's rows: columns are joined first, and rows without text and repeated rows are
    dropped last, unless the steps say otherwise.

    Raises:
      ConfigError: a step that is unknown or out of order.
    """
    first = () if JOIN in table.steps else (JOIN,)
    last = tuple(step for step in (DROP_EMPTY, DROP_DUPLICATES) if step not in table.steps)
    return Preprocessing((*first, *table.steps, *last), table.stop_words, table.text, table.text_pair)


def parse_table(frame: pd.DataFrame, table: Table, task_format: TaskFormat, source: str) -> ParsedRows:
    """The usable rows of a table; unusable rows end the run or are logged, as `table.on_bad_row` says.

    Raises:
      DataError: a missing column, labels of several types, or rows that cannot be used. Rows are counted from 1, after
        the header, unless the frame says where they stand.
    """
    classes = None
    if table.label_probabilities is not None:
        classes = class_columns(frame.columns, table.label_probabilities, source)
        task_format = with_probabilities(task_format, classes)
    elif table.label in frame.columns:
        check_one_type(task_format.label_types(frame, table), table.label, source)
    columns = (*task_format.columns(table), *(name for name in task_format.optional if name in frame.columns))
    check_columns(frame.columns, columns, source)
    parsed = parse_rows(frame, columns, lambda cells: task_format.read_row(cells, table), source)
    skipped = parsed.skipped
    if skipped and table.on_bad_row == "stop":
        others = f" (and {count_of(len(skipped) - 1, 'other row')} cannot be used)" if len(skipped) > 1 else ""
        raise DataError(f"{skipped[0]}{others}; mend it, or leave such rows out (--on-bad-row skip)")
    if not parsed.rows.texts:
        raise DataError(f"{source} has no row that can be used; the first is {skipped[0]}")
    labels_point_at_words = task_format.positions and task_format.indexed
    if labels_point_at_words and not any(task_format.names(label) for label in parsed.rows.labels):
        raise DataError(f"{source}: no word has a label, each is marked -100")
    if skipped:
        logger.warning("%s: left out %s", source, listing(skipped))
    return parsed if classes is None else parsed._replace(rows=separated(parsed.rows, classes))


def check_columns(columns: Iterable[str], needed: Iterable[str], source: str) -> None:
    """Raises DataError where a table lacks a needed column."""
    columns = [str(column) for column in columns if column != PLACE]
    for name in needed:
        if name not in columns:
            raise DataError(f"{source} has no column {name!r}; its columns are {_column_listing(columns, name)}")


def _column_listing(columns: Sequence[str], needed: str) -> str:
    """The columns of a table, and why the needed one may not be among them."""
    shown = ", ".join(columns[:_LISTED_COLUMNS])
    shown += f" and {len(columns) - _LISTED_COLUMNS} more" if len(columns) > _LISTED_COLUMNS else ""
    if len(columns) == 1 and needed in columns[0]:
        return f"{shown}; if that is a line of several cells, --delimiter names what separates them"
    spaced = next((column for column in columns if column.strip() == needed), None)
    return shown if spaced is None else f"{shown}; {spaced!r} has spaces around it"


def contract_error(table: Table, source: str, broken: str) -> DataError:
    """The error for a table that breaks its contract."""
    return DataError(f"{source} breaks the contract {table.contract}: {broken}")


def no_text_error(source: str, preprocessing: Preprocessing, num_rows: int) -> DataError:
    """The error for a table in which the preprocessing leaves no text."""
    steps, rows = ", ".join(preprocessing.changing), count_of(num_rows, "row")
    return DataError(f"{source}: the preprocessing {steps} leaves no text in any of {rows}; leave out a step")


def count_of(number: int, noun: str) -> str:
    """A count with its noun, as in "1 row" and "2 rows"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_contract(
    table: Table, sources: Mapping[Side, str], reads: Mapping[Side, ReadTable]
) -> Mapping[Side, tuple[Finding, ...]]:
    """The contract's findings of each table; the broken expectations of all tables are one error."""
    if not table.contract:
        return dict.fromkeys(sources, ())
    contract = read_contract(table.contract)
    findings: dict[Side, tuple[Finding, ...]] = {}
    errors = []
    for side, source in sources.items():
        # The least number of rows is about training; the other tables may be small.
        expected = contract if side == "train" else replace(contract, min_rows=1)
        findings[side] = check(expected, reads[side].frame, table)
        if broken := describe_broken(findings[side]):
            errors.append(str(contract_error(table, source, broken)))
    if errors:
        raise DataError("; ".join(errors))
    return findings


def _preprocessed(
    read: ReadTable, parsed: ParsedRows, preprocessing: Preprocessing, source: str, findings: tuple[Finding, ...]
) -> LabelledTable:
    preprocessed, usable = preprocess(parsed.rows, preprocessing), parsed.rows.positions
    emptied = len(usable) - len(preprocessed.rows.texts)
    if emptied == len(usable):
        raise no_text_error(source, preprocessing, len(usable))
    report = TableReport(source, len(usable), read.skipped + parsed.skipped, findings, emptied)
    return LabelledTable(preprocessed, read.frame, usable, report)
