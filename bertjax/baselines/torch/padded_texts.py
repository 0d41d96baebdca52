"""The texts of a batch, one a row and padded, as other libraries take them: the inverse of packing.

    B rows of the batch   E example slots in such a row   N texts   C texts in a group   T tokens in the longest text

It reads any layout; of a padded batch it leaves out the padding that no text needs.
"""

from typing import Any, NamedTuple

import numpy as np

from bertjax.batch import Batch, LabelsOf
from bertjax.tasks import Model, find_task


class Texts(NamedTuple):
    """The tokens of some texts of a batch, and their places in it.

    Attributes:
      token_ids, token_type_ids, attention_mask: [N, T] int64; texts start at 0, padding is 0.
      rows, slots: [N] the place of each text in the batch; the texts of a group follow one another.
      positions: [N, T] the position of each token in its row; of padding, any.
      num_texts: C, 1 where texts stand alone.
    """

    token_ids: np.ndarray
    token_type_ids: np.ndarray
    attention_mask: np.ndarray
    rows: np.ndarray
    slots: np.ndarray
    positions: np.ndarray
    num_texts: int

    def read(self, labels_of: LabelsOf, leaf: np.ndarray) -> np.ndarray:
        """A leaf of the batch in the order of the texts: [N / C, ...] of examples, or [N, T, ...] of tokens with 0 on
        padding."""
        taken = leaf[self._places(labels_of)]
        if labels_of == "tokens":
            taken[self.attention_mask == 0] = 0
        return taken

    def write(self, labels_of: LabelsOf, leaf: np.ndarray, values: np.ndarray) -> None:
        """The inverse of `read`: writes values into a leaf of the batch."""
        if labels_of == "tokens":
            real = self.attention_mask == 1
            rows, positions = np.broadcast_arrays(*self._places(labels_of))
            leaf[rows[real], positions[real]] = values[real]
        else:
            leaf[self._places(labels_of)] = values

    def _places(self, labels_of: LabelsOf) -> tuple[np.ndarray, np.ndarray]:
        if labels_of == "tokens":
            return self.rows[:, None], self.positions
        return self.rows[:: self.num_texts], self.slots[:: self.num_texts] // self.num_texts

    def by_length(self, count: int) -> list["Texts"]:
        """The same texts, `count` groups at a time, from short to long, each time with the padding that they need."""
        lengths = self.attention_mask.sum(axis=1)
        order = np.argsort(lengths.reshape(-1, self.num_texts).max(axis=1), kind="stable")
        return [self.take(groups) for groups in np.split(order, range(count, len(order), count))]

    def take(self, groups: np.ndarray) -> "Texts":
        """The texts of some groups, in their order, with the padding that they need."""
        indices = (groups[:, None] * self.num_texts + np.arange(self.num_texts)).ravel()
        longest = int(self.attention_mask[indices].sum(axis=1).max())
        ids, types, mask, positions = (
            leaf[indices, :longest]
            for leaf in (self.token_ids, self.token_type_ids, self.attention_mask, self.positions)
        )
        return Texts(ids, types, mask, self.rows[indices], self.slots[indices], positions, self.num_texts)


def texts_of(model: Model, batch: Batch) -> Texts:
    """The texts of a batch of the host, with the padding that the longest of them needs."""
    num_slots = batch.example_starts.shape[1]
    num_texts = num_slots // batch.labels.shape[1] if find_task(model.task).labels_of == "examples" else 1
    lengths = (batch.segment_ids[:, None, :] == np.arange(1, num_slots + 1)[:, None]).sum(axis=-1)  # [B, E]
    rows, slots = np.nonzero(lengths)
    steps = np.arange(lengths.max())
    mask = steps < lengths[rows, slots, None]
    positions = np.minimum(batch.example_starts[rows, slots, None] + steps, batch.token_ids.shape[1] - 1)

    def tokens(leaf: Any) -> np.ndarray:
        return (leaf[rows[:, None], positions] * mask).astype(np.int64)

    ids, types = tokens(batch.token_ids), tokens(batch.token_type_ids)
    return Texts(ids, types, mask.astype(np.int64), rows, slots, positions, num_texts)
