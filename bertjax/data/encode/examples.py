"""`Examples`: tokenized and labelled examples of any task, stored without padding, end to end."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from bertjax.batch import LabelKind, LabelsOf
from bertjax.data.encode.masking import DynamicMasking
from bertjax.data.table import TagScheme


class LostWords(NamedTuple):
    """Labelled words that the tokenizer drops, so that no token has their label.

    Attributes:
      rows: [n] the row of each, ascending.
      before: [n] number of labelled tokens before it in its row.
      labels: [n] label indices.
    """

    rows: np.ndarray
    before: np.ndarray
    labels: np.ndarray


class WordLabels(NamedTuple):
    """What the labels of tokens do not tell about the labels of words.

    Attributes:
      scheme: the tag scheme; None if it was not recognised.
      lost: labelled words without a token.
      unlabelled: [k] the row of each word marked as unlabelled (-100), ascending.
    """

    scheme: TagScheme | None
    lost: LostWords
    unlabelled: np.ndarray

    def take(self, rows: np.ndarray) -> "WordLabels":
        """Those of some distinct rows, which are numbered by their place among these."""
        (lost, lost_rows), (_, unlabelled) = _among(self.lost.rows, rows), _among(self.unlabelled, rows)
        return WordLabels(self.scheme, LostWords(lost_rows, self.lost.before[lost], self.lost.labels[lost]), unlabelled)


def _among(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which values are among distinct rows, by ascending place there, and these places."""
    order = np.argsort(rows, kind="stable")
    found = np.searchsorted(rows, values, sorter=order)
    kept = np.flatnonzero(np.isin(values, rows))
    places = order[found[kept]]
    by_place = np.argsort(places, kind="stable")
    return kept[by_place], places[by_place]


