"""`TaskFormat`: how a task reads its tables, from the cells of a row to labelled, tokenized examples."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import pandas as pd
from transformers import PreTrainedTokenizerFast

from bertjax.data.encode.examples import Examples
from bertjax.data.read.bad_rows import PLACE
from bertjax.data.rows.cells import BadCell, FirstCell, cell_types, item_types, read_texts
from bertjax.data.rows.labelled_rows import Row, Rows, Text
from bertjax.data.table import Masking, Table
from bertjax.errors import ConfigError
from bertjax.stage_progress import UNSHOWN, StageProgress


class Encoding(NamedTuple):
    """The values that rows are encoded with."""

    tokenizer: PreTrainedTokenizerFast
    vocabulary: tuple[str, ...]  # the label names, in index order; empty where labels have none
    max_length: int  # longest example, in tokens
    table: Table  # the settings of the table
    masking: Masking = Masking()  # how words are hidden
    seed: int = 0  # of the masking
    progress: StageProgress = UNSHOWN


def text_columns(table: Table) -> tuple[str, ...]:
    """The columns of both texts."""
    return (*table.text, *table.text_pair)


def pair_columns(table: Table, task: str) -> tuple[str, ...]:
    """The columns of both texts, where a task needs two.

    Raises:
      ConfigError: there is none for the second.
    """
    if not table.text_pair:
        raise ConfigError(f"{task} reads two texts a row; name the columns of the second with --pair-columns")
    return text_columns(table)


def plain_texts(entry: Any) -> tuple[Text, Text | None]:
    """A text, or a pair of texts, that comes from no table.

    Raises:
      BadCell: it is neither.
    """
    parts = (entry,) if isinstance(entry, str) else entry
    if not isinstance(parts, tuple) or len(parts) not in (1, 2) or not all(isinstance(part, str) for part in parts):
        raise BadCell(f"must be a string, a pair of strings or a row of columns, got {entry!r}")
    return parts[0], parts[1] if len(parts) == 2 else None


def plain_text(entry: Any) -> tuple[Text, None]:
    """A single text that comes from no table.

    Raises:
      BadCell: it is none.
    """
    if not isinstance(entry, str):
        raise BadCell(f"must be a string, got {entry!r}")
    return entry, None


def plain_pair(entry: Any) -> tuple[Text, Text | None]:
    """A pair of texts that comes from no table.

    Raises:
      BadCell: it is none.
    """
    text, pair = plain_texts(entry)
    if pair is None:
        raise BadCell(f"must be a pair of strings or a row of columns, got {entry!r}")
    return text, pair


def _with_numbered_columns(table: Table, columns: Sequence[str]) -> Table:
    """The table of a CoNLL file, its columns named where the settings give numbers, counted from 1."""
    by_number = {str(number): name for number, name in enumerate(columns, start=1) if name != PLACE}

    def named(column: str) -> str:
        return column if column in columns else by_number.get(column, column)

    return replace(table, text=tuple(map(named, table.text)), label=named(table.label))


class TaskFormat(NamedTuple):
    """How the rows of a task become labelled examples.

    Attributes:
      task: its name, as messages spell it.
      read_label: (cells by column, table, both texts) -> the label; raises BadCell.
      encode: (rows, source, encoding) -> examples; raises DataError.
      decide: (table, cells of each row, source) -> the table, with what a whole column decides about reading it; see
        `decided`.
      text_columns: (table) -> the columns of the text, and of the second one.
      read_texts: (cells by column, table) -> the text, and the second one or None; raises BadCell.
      label_columns: (table) -> the columns of the label; none where a text is its own label.
      plain: what stands for a row without a table -> the text, and the second one or None; raises BadCell.
      sample: an example of what `plain` reads.
      placeholder: (text, label names) -> any valid label, with which a row without a label is encoded for prediction.
      names: a label -> the label names in it; all of them must occur in training.
      comparable: a label -> what is equal where two rows say the same.
      vocabulary: (label names of the training rows, table) -> all names in index order; empty where there are none.
      gathered: (frames of a table, source) -> its rows, which may be parts of one row there.
      indexed: encoded labels are places in the vocabulary, or have one column for each name of it.
      optional: columns that are read where a table has them.
      grouped: an example is several texts, which the network reads one by one.
      classes: each row has one class: splits are stratified, and classes can be weighed and oversampled.
      positions: labels point at words or characters of the text, so no preprocessing may change it.
      evaluated_by_texts: evaluation compares texts, so they must be kept in memory.
      usual: common column names, tried where a table lacks the default of a setting.
    """

    task: str
    read_label: Callable[[Mapping[str, Any], Table, tuple[Text, Any]], Any]
    encode: Callable[[Rows, str, Encoding], Examples]
    decide: Callable[[Table, Iterable[Mapping[str, Any]], str], Table] = lambda table, rows, source: table
    text_columns: Callable[[Table], tuple[str, ...]] = text_columns
    read_texts: Callable[[Mapping[str, Any], Table], tuple[Text, Text | None]] = read_texts
    label_columns: Callable[[Table], tuple[str, ...]] = lambda table: (table.label,)
    plain: Callable[[Any], tuple[Text, Text | None]] = plain_texts
    sample: Any = "a"
    placeholder: Callable[[Text, tuple[str, ...]], Any] = lambda text, names: None
    names: Callable[[Any], Iterable[str]] = lambda label: ()
    comparable: Callable[[Any], Any] = lambda label: label
    vocabulary: Callable[[Iterable[str], Table], tuple[str, ...]] = lambda names, table: ()
    gathered: Callable[[Iterable[pd.DataFrame], str], Iterator[pd.DataFrame]] = lambda frames, source: iter(frames)
    indexed: bool = False
    optional: tuple[str, ...] = ()
    grouped: bool = False
    classes: bool = False
    positions: bool = False
    evaluated_by_texts: bool = False
    usual: Mapping[Literal["text", "text_pair", "label", "candidates"], tuple[tuple[str, ...], ...]] = {}

    def columns(self, table: Table) -> tuple[str, ...]:
        """All columns that a labelled table must have.

        Raises:
          ConfigError: the task needs a setting of the table that is missing.
        """
        return (*self.text_columns(table), *self.label_columns(table))

    def decided(self, table: Table, frames: Iterable[pd.DataFrame], source: str) -> Table:
        """The settings, with what whole columns decide about reading them.

        Args:
          table: settings, with the columns that were found; what they settle stays.
          frames: the rows, in parts; they are read only where something is open.
          source: named in messages.

        Raises:
          DataError: the rows can be read in two ways; the message names the flag that decides.
          ConfigError: a setting that is missing or contradicts another.
        """
        columns = self.columns(table)
        cells = (frame.reindex(columns=list(dict.fromkeys(columns))) for frame in frames)
        rows = (row for frame in cells for row in zip(*(frame[name].tolist() for name in columns), strict=True))
        return self.decide(table, (dict(zip(columns, row, strict=True)) for row in rows), source)

    def label_types(self, frame: pd.DataFrame, table: Table) -> dict[str, FirstCell]:
        """The types of labels where "1" and 1 would become one of them, by the column's cells or the items in them."""
        if self.classes:
            return cell_types(frame[table.label].tolist())
        names_labels = self.indexed and not table.labels and not table.flag_names
        return item_types(frame[table.label].tolist()) if names_labels else {}

    def read_row(self, cells: Mapping[str, Any], table: Table) -> Row:
        """A labelled row.

        Raises:
          BadCell: its cells cannot be used.
        """
        texts = self.read_texts(cells, table)
        return Row(*texts, self.read_label(cells, table, texts))

    def with_usual_columns(self, table: Table, columns: Iterable[str]) -> Table:
        """The table with its columns named, where a setting was left at its default and the columns say otherwise.

        Args:
          table: its settings.
          columns: of the training rows.
        """
        columns = list(columns)
        present = set(columns)
        if PLACE in present:
            table = _with_numbered_columns(table, columns)
        changes: dict[str, Any] = {}
        for setting, candidates in self.usual.items():
            value = getattr(table, setting)
            names = (value,) if setting == "label" else value
            if value != getattr(Table, setting) or (names and set(names) <= present):
                continue
            usual = next((names for names in candidates if set(names) <= present), None)
            if usual is not None:
                changes[setting] = usual[0] if setting == "label" else usual
        return replace(table, **changes)
