"""The work of a Ray worker on a block of rows: parses cells, preprocesses, tokenizes, and returns only arrays."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerFast

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.read.bad_rows import BadRow
from bertjax.data.rows.cells import FirstCell, shown
from bertjax.data.rows.labelled_rows import as_string, parse_rows, preprocess
from bertjax.data.rows.row_hashes import hash64
from bertjax.data.split.labelled_table import preprocessing_of
from bertjax.data.split.read_splits import is_blank
from bertjax.data.split.split_rows import RowKeys
from bertjax.data.table import Masking, Table
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.data.validate.contract import CheckedPart, Contract, check_part, columns_of


class Recipe(NamedTuple):
    """How a worker turns rows into examples."""

    task_format: TaskFormat  # parses and encodes rows
    table: Table  # settings, with the columns that were found
    columns: tuple[str, ...]  # columns that the task reads
    tokenizer: Path  # the model folder, which every worker can read
    tokenizer_digest: str  # of what is in it now; a worker may have lived through an earlier job
    max_length: int  # longest example, in tokens
    masking: Masking  # how words are masked
    seed: int  # seed of the masking
    contract: Contract | None = None  # expectations to check, if any

    @property
    def frame_columns(self) -> tuple[str, ...]:
        """All columns that parsing, splitting and the contract need."""
        order = () if self.table.order_column is None else (self.table.order_column,)
        contract = columns_of(self.contract, self.table) if self.contract else ()
        return tuple(dict.fromkeys([*self.columns, *order, *contract]))


class EncodedBlock(NamedTuple):
    """Some rows of a table as arrays."""

    num_rows: int  # rows in the frame
    cell_types: Mapping[str, FirstCell]  # types in the label column, where they must be one
    skipped: tuple[BadRow, ...]  # unusable rows, counted from 1 within the block
    first_text: str  # first text that is left, as messages show it
    keys: RowKeys  # keys of the rows that are left, without their order
    examples: Examples | None  # the encoded rows, whose labels are codes in the keys' labels; None where no row is left
    blank_order: np.ndarray  # indices among the usable rows of those without the group or time that the split goes by
    order: pd.Series | None  # [n] times, or hashes of groups; None for other splits
    checked: CheckedPart | None  # the contract's check of the rows, where there is a contract


def encode_block(frame: pd.DataFrame, source: str, recipe: Recipe) -> EncodedBlock | None:
    """Encodes rows of a table; None where the frame has none.

    Args:
      frame: the columns of `Recipe.frame_columns`.
      source: named in the description of unusable rows.
      recipe: settings.
    """
    if frame.empty:
        return None
    table, task_format = recipe.table, recipe.task_format
    parsed = parse_rows(frame, recipe.columns, lambda cells: task_format.read_row(cells, table), source)
    preprocessed = preprocess(parsed.rows, preprocessing_of(table))
    rows, keys, examples = preprocessed.rows, RowKeys.of(preprocessed, task_format), None
    if rows.texts:
        tokenizer = _tokenizer(recipe.tokenizer, recipe.tokenizer_digest)
        encoding = Encoding(tokenizer, keys.labels.names, recipe.max_length, table, recipe.masking, recipe.seed)
        # The reference holds texts.
        examples = task_format.encode(rows, source, encoding)._replace(reference=None)
    order, blank_order = None, np.arange(0)
    if table.order_column is not None:
        cells = frame[table.order_column]
        blank_order = np.flatnonzero(is_blank(cells.iloc[parsed.rows.positions]))
        cells = cells.iloc[rows.positions]
        order = pd.Series(hash64(cells.astype(str).str.strip())) if table.group else cells
    return EncodedBlock(
        num_rows=len(frame),
        cell_types=task_format.label_types(frame, table),
        skipped=parsed.skipped,
        first_text=shown(as_string(rows.texts[0])) if rows.texts else "",
        keys=keys,
        examples=examples,
        blank_order=blank_order,
        order=order,
        checked=check_part(recipe.contract, frame, table) if recipe.contract else None,
    )


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, digest: str) -> PreTrainedTokenizerFast:
    # There is a worker a core, so more threads would only compete.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return load_tokenizer(folder)
