"""Examples whose tokens are on the disk: appended once, read window by window.

The files have no name, so they vanish with the process, however it ends.
"""

import os
import tempfile
import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy.sparse import csr_array

from bertjax.batch import UNLABELLED, LabelKind
from bertjax.data.encode.examples import Examples, WordLabels
from bertjax.data.encode.masking import DynamicMasking
from bertjax.data.rows.label_vocabulary import consecutive
from bertjax.errors import DataError

_MAX_GAP = 64  # unused examples that are read along rather than starting another read


class DiskStore:
    """Arrays with an entry a token, end to end over all examples: one file each."""

    def __init__(self, folder: Path):
        """An empty store, whose files will be in `folder`, which is created when needed."""
        self._folder = folder
        self._files: dict[str, tuple[BinaryIO, np.dtype]] = {}

    def append(self, **arrays: np.ndarray) -> None:
        """Appends the tokens of some examples; every call has the same arrays.

        Raises:
          DataError: the disk is full.
        """
        try:
            for name, values in arrays.items():
                if name not in self._files:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    file: BinaryIO = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (closed with the store)
                    weakref.finalize(self, file.close)
                    self._files[name] = file, values.dtype
                file, dtype = self._files[name]
                file.write(values.astype(dtype).tobytes())
                file.flush()
        except OSError as error:
            raise DataError(
                f"the tokenized rows cannot be kept in {self._folder}: {error.strerror}; make room there, or name a "
                f"folder on another disk with BERTJAX_CACHE"
            ) from None

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str, first: int, last: int) -> np.ndarray:
        """The entries of an array for the tokens `first:last`, counted over all examples."""
        file, dtype = self._files[name]
        content = os.pread(file.fileno(), (last - first) * dtype.itemsize, first * dtype.itemsize)
        return np.frombuffer(content, dtype)


@dataclass(frozen=True, eq=False)
class StoredExamples:
    """An `ExampleStore` over some examples of a disk store.

    Attributes:
      store: `token_ids` and `token_type_ids` of all examples; `labels` where tokens have labels, `words` where they are
        masked.
      offsets: [P + 1] first token of each example of the store.
      places: [N] index in the store of each example, in any order.
      labels: [N] or [N, L] labels of the examples, [N, L] sparse where they are 0 and 1; None where tokens have labels.
      truncated: examples that were cut to the longest length.
      weights: [N] weights in the loss; None means 1 each.
      text_lengths: [N, C] tokens of each text, where an example is a group of texts.
      masking: masks tokens; its words are in the store.
      token_labels: the label of each code that the store holds for a token.
      row_of: [N] the row of each example, where a row may be several.
      words, special_tokens: as in `Examples`.
    """

    store: DiskStore
    offsets: np.ndarray
    places: np.ndarray
    labels: np.ndarray | csr_array | None
    truncated: int
    weights: np.ndarray | None = None
    text_lengths: np.ndarray | None = None
    masking: DynamicMasking | None = None
    token_labels: np.ndarray | None = None
    row_of: np.ndarray | None = None
    words: WordLabels | None = None
    special_tokens: int = 0

    def weighted(self, weights: np.ndarray) -> "StoredExamples":
        """The same examples with other weights in the loss: [N]."""
        return replace(self, weights=weights)

    def labelled(self, labels: np.ndarray) -> "StoredExamples":
        """The same examples with other labels of the same shape."""
        return replace(self, labels=labels)

    def at(self, indices: np.ndarray) -> "StoredExamples":
        """The examples at `indices` in any order, perhaps repeated; their tokens stay where they are."""
        per_example = ("places", "labels", "weights", "text_lengths", "row_of")
        arrays = {name: getattr(self, name) for name in per_example}
        taken = {name: array[indices] for name, array in arrays.items() if array is not None}
        return replace(self, words=None, **taken)

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.places)

    @property
    def kind(self) -> LabelKind:
        """The kind of labels that a batch of the examples holds."""
        return self.take(np.arange(0)).kind

    @cached_property
    def lengths(self) -> np.ndarray:
        """[N] tokens in each example, special ones included."""
        return (self.offsets[self.places + 1] - self.offsets[self.places]).astype(np.int32)

    @property
    def num_empty(self) -> int:
        """Texts of which the tokenizer makes no word piece."""
        lengths = self.lengths if self.text_lengths is None else self.text_lengths
        return int((lengths <= self.special_tokens).sum())

    def take(self, indices: np.ndarray) -> Examples:
        """The examples at ascending `indices`, in memory, without `reference`."""
        lengths = self.lengths[indices]
        tokens = self._read(self.places[indices], lengths)
        examples = Examples(
            tokens["token_ids"],
            tokens["token_type_ids"],
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            self._labels_of(tokens, indices),
            truncated=0,
            weights=None if self.weights is None else self.weights[indices],
            text_lengths=None if self.text_lengths is None else self.text_lengths[indices],
            row_of=None if self.row_of is None else self.row_of[indices],
            ids=indices,
            words=self.words if len(indices) == self.num_examples else None,
            special_tokens=self.special_tokens,
        )
        if self.labels is None:
            examples = examples._replace(labels_of="tokens")
        if self.masking is not None:
            examples = examples._replace(masking=self.masking._replace(words=tokens["words"]))
        return examples

    def _labels_of(self, tokens: dict[str, np.ndarray], indices: np.ndarray) -> np.ndarray:
        if isinstance(self.labels, csr_array):
            return self.labels[indices].toarray().astype(np.float32)
        if self.labels is not None:
            return self.labels[indices]
        if self.token_labels is None:
            return np.full(len(tokens["token_ids"]), UNLABELLED, np.int32)
        codes = tokens["labels"]
        return np.where(codes == UNLABELLED, UNLABELLED, self.token_labels[np.maximum(codes, 0)]).astype(np.int32)

    def _read(self, places: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """All arrays for the tokens of the examples at these places, end to end; near places share a read."""
        names = [name for name in ("token_ids", "token_type_ids", "labels", "words") if name in self.store]
        total = int(lengths.sum())
        arrays: dict[str, Any] = {name: np.empty(total, np.int32) for name in names}
        begins = np.cumsum(lengths) - lengths
        order = np.argsort(places, kind="stable")
        gaps = np.flatnonzero(np.diff(places[order]) > _MAX_GAP) + 1
        for together in np.split(order, gaps) if len(order) else []:
            first, last = self.offsets[places[together[0]]], self.offsets[places[together[-1]] + 1]
            source = consecutive(self.offsets[places[together]] - first, lengths[together])
            target = consecutive(begins[together], lengths[together])
            for name, array in arrays.items():
                array[target] = self.store.read(name, int(first), int(last))[source]
        return arrays