class ExampleStore(Protocol):
    """Encoded examples, in memory (`Examples`, which describes the members) or on the disk (`StoredExamples`)."""

    @property
    def num_examples(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def labels(self) -> Any: ...

    @property
    def truncated(self) -> int: ...

    @property
    def kind(self) -> LabelKind: ...

    @property
    def words(self) -> WordLabels | None: ...

    @property
    def num_empty(self) -> int: ...

    def take(self, indices: np.ndarray) -> "Examples": ...

    def at(self, indices: np.ndarray) -> "ExampleStore": ...

    def weighted(self, weights: np.ndarray) -> "ExampleStore": ...

    def labelled(self, labels: np.ndarray) -> "ExampleStore": ...


class Examples(NamedTuple):
    """Tokenized examples, concatenated.

    Attributes:
      token_ids, token_type_ids: [total tokens] int32; example i is `offsets[i]:offsets[i + 1]`.
      offsets: [N + 1] int64.
      labels: per example, [N] or [N, L], int32 indices or float32 numbers such as the probabilities of L classes; or
        per token, [total tokens] with -100 for unlabelled tokens.
      truncated: number of examples that were cut to the maximum length.
      weights: [N] float32 weights in the loss; None for 1 each.
      labels_of: whether the labels are per example or per token.
      text_lengths: [N, C] tokens of each text, if an example is a group of texts; None for one text each.
      masking: dynamic masking of a masked language model, which makes the labels.
      row_of: [N] the table row of each example, ascending; None if each row is one example.
      reference: what the task's evaluator needs besides the labels, such as the answers' texts.
      ids: [N] indices in the set that the examples were taken from; None for all of a set.
      unlearnable: number of rows whose label is in none of their examples, such as an answer longer than a window.
      words: if words have labels and the examples are all of a set; else None.
      special_tokens: number of special tokens of an example, such as [CLS] and [SEP].
      teacher_scores: a teacher's scores, [N, ...] or [total tokens, L] float32 like the labels; None without a teacher.
    """

    token_ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    truncated: int
    weights: np.ndarray | None = None
    labels_of: LabelsOf = "examples"
    text_lengths: np.ndarray | None = None
    masking: DynamicMasking | None = None
    row_of: np.ndarray | None = None
    reference: Any = None
    ids: np.ndarray | None = None
    unlearnable: int = 0
    words: WordLabels | None = None
    special_tokens: int = 0
    teacher_scores: np.ndarray | None = None

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """[N] tokens in each example, special ones included."""
        return np.diff(self.offsets)

    @property
    def num_empty(self) -> int:
        """Texts of which the tokenizer makes no word piece."""
        lengths = self.lengths if self.text_lengths is None else self.text_lengths
        return int((lengths <= self.special_tokens).sum())

    def take(self, indices: np.ndarray) -> "Examples":
        """The examples at ascending `indices`, which become their `ids`; without `reference` unless they are all."""
        if len(indices) == self.num_examples:
            return self
        return self.at(indices)._replace(ids=indices if self.ids is None else self.ids[indices])

    def at(self, indices: np.ndarray) -> "Examples":
        """The examples at `indices` in any order, perhaps repeated, numbered from 0; without `reference`."""
        lengths = self.offsets[indices + 1] - self.offsets[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        labelled = tokens if self.labels_of == "tokens" else indices
        return self._replace(
            token_ids=self.token_ids[tokens],
            token_type_ids=self.token_type_ids[tokens],
            offsets=offsets,
            labels=self.labels[labelled],
            weights=None if self.weights is None else self.weights[indices],
            text_lengths=None if self.text_lengths is None else self.text_lengths[indices],
            masking=None if self.masking is None else self.masking._replace(words=self.masking.words[tokens]),
            row_of=None if self.row_of is None else self.row_of[indices],
            reference=None,
            ids=None,
            words=None,
            teacher_scores=None if self.teacher_scores is None else self.teacher_scores[labelled],
        )

    def weighted(self, weights: np.ndarray) -> "Examples":
        """The same examples with other weights in the loss: [N]."""
        return self._replace(weights=weights)

    def labelled(self, labels: np.ndarray) -> "Examples":
        """The same examples with other labels, one for each of them as before."""
        return self._replace(labels=labels)

    def tokens_of(self, example: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The token ids of an example in an epoch, and the labels of its tokens where tokens have labels."""
        tokens = slice(int(self.offsets[example]), int(self.offsets[example + 1]))
        if self.masking is not None:
            number = example if self.ids is None else int(self.ids[example])
            return self.masking.mask(self.token_ids[tokens], tokens, number, epoch)
        return self.token_ids[tokens], self.labels[tokens] if self.labels_of == "tokens" else self.labels

    def tokens_in(self, epoch: int, indices: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`tokens_of` several examples, end to end; `tokens` are the indices of their tokens."""
        if self.masking is not None:
            token_ids, labels = zip(*(self.tokens_of(int(i), epoch) for i in indices), strict=True)
            return np.concatenate(token_ids), np.concatenate(labels)
        return self.token_ids[tokens], self.labels[tokens] if self.labels_of == "tokens" else self.labels

    def fixed(self, seed: int) -> "Examples":
        """The same with the tokens masked that `seed` masks in epoch 0: evaluation must not change between epochs."""
        if self.masking is None:
            return self
        seeded = self._replace(masking=self.masking._replace(seed=seed))
        token_ids, labels = zip(*(seeded.tokens_of(i, epoch=0) for i in range(self.num_examples)), strict=True)
        return self._replace(token_ids=np.concatenate(token_ids), labels=np.concatenate(labels), masking=None)

    def joined(self, others: Sequence["Examples"]) -> "Examples":
        """These and others of the same kind, one after the other, numbered from 0; without `reference`.

        Rows are not: an example's `row_of` counts from the first row of its own part.
        """
        parts = (self, *others)
        ends = np.cumsum([part.offsets[-1] for part in parts])

        def end_to_end(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
            present = [array for array in arrays if array is not None]
            return np.concatenate(present) if len(present) == len(parts) else None

        return self._replace(
            token_ids=np.concatenate([part.token_ids for part in parts]),
            token_type_ids=np.concatenate([part.token_type_ids for part in parts]),
            offsets=np.concatenate(
                [[0], *(part.offsets[1:] + end - part.offsets[-1] for part, end in zip(parts, ends, strict=True))]
            ),
            labels=np.concatenate([part.labels for part in parts]),
            truncated=sum(part.truncated for part in parts),
            weights=end_to_end([part.weights for part in parts]),
            text_lengths=end_to_end([part.text_lengths for part in parts]),
            row_of=end_to_end([part.row_of for part in parts]),
            reference=None,
            ids=None,
            words=None,
            teacher_scores=end_to_end([part.teacher_scores for part in parts]),
        )

    @property
    def kind(self) -> LabelKind:
        """The kind of labels that a batch of the examples holds."""
        texts = 1 if self.text_lengths is None else self.text_lengths.shape[1]
        taught = None if self.teacher_scores is None else self.teacher_scores.shape[1:]
        return LabelKind(self.labels_of, self.labels.shape[1:], self.labels.dtype.type, texts, taught)
