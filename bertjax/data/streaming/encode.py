"""What a worker does with some rows: reads their cells, preprocesses, tokenizes, and hands back arrays alone."""

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerFast

from bertjax.data.bad_rows import BadRow
from bertjax.data.labels import in_order
from bertjax.data.leaks import leak_keys
from bertjax.data.rows import Rows, preprocess_rows, read_rows
from bertjax.data.split import preprocessing_of
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding, format_of
from bertjax.data.tokenize import load_tokenizer

_KEY_BYTES = 8  # of a hash: among 5 million rows, two different ones share a key with a probability of 7e-7


class Recipe(NamedTuple):
    """How rows become examples.

    Attributes:
      task: the name of a task format whose labels are one a row.
      table: its columns, with the preprocessing.
      tokenizer: the folder of the model, where every worker can read it.
      max_length: longest example, in tokens.
    """

    task: str
    table: Table
    tokenizer: Path
    max_length: int

    @property
    def columns(self) -> tuple[str, ...]:
        """That are read."""
        return format_of(self.task).columns(self.table)


class EncodedRows(NamedTuple):
    """Some rows of a table as arrays.

    Attributes:
      num_rows: that were read.
      bad: those whose cells cannot be used, counted from 1 among them.
      emptied: those in which the preprocessing left no text.
      truncated: those that were cut to the longest length.
      names: of the labels, where they have names; `labels` are their indices.
      labels: [n] or [n, L], one for each row that is left.
      lengths: [n] int32 tokens.
      token_ids, token_type_ids: [total tokens], end to end.
      text_keys: [n] uint64, equal where the texts are.
      leak_keys: [n] uint64, equal where the texts are but for case, width and spaces.
    """

    num_rows: int
    bad: tuple[BadRow, ...]
    emptied: int
    truncated: int
    names: tuple[str, ...]
    labels: np.ndarray
    lengths: np.ndarray
    token_ids: np.ndarray
    token_type_ids: np.ndarray
    text_keys: np.ndarray
    leak_keys: np.ndarray


def encode_rows(frame: pd.DataFrame, source: str, recipe: Recipe) -> EncodedRows | None:
    """Encodes rows of a table; None where the frame has none.

    Args:
      frame: with the columns of the task.
      source: named in what is said of bad rows.
      recipe: how.
    """
    if frame.empty:
        return None
    table, task_format = recipe.table, format_of(recipe.task)
    selected = read_rows(frame, recipe.columns, lambda cells: task_format.read_row(cells, table), source)
    rows, compared = preprocess_rows(selected.rows, preprocessing_of(table))
    emptied = len(selected.kept) - len(rows.texts)
    if not rows.texts:
        none = np.empty(0, np.int32)
        keys = np.empty(0, np.uint64)
        return EncodedRows(len(frame), selected.skipped, emptied, 0, (), none, none, none, none, keys, keys)
    names = in_order({name for label in rows.labels for name in task_format.names(label)})
    encoding = Encoding(_tokenizer(recipe.tokenizer), names, recipe.max_length, table)
    examples = task_format.encode(rows, source, encoding)
    return EncodedRows(
        num_rows=len(frame),
        bad=selected.skipped,
        emptied=emptied,
        truncated=examples.truncated,
        names=names,
        labels=examples.labels,
        lengths=examples.lengths.astype(np.int32),
        token_ids=examples.token_ids,
        token_type_ids=examples.token_type_ids.astype(np.uint8),
        text_keys=row_keys(compared or ()),
        leak_keys=row_keys(leak_keys(rows)),
    )


def row_keys(texts: Iterable[tuple[Any, Any]]) -> np.ndarray:
    """A hash of each text, or pair of texts: [n] uint64, the same in every process."""
    digests = (hashlib.blake2b(repr(text).encode(), digest_size=_KEY_BYTES).digest() for text in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


def held_out_keys(rows: Iterable[Rows]) -> np.ndarray:
    """The leak keys of all rows that judge a model."""
    return np.concatenate([row_keys(leak_keys(of_table)) for of_table in rows])


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    # There is a worker for each core already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return load_tokenizer(folder)
