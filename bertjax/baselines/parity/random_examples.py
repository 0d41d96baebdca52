"""Random labelled examples of any task, in the layouts of both sides.

    N examples   C texts in an example (1 but for groups)   T tokens in a text, padding included   L labels

The token ids mean nothing. They reach every word piece, segment type and position that the lengths allow.
"""

from typing import NamedTuple

import numpy as np

from bertjax import losses
from bertjax.batch import UNLABELLED, Batch, Pretraining, padded_batch
from bertjax.data.batching.packing import Layout, Row, pack, pack_batch
from bertjax.tasks import Model, find_task, find_torch_task

_LABELLED_TOKENS = 0.3  # share


class Examples(NamedTuple):
    """Ragged texts and their labels, as other libraries take them.

    Attributes:
      token_ids, token_type_ids, attention_mask: [N, C, T].
      labels: by the task: [N], [N, L], [N, T] with -100, [N, 2] positions, or `Pretraining` of two.
    """

    token_ids: np.ndarray
    token_type_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray | Pretraining

    @property
    def lengths(self) -> np.ndarray:
        """[N] real tokens of each example, all of its texts together."""
        return self.attention_mask.sum(axis=(1, 2))


class Located(NamedTuple):
    """A batch, and which examples each of its rows holds."""

    batch: Batch
    rows: list[Row]


def random_examples(model: Model, count: int, longest: int, seed: int) -> Examples:
    """Examples of 3 to `longest` tokens a text, at least one of them as long as that."""
    rng = np.random.default_rng(seed)
    config, texts = model.config, find_torch_task(model.task).num_texts
    lengths = rng.integers(3, longest + 1, (count, texts))
    lengths[0, 0] = longest
    positions = np.arange(longest)
    mask = (positions < lengths[..., None]).astype(np.int32)
    # Without the index of padding, for which torch's embedding has no gradient.
    ids = (config.pad_token_id + rng.integers(1, config.vocab_size, mask.shape)) % config.vocab_size
    second = positions >= rng.integers(2, longest, (count, texts))[..., None]
    types = np.where(second, config.type_vocab_size - 1, 0) * mask
    labels = _labels(model, rng, mask[:, 0])
    return Examples(ids.astype(np.int32), types.astype(np.int32), mask, labels)


def _labels(model: Model, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray | Pretraining:
    """Labels that the task's loss takes.

    Args:
      model: for the task and the number of labels.
      rng: of the labels.
      mask: [N, T] of the first text of each example.
    """
    task, count = find_task(model.task), len(mask)
    if task.loss is losses.squared_error:
        return rng.normal(size=(count, len(model.labels))).astype(np.float32)
    if task.loss is losses.binary_cross_entropy:
        return (rng.normal(size=(count, len(model.labels))) > 0).astype(np.float32)
    if task.loss is losses.cosine_error:
        return rng.uniform(-1, 1, count).astype(np.float32)
    if task.loss is losses.span_cross_entropy:
        return np.sort((rng.random((count, 2)) * mask.sum(axis=1, keepdims=True)).astype(np.int64), axis=1)
    if task.labels_of == "examples":
        num_texts = find_torch_task(model.task).num_texts
        return rng.integers(0, num_texts if num_texts > 1 else len(model.labels) or 2, count)
    labelled = (rng.random(mask.shape) < _LABELLED_TOKENS) & (mask == 1)
    labelled[:, 0] = True
    classes = rng.integers(0, len(model.labels) or model.config.vocab_size, mask.shape)
    tokens = np.where(labelled, classes, UNLABELLED)
    return tokens if task.labels_of == "tokens" else Pretraining(tokens, rng.integers(0, 2, count))


def padded(model: Model, examples: Examples) -> Located:
    """One example a row."""
    labels = examples.labels
    labels_of = find_task(model.task).labels_of
    batch = padded_batch(
        examples.attention_mask,
        examples.token_ids,
        examples.token_type_ids,
        labels.masked_lm if isinstance(labels, Pretraining) else labels,
        labels_of=labels_of.masked_lm if isinstance(labels_of, Pretraining) else labels_of,
    )
    if isinstance(labels, Pretraining):
        next_sentence = labels.next_sentence.astype(np.int32)[:, None]
        batch = batch._replace(
            labels=Pretraining(batch.labels, next_sentence),
            example_weights=Pretraining(batch.example_weights, np.ones_like(next_sentence, np.float32)),
        )
    return Located(batch, [[i] for i in range(len(batch.token_ids))])


def packed(model: Model, sets: list[Examples]) -> list[Located]:
    """Several examples a row; all sets in one shape, each with an empty slot and an empty row at the end."""
    row_length = 2 * max(int(examples.lengths.max()) for examples in sets)
    rows = [pack(examples.lengths.tolist(), row_length) for examples in sets]
    texts = sets[0].token_ids.shape[1]
    most = max(len(row) for rows_of_set in rows for row in rows_of_set)
    layout = Layout(rows=max(map(len, rows)) + 1, row_length=row_length, slots=(most + 1) * texts)
    return [
        Located(pack_batch(padded(model, examples).batch, rows_of_set, layout), rows_of_set)
        for examples, rows_of_set in zip(sets, rows, strict=True)
    ]


class Places(NamedTuple):
    """Where the examples of a batch are, so that any layout can be read in one order: example by example.

    Attributes:
      tokens: for each text, its row and the positions of its tokens.
      num_texts: C.
      groups: for each example, its row and its place in the row.
    """

    tokens: list[tuple[int, np.ndarray]]
    num_texts: int
    groups: list[tuple[int, int]]

    def of_tokens(self, leaf: np.ndarray) -> np.ndarray:
        """[B, T, ...] -> [real tokens, ...]."""
        return np.concatenate([leaf[row, at] for row, at in self.tokens])

    def of_pairs(self, leaf: np.ndarray) -> np.ndarray:
        """[B, H, T, T] -> the numbers between tokens of one text, flat."""
        return np.concatenate([leaf[row][:, at][:, :, at].ravel() for row, at in self.tokens])

    def of_texts(self, leaf: np.ndarray) -> np.ndarray:
        """[B, E, ...] -> [N C, ...]."""
        slots = [(row, place * self.num_texts + c) for row, place in self.groups for c in range(self.num_texts)]
        return np.stack([leaf[slot] for slot in slots])

    def of_examples(self, leaf: np.ndarray) -> np.ndarray:
        """[B, G, ...] -> [N, ...]."""
        return np.stack([leaf[group] for group in self.groups])


def places(located: Located, num_texts: int) -> Places:
    """Finds the examples of a batch."""
    at = {example: (r, place) for r, row in enumerate(located.rows) for place, example in enumerate(row)}
    groups = [at[example] for example in sorted(at)]
    segments = located.batch.segment_ids
    tokens = [
        (r, np.flatnonzero(segments[r] == place * num_texts + c + 1)) for r, place in groups for c in range(num_texts)
    ]
    return Places(tokens, num_texts, groups)
