"""Examples whose tokens wait on the disk: appended once, read window by window.

The files have no name, so whatever ends the process deletes them too.
"""

import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bertjax.batch import LabelKind
from bertjax.data.examples import Examples
from bertjax.errors import DataError

_READ_OVER = 64  # rows that are read for nothing rather than reading twice
_TYPE = np.dtype(np.uint8)  # of a token type


class Spill:
    """The tokens of rows, end to end: their ids in one file, their types in another."""

    def __init__(self, folder: Path, vocabulary_size: int):
        """Opens both files.

        Args:
          folder: on the disk that they take room of; it is made where it is not there.
          vocabulary_size: sets how many bytes a token takes.
        """
        self._folder = folder
        self._id = np.min_scalar_type(vocabulary_size - 1)
        with self._complaints():
            folder.mkdir(parents=True, exist_ok=True)
            self._ids: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this is)
            self._types: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this is)
        weakref.finalize(self, _close, self._ids, self._types)

    def append(self, token_ids: np.ndarray, token_type_ids: np.ndarray) -> None:
        """Writes the tokens of some rows behind those of the rows before.

        Raises:
          DataError: the disk is full.
        """
        with self._complaints():
            for file, values in ((self._ids, token_ids.astype(self._id)), (self._types, token_type_ids.astype(_TYPE))):
                file.write(values.tobytes())
                file.flush()

    def read(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids and the types of the tokens `first:last`, counted over all rows."""
        return _read(self._ids, self._id, first, last), _read(self._types, _TYPE, first, last)

    @contextmanager
    def _complaints(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"the tokenized rows cannot be kept in {self._folder}: {error.strerror}; make room there, or name a "
                f"folder on another disk with BERTJAX_CACHE"
            ) from None


def _close(*files: BinaryIO) -> None:
    for file in files:
        file.close()


def _read(file: BinaryIO, dtype: np.dtype, first: int, last: int) -> np.ndarray:
    return np.frombuffer(os.pread(file.fileno(), (last - first) * dtype.itemsize, first * dtype.itemsize), dtype)


class SpilledExamples:
    """An `ExampleStore` over some rows of a spill, with one label each."""

    def __init__(
        self,
        spill: Spill,
        offsets: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        truncated: int,
        weights: np.ndarray | None = None,
    ):
        """Puts the parts together.

        Args:
          spill: the tokens of all rows.
          offsets: [R + 1] where the tokens of each row begin.
          rows: [N] the row of each example, ascending.
          labels: [N] or [N, L] of the examples.
          truncated: examples that were cut to the longest length.
          weights: [N] in the loss; None stands for 1 each.
        """
        self._spill, self._offsets, self._rows = spill, offsets, rows
        self.labels, self.truncated, self.weights = labels, truncated, weights

    def weighted(self, weights: np.ndarray) -> "SpilledExamples":
        """The same examples with other weights in the loss: [N]."""
        return SpilledExamples(self._spill, self._offsets, self._rows, self.labels, self.truncated, weights)

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self._rows)

    @property
    def kind(self) -> LabelKind:
        """What a batch of them must hold."""
        return LabelKind("examples", self.labels.shape[1:], self.labels.dtype.type)

    @cached_property
    def lengths(self) -> np.ndarray:
        """[N] tokens in each example, special ones included."""
        return (self._offsets[self._rows + 1] - self._offsets[self._rows]).astype(np.int32)

    def take(self, indices: np.ndarray) -> Examples:
        """The examples at `indices`, which ascend, in memory."""
        rows = self._rows[indices]
        lengths = self._offsets[rows + 1] - self._offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        token_ids, token_type_ids = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int32)
        gaps = np.flatnonzero(np.diff(rows) > _READ_OVER) + 1
        for start, stop in zip([0, *gaps], [*gaps, len(rows)], strict=True):
            first, last = self._offsets[rows[start]], self._offsets[rows[stop - 1] + 1]
            ids, types = self._spill.read(int(first), int(last))
            target = np.arange(offsets[start], offsets[stop])
            begins = self._offsets[rows[start:stop]] - first - offsets[start:stop]
            source = target + np.repeat(begins, lengths[start:stop])
            token_ids[target], token_type_ids[target] = ids[source], types[source]
        weights = None if self.weights is None else self.weights[indices]
        labels = self.labels[indices]
        return Examples(token_ids, token_type_ids, offsets, labels, truncated=0, weights=weights, ids=indices)
