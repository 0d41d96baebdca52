"""`Examples`: tokenized, labelled and kept ragged, whatever the task; padding is the batch's business."""

from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.batch import LabelKind
from bertjax.data.masking import DynamicMasking


class Examples(NamedTuple):
    """Tokenized examples, end to end.

    Attributes:
      token_ids, token_type_ids: [total tokens] int32; example i is `offsets[i]:offsets[i + 1]`.
      offsets: [N + 1] int64.
      labels: one an example, [N] or [N, L], indices in int32 and real numbers in float32; or one a token,
        [total tokens] with -100 where a token has none.
      truncated: examples that were cut to the longest length.
      weights: [N] float32 of each example in the loss; None stands for 1 each.
      labels_of: what has a label.
      text_lengths: [N, C] tokens of each text, where an example is a group of texts; None stands for one text each.
      masking: hides tokens anew in each epoch; the labels are those of the hidden ones then.
      reference: what judges predictions where the labels of the tokens do not suffice, by the task.
    """

    token_ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    truncated: int
    weights: np.ndarray | None = None
    labels_of: Literal["examples", "tokens"] = "examples"
    text_lengths: np.ndarray | None = None
    masking: DynamicMasking | None = None
    reference: Any = None

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """[N] tokens in each example, special ones included."""
        return np.diff(self.offsets)

    def lengths_of_texts(self, example: int) -> list[int]:
        """Tokens of each text of an example."""
        if self.text_lengths is None:
            return [int(self.offsets[example + 1] - self.offsets[example])]
        return self.text_lengths[example].tolist()

    def tokens_of(self, example: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The token ids of an example in an epoch, and the labels of its tokens where these have some."""
        tokens = slice(int(self.offsets[example]), int(self.offsets[example + 1]))
        if self.masking is not None:
            return self.masking.hide(self.token_ids[tokens], tokens, example, epoch)
        return self.token_ids[tokens], self.labels[tokens] if self.labels_of == "tokens" else self.labels

    def fixed(self, seed: int) -> "Examples":
        """The same, with the tokens hidden that `seed` hides in epoch 0: what a model is judged by must not change."""
        if self.masking is None:
            return self
        held = self._replace(masking=self.masking._replace(seed=seed))
        token_ids, labels = zip(*(held.tokens_of(i, epoch=0) for i in range(self.num_examples)), strict=True)
        return self._replace(token_ids=np.concatenate(token_ids), labels=np.concatenate(labels), masking=None)

    @property
    def kind(self) -> LabelKind:
        """What a batch of them must hold."""
        texts = 1 if self.text_lengths is None else self.text_lengths.shape[1]
        return LabelKind(self.labels_of, self.labels.shape[1:], self.labels.dtype.type, texts)
