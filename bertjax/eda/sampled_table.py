"""Reads a table frame by frame, and keeps a random sample where it has more rows than asked for.

Every row draws a random key, and the rows with the smallest keys are kept, so a sample depends on the seed and on the
rows alone, not on how the file was cut into frames. A table of any size needs the memory of its sample.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import BadRow, OnBadRow
from bertjax.data.read.catalog_tables import in_catalog, read_catalog
from bertjax.data.read.content import Reading
from bertjax.data.read.notes import OnNote, logged_notes
from bertjax.data.read.sources import check_same_columns, files_of, listing, read_frames, stop
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.errors import DataError

_FRAME_ROWS = 10_000
MOST_CHARACTERS = 100_000_000  # of text in a sample: a few hundred MiB
ALL_ROWS = sys.maxsize


class SampledTable(NamedTuple):
    """The rows of a table, or some of them.

    Attributes:
      frame: all columns of the rows that are kept, in the order of the table.
      numbers: [n] place of each row in the table, from 0.
      num_rows: readable rows of the table.
      skipped: the other rows.
    """

    frame: pd.DataFrame
    numbers: np.ndarray
    num_rows: int
    skipped: tuple[BadRow, ...] = ()

    @property
    def is_sample(self) -> bool:
        """Whether rows are missing."""
        return len(self.frame) < self.num_rows


def read_sampled(table: Table, source: str, task_format: TaskFormat, most_rows: int, seed: int) -> SampledTable:
    """Reads a source.

    Args:
      table: settings; of a row that cannot be read, `on_bad_row` says what it does.
      source: its name, as in `read_table`.
      task_format: gathers rows that are parts of one row for it.
      most_rows: rows to keep at most, `ALL_ROWS` for all; fewer are kept where they are very long.
      seed: which ones.

    Raises:
      DataError: it is missing, empty, broken or of an unknown format, or its files have different columns.
    """
    skipped: list[BadRow] = []
    on_broken = stop if table.on_bad_row == "stop" else skipped.append
    reading = Reading.of(table, class_names=task_format.indexed)
    with logged_notes() as on_note:
        frames = _frames(source, reading, on_broken, on_note)
        frame, numbers, num_rows = _sampled(task_format.gathered(frames, source), most_rows, seed)
    if not num_rows:
        raise DataError(f"{source} has no rows" + (f" but {listing(skipped)}" if skipped else ""))
    return SampledTable(frame, numbers, num_rows, tuple(skipped))


def _frames(source: str, reading: Reading, on_bad_row: OnBadRow, on_note: OnNote) -> Iterator[pd.DataFrame]:
    if in_catalog(source):
        yield read_catalog(source)
        return
    first: tuple[str, list[str]] | None = None
    for file in files_of(source):
        columns: dict[str, None] = {}
        for frame in read_frames(file, reading, on_bad_row, on_note, _FRAME_ROWS):
            columns |= dict.fromkeys(frame.columns)
            yield frame
        if first is not None and columns:
            check_same_columns(*first, file.name, columns)
        first = first or ((file.name, list(columns)) if columns else None)


class _Part(NamedTuple):
    frame: pd.DataFrame
    keys: np.ndarray  # [n] random; the smallest are kept
    numbers: np.ndarray  # [n]
    characters: int


def _sampled(frames: Iterable[pd.DataFrame], most_rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, int]:
    """The rows that are kept, their numbers, and the number of all."""
    rng = np.random.default_rng(seed)
    parts: list[_Part] = []
    num_rows, bound = 0, 1.0
    limits_length = most_rows != ALL_ROWS
    for frame in frames:
        keys, numbers = rng.random(len(frame)), np.arange(num_rows, num_rows + len(frame))
        num_rows += len(frame)
        kept = np.flatnonzero(keys < bound)
        part = frame if len(kept) == len(frame) else frame.iloc[kept]
        parts.append(_Part(part, keys[kept], numbers[kept], int(_characters(part).sum()) if limits_length else 0))
        too_many = sum(len(part.keys) for part in parts) >= 2 * most_rows
        if too_many or sum(part.characters for part in parts) >= 2 * MOST_CHARACTERS:
            parts = [_smallest_keys(parts, most_rows)]
            bound = float(parts[0].keys.max(initial=0))
    if not parts:
        return pd.DataFrame(), np.arange(0), 0
    whole = _smallest_keys(parts, most_rows)
    order = np.argsort(whole.numbers)
    return whole.frame.iloc[order].reset_index(drop=True), whole.numbers[order], num_rows


def _smallest_keys(parts: list[_Part], most_rows: int) -> _Part:
    """The rows with the smallest keys, one at least, as far as number and length allow."""
    present = [part for part in parts if len(part.frame.columns)] or parts[:1]
    frame = pd.concat([part.frame for part in present], ignore_index=True)
    keys = np.concatenate([part.keys for part in present])
    numbers = np.concatenate([part.numbers for part in present])
    if len(keys) <= most_rows and sum(part.characters for part in present) <= MOST_CHARACTERS:
        return _Part(frame, keys, numbers, sum(part.characters for part in present))
    lengths = _characters(frame)
    kept = np.argsort(keys)[:most_rows]
    kept = kept[: max(1, int(np.searchsorted(np.cumsum(lengths[kept]), MOST_CHARACTERS, side="right")))]
    return _Part(frame.iloc[kept].reset_index(drop=True), keys[kept], numbers[kept], int(lengths[kept].sum()))


def _characters(frame: pd.DataFrame) -> np.ndarray:
    """[n] characters of all texts of a row."""
    lengths = np.zeros(len(frame), np.int64)
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.StringDtype):
            lengths += frame[column].str.len().fillna(0).to_numpy(np.int64)
    return lengths
