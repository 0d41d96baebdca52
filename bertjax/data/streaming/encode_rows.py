"""What a worker does with some rows: reads their cells, preprocesses, tokenizes, and hands back arrays alone."""

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerFast

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.masking_settings import Masking
from bertjax.data.encode.tokenize import load_tokenizer
from bertjax.data.read.bad_rows import BadRow
from bertjax.data.rows.cells import shown
from bertjax.data.rows.label_vocabulary import LabelNames, label_names
from bertjax.data.rows.labelled_rows import FirstOfKind, Rows, kinds_of, preprocess_rows, read_rows, spelled
from bertjax.data.rows.row_hashes import keys_of
from bertjax.data.split.leaks import leak_keys
from bertjax.data.split.read_splits import is_blank, preprocessing_of
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.data.validate.contract import CheckedRows, Contract, check_rows, columns_of


class Recipe(NamedTuple):
    """How rows become examples.

    Attributes:
      task_format: how a row becomes an example.
      table: its columns, with the preprocessing.
      columns: that are read.
      tokenizer: the folder of the model, where every worker can read it.
      max_length: longest example, in tokens.
      masking: how words are hidden.
      seed: of that.
      contract: what the rows promise.
    """

    task_format: TaskFormat
    table: Table
    columns: tuple[str, ...]
    tokenizer: Path
    max_length: int
    masking: Masking
    seed: int
    contract: Contract | None = None

    @property
    def frame_columns(self) -> tuple[str, ...]:
        """All columns that are looked at."""
        promised = columns_of(self.contract, self.table) if self.contract else ()
        return tuple(dict.fromkeys([*self.columns, *promised]))


class EncodedRows(NamedTuple):
    """Some rows of a table as arrays.

    Attributes:
      num_rows: that were read.
      kinds: of the cells of the label column, where labels are classes.
      bad: those whose cells cannot be used, counted from 1 among them.
      emptied: those in which the preprocessing left no text.
      first_text: of the rows that are left, as a message shows it.
      labels: their label names.
      examples: what they became, with places in those names; None where no row is left.
      text_keys: [n] uint64, equal where what `drop_duplicates` compares is.
      leak_keys: [n] uint64, equal where the texts are but for case, width and spaces.
      unordered: places among the usable rows of those without the group or time that the split goes by.
      order: [n] the times, or a key of each group; None where the split goes by neither.
      checked: what the rows tell of the contract, where there is one.
    """

    num_rows: int
    kinds: Mapping[str, FirstOfKind]
    bad: tuple[BadRow, ...]
    emptied: int
    first_text: str
    labels: LabelNames
    examples: Examples | None
    text_keys: np.ndarray
    leak_keys: np.ndarray
    unordered: tuple[int, ...]
    order: pd.Series | None
    checked: CheckedRows | None


def encode_rows(frame: pd.DataFrame, source: str, recipe: Recipe) -> EncodedRows | None:
    """Encodes rows of a table; None where the frame has none.

    Args:
      frame: with the columns of the task.
      source: named in what is said of bad rows.
      recipe: how.
    """
    if frame.empty:
        return None
    table, task_format = recipe.table, recipe.task_format
    selected = read_rows(frame, recipe.columns, lambda cells: task_format.read_row(cells, table), source)
    numbered = selected.rows._replace(order=selected.kept)
    rows, compared = preprocess_rows(numbered, preprocessing_of(table))
    order = None if table.order_column is None else frame[table.order_column]
    labels = label_names(map(task_format.names, rows.labels))
    examples = None
    if rows.texts:
        tokenizer = _tokenizer(recipe.tokenizer)
        encoding = Encoding(tokenizer, labels.names, recipe.max_length, table, recipe.masking, recipe.seed)
        # What judges predictions holds texts.
        examples = task_format.encode(rows, source, encoding)._replace(reference=None)
    return EncodedRows(
        num_rows=len(frame),
        kinds=kinds_of(frame[table.label].tolist()) if task_format.classes else {},
        bad=selected.skipped,
        emptied=len(selected.kept) - len(rows.texts),
        first_text=shown(spelled(rows.texts[0])) if rows.texts else "",
        labels=labels,
        examples=examples,
        text_keys=keys_of(compared or ()),
        leak_keys=keys_of(leak_keys(rows)),
        unordered=() if order is None else tuple(np.flatnonzero(is_blank(order.iloc[selected.kept])).tolist()),
        checked=check_rows(recipe.contract, frame, table) if recipe.contract else None,
        order=None if order is None else _order_of(order.iloc[np.array(rows.order, int)], table),
    )


def _order_of(cells: pd.Series, table: Table) -> pd.Series:
    """Times as they are; of groups, which are equal is enough."""
    return pd.Series(keys_of(cells.astype(str))) if table.group else cells


def held_out_keys(rows: Iterable[Rows]) -> np.ndarray:
    """The leak keys of all rows that judge a model."""
    return np.concatenate([keys_of(leak_keys(of_table)) for of_table in rows])


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    # There is a worker for each core already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return load_tokenizer(folder)
