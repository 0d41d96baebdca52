"""What a worker does with some rows: reads their cells, preprocesses, tokenizes, and hands back arrays alone."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerFast

from bertjax.data.bad_rows import BadRow
from bertjax.data.cells import shown
from bertjax.data.examples import Examples
from bertjax.data.labels import in_order
from bertjax.data.leaks import leak_keys
from bertjax.data.masking_settings import Masking
from bertjax.data.rows import FirstOfKind, Rows, kinds_of, preprocess_rows, read_rows, spelled
from bertjax.data.split import preprocessing_of
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding, format_of
from bertjax.data.tokenize import load_tokenizer

_KEY_BYTES = 8  # of a hash: among 5 million rows, two different ones share a key with a probability of 7e-7


class Recipe(NamedTuple):
    """How rows become examples.

    Attributes:
      task: the name of a task format.
      table: its columns, with the preprocessing.
      columns: that are read.
      tokenizer: the folder of the model, where every worker can read it.
      max_length: longest example, in tokens.
      masking: how words are hidden.
      seed: of that.
    """

    task: str
    table: Table
    columns: tuple[str, ...]
    tokenizer: Path
    max_length: int
    masking: Masking
    seed: int


class LabelNames(NamedTuple):
    """The label names of some rows.

    Attributes:
      names: in whatever order.
      codes: [total] int32 places in `names`, those of a row after those of the row before.
      counts: [n] int32 names of each row.
    """

    names: tuple[str, ...]
    codes: np.ndarray
    counts: np.ndarray


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
    labels = _label_names([tuple(dict.fromkeys(task_format.names(label))) for label in rows.labels])
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


def _label_names(of_rows: Sequence[tuple[str, ...]]) -> LabelNames:
    names = in_order({name for of_row in of_rows for name in of_row})
    index = {name: i for i, name in enumerate(names)}
    codes = np.array([index[name] for of_row in of_rows for name in of_row], np.int32)
    return LabelNames(names, codes, np.array([len(of_row) for of_row in of_rows], np.int32))


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    # There is a worker for each core already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return load_tokenizer(folder)
