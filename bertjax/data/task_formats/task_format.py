"""`TaskFormat`: what a task must say of its tables, from the cells of a row to labelled examples."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerFast

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.masking_settings import Masking
from bertjax.data.rows.labelled_rows import Row, Rows
from bertjax.data.table import Table


class Encoding(NamedTuple):
    """What rows are encoded with.

    Attributes:
      vocabulary: the label names, in index order; empty where labels have none.
      max_length: longest example, in tokens.
      table: the settings of the table.
      masking: how words are hidden.
      seed: of that.
    """

    tokenizer: PreTrainedTokenizerFast
    vocabulary: tuple[str, ...]
    max_length: int
    table: Table
    masking: Masking = Masking()
    seed: int = 0


class TaskFormat(NamedTuple):
    """How the rows of a task become labelled examples.

    Attributes:
      task: the task's name, for error messages.
      columns: the columns that are read.
      read_row: (cells by column, table) -> the row; raises BadCell.
      encode: (rows, source, encoding) -> examples; raises DataError.
      names: a label -> the label names in it; all of them must occur in training.
      vocabulary: (label names of the training rows, table) -> all names in index order; empty where there are none.
      indexed: encoded labels are places in the vocabulary, or have one column for each name of it.
      optional: columns that are read where they are there.
      classes: each row has one class: splits are stratified, and classes can be weighed and oversampled.
      positions: labels point at words or characters of the text, so nothing may change it.
      judged_by_texts: predictions are, so texts must be at hand.
      usual: the names that columns go by where the default of a setting is not there.
    """

    task: str
    columns: Callable[[Table], tuple[str, ...]]
    read_row: Callable[[Mapping[str, Any], Table], Row]
    encode: Callable[[Rows, str, Encoding], Examples]
    names: Callable[[Any], Iterable[str]] = lambda label: ()
    vocabulary: Callable[[Iterable[str], Table], tuple[str, ...]] = lambda names, table: ()
    indexed: bool = False
    optional: tuple[str, ...] = ()
    classes: bool = False
    positions: bool = False
    judged_by_texts: bool = False
    usual: Mapping[Literal["text", "text_pair", "label", "candidates"], tuple[tuple[str, ...], ...]] = {}

    def with_usual_columns(self, table: Table, columns: Iterable[str]) -> Table:
        """The table with its columns named, where a setting was left at its default and the columns say otherwise.

        Args:
          table: its settings.
          columns: of the training rows.
        """
        there = set(columns)
        changes: dict[str, Any] = {}
        for setting, candidates in self.usual.items():
            given = getattr(table, setting)
            names = (given,) if setting == "label" else given
            if given != getattr(Table, setting) or (names and set(names) <= there):
                continue
            found = next((names for names in candidates if set(names) <= there), None)
            if found is not None:
                changes[setting] = found[0] if setting == "label" else found
        return replace(table, **changes)
