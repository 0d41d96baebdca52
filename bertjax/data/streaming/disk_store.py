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
from typing import Any, BinaryIO

import numpy as np
from scipy.sparse import csr_array

from bertjax.batch import UNLABELLED, LabelKind
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.masking import DynamicMasking
from bertjax.data.rows.label_vocabulary import consecutive
from bertjax.errors import DataError

_READ_OVER = 64  # examples that are read for nothing rather than reading twice


class DiskStore:
    """Arrays with an entry a token, end to end over all examples: one file each."""

    def __init__(self, folder: Path):
        """Takes nothing yet.

        Args:
          folder: on the disk that the files take room of; it is made where it is not there.
        """
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._types: dict[str, np.dtype] = {}

    def append(self, **arrays: np.ndarray) -> None:
        """Writes the tokens of some examples behind those of the examples before; always the same arrays.

        Raises:
          DataError: the disk is full.
        """
        with self._complaints():
            for name, values in arrays.items():
                if name not in self._files:
                    self._open(name, values.dtype)
                self._files[name].write(values.astype(self._types[name]).tobytes())
                self._files[name].flush()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str, first: int, last: int) -> np.ndarray:
        """The entries of an array for the tokens `first:last`, counted over all examples."""
        dtype = self._types[name]
        content = os.pread(self._files[name].fileno(), (last - first) * dtype.itemsize, first * dtype.itemsize)
        return np.frombuffer(content, dtype)

    def _open(self, name: str, dtype: np.dtype) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file: BinaryIO = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (open as long as this is)
        weakref.finalize(self, file.close)
        self._files[name], self._types[name] = file, dtype

    @contextmanager
    def _complaints(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"the tokenized rows cannot be kept in {self._folder}: {error.strerror}; make room there, or name a "
                f"folder on another disk with BERTJAX_CACHE"
            ) from None


class StoredExamples:
    """An `ExampleStore` over some examples of a spill."""

    def __init__(
        self,
        spill: DiskStore,
        offsets: np.ndarray,
        places: np.ndarray,
        labels: np.ndarray | csr_array | None,
        truncated: int,
        weights: np.ndarray | None = None,
        text_lengths: np.ndarray | None = None,
        masking: DynamicMasking | None = None,
        token_labels: np.ndarray | None = None,
        row_of: np.ndarray | None = None,
    ):
        """Puts the parts together.

        Args:
          spill: `token_ids` and `token_type_ids` of all examples; `labels` where tokens have some; `words` where they
            are hidden.
          offsets: [P + 1] where the tokens of each example of the spill begin.
          places: [N] where in the spill each example is, in any order.
          labels: [N] or [N, L] of the examples, [N, L] sparse where they are 0 and 1; None where tokens have them.
          truncated: examples that were cut to the longest length.
          weights: [N] in the loss; None stands for 1 each.
          text_lengths: [N, C] tokens of each text, where an example is a group of texts.
          masking: hides tokens; its words are in the spill.
          token_labels: the label of each code that the spill holds for a token.
          row_of: [N] the row of each example, where a row may be several.
        """
        self._spill, self._offsets, self._places = spill, offsets, places
        self.labels, self.truncated, self.weights = labels, truncated, weights
        self._text_lengths, self._masking, self._token_labels = text_lengths, masking, token_labels
        self._row_of = row_of

    def weighted(self, weights: np.ndarray) -> "StoredExamples":
        """The same examples with other weights in the loss: [N]."""
        return self.at(np.arange(self.num_examples), weights)

    def at(self, indices: np.ndarray, weights: np.ndarray | None = None) -> "StoredExamples":
        """The examples at `indices`, in that order, some of them perhaps more than once; their tokens stay where they
        are.
        """
        return StoredExamples(
            self._spill,
            self._offsets,
            self._places[indices],
            None if self.labels is None else self.labels[indices],
            self.truncated,
            weights,
            None if self._text_lengths is None else self._text_lengths[indices],
            self._masking,
            self._token_labels,
            None if self._row_of is None else self._row_of[indices],
        )

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self._places)

    @property
    def kind(self) -> LabelKind:
        """What a batch of them must hold."""
        return self.take(np.arange(0)).kind

    @cached_property
    def lengths(self) -> np.ndarray:
        """[N] tokens in each example, special ones included."""
        return (self._offsets[self._places + 1] - self._offsets[self._places]).astype(np.int32)

    def take(self, indices: np.ndarray) -> Examples:
        """The examples at `indices`, in memory, without what judges them."""
        lengths = self.lengths[indices]
        tokens = self._read(self._places[indices], lengths)
        examples = Examples(
            tokens["token_ids"],
            tokens["token_type_ids"],
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            self._labels_of(tokens, indices),
            truncated=0,
            weights=None if self.weights is None else self.weights[indices],
            text_lengths=None if self._text_lengths is None else self._text_lengths[indices],
            row_of=None if self._row_of is None else self._row_of[indices],
            ids=indices,
        )
        if self.labels is None:
            examples = examples._replace(labels_of="tokens")
        if self._masking is not None:
            examples = examples._replace(masking=self._masking._replace(words=tokens["words"]))
        return examples

    def _labels_of(self, tokens: dict[str, np.ndarray], indices: np.ndarray) -> np.ndarray:
        if isinstance(self.labels, csr_array):
            return self.labels[indices].toarray().astype(np.float32)
        if self.labels is not None:
            return self.labels[indices]
        if self._token_labels is None:
            return np.full(len(tokens["token_ids"]), UNLABELLED, np.int32)
        codes = tokens["labels"]
        return np.where(codes == UNLABELLED, UNLABELLED, self._token_labels[np.maximum(codes, 0)]).astype(np.int32)

    def _read(self, places: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """All arrays for the tokens of the examples at some places, end to end; near places are read together."""
        names = [name for name in ("token_ids", "token_type_ids", "labels", "words") if name in self._spill]
        total = int(lengths.sum())
        arrays: dict[str, Any] = {name: np.empty(total, np.int32) for name in names}
        begins = np.cumsum(lengths) - lengths
        order = np.argsort(places, kind="stable")
        gaps = np.flatnonzero(np.diff(places[order]) > _READ_OVER) + 1
        for together in np.split(order, gaps) if len(order) else []:
            first, last = self._offsets[places[together[0]]], self._offsets[places[together[-1]] + 1]
            source = consecutive(self._offsets[places[together]] - first, lengths[together])
            target = consecutive(begins[together], lengths[together])
            for name, array in arrays.items():
                array[target] = self._spill.read(name, int(first), int(last))[source]
        return arrays
