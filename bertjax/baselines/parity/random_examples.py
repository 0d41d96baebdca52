"""Random labelled examples of any task, one a row or packed.

The token ids mean nothing. They reach every word piece, segment type and position that the lengths allow.
"""

from itertools import chain
from typing import NamedTuple

import numpy as np

from bertjax import losses
from bertjax.baselines.torch.padded_texts import Texts, texts_of
from bertjax.batch import UNLABELLED, Batch, Pretraining, padded_batch
from bertjax.data.batching.packing import Layout, pack, pack_batch
from bertjax.tasks import Model, find_task, find_torch_task

_LABELLED_TOKENS = 0.3  # share


class Examples(NamedTuple):
    """Examples in a batch of any layout, and their texts in the order of the examples."""

    batch: Batch
    texts: Texts


def random_examples(model: Model, count: int, longest: int, seed: int) -> Examples:
    """Examples, one a row, of 3 (or `longest`) to `longest` tokens a text, at least one of them as long as that."""
    rng = np.random.default_rng(seed)
    config, texts = model.config, find_torch_task(model.task).num_texts
    lengths = rng.integers(min(3, longest), longest + 1, (count, texts))
    lengths[0, 0] = longest
    positions = np.arange(longest)
    mask = (positions < lengths[..., None]).astype(np.int32)
    # Without the index of padding, for which torch's embedding has no gradient.
    ids = (config.pad_token_id + rng.integers(1, config.vocab_size, mask.shape)) % config.vocab_size
    second = positions >= rng.integers(min(2, longest), max(longest, 3), (count, texts))[..., None]
    types = np.where(second, max(config.type_vocab_size - 1, 0), 0) * mask
    labels, labels_of = _labels(model, rng, mask[:, 0]), find_task(model.task).labels_of
    if isinstance(labels_of, Pretraining):
        assert isinstance(labels, Pretraining)
        batch = padded_batch(mask, ids, types, labels.masked_lm, labels_of.masked_lm)
        next_sentence = labels.next_sentence.astype(np.int32)[:, None]
        batch = batch._replace(
            labels=Pretraining(batch.labels, next_sentence),
            example_weights=Pretraining(batch.example_weights, np.ones_like(next_sentence, np.float32)),
        )
    else:
        batch = padded_batch(mask, ids, types, labels, labels_of)
    return Examples(batch, texts_of(model, batch))


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
    tokens = _token_labels(model, rng, mask)
    return tokens if task.labels_of == "tokens" else Pretraining(tokens, rng.integers(0, 2, count))


def _token_labels(model: Model, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """[N, T] labels of some tokens, the first of each text among them; of all, where transformers' loss takes all."""
    if find_task(model.task).loss is losses.replaced_cross_entropy:
        return np.where(mask == 1, rng.integers(0, 2, mask.shape), UNLABELLED)
    labelled = (rng.random(mask.shape) < _LABELLED_TOKENS) & (mask == 1)
    labelled[:, 0] = True
    classes = rng.integers(0, len(model.labels) or model.config.vocab_size, mask.shape)
    return np.where(labelled, classes, UNLABELLED)


def packed(model: Model, sets: list[Examples]) -> list[Examples]:
    """Several examples a row; all sets in one shape, each with an empty slot and an empty row at the end."""
    lengths = [(examples.batch.segment_ids != 0).sum(axis=1) for examples in sets]
    row_length = 2 * max(int(of_set.max()) for of_set in lengths)
    rows = [pack(of_set.tolist(), row_length) for of_set in lengths]
    most = max(len(row) for rows_of_set in rows for row in rows_of_set)
    slots = (most + 1) * sets[0].texts.num_texts
    layout = Layout(rows=max(map(len, rows)) + 1, row_length=row_length, slots=slots)
    labels_of = find_task(model.task).labels_of
    batches = [
        pack_batch(examples.batch, of_set, layout, labels_of) for examples, of_set in zip(sets, rows, strict=True)
    ]
    orders = [np.argsort([*chain.from_iterable(of_set)]) for of_set in rows]
    return [Examples(batch, texts_of(model, batch).take(order)) for batch, order in zip(batches, orders, strict=True)]
