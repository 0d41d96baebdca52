"""Resizes the word embeddings for tokens that were added to the tokenizer.

Source: `resize_token_embeddings` of transformers with its default `mean_resizing` (Hewitt 2021, "Initializing new word
embeddings for pretrained language models"): a new row is the mean of the old ones, with noise of a thirty-thousandth of
their spread, so that no new word starts as the most likely one; a new entry of the masked-LM bias is 0. Departure: here
the noise of each dimension is its own and comes from a seed; transformers draws it with the covariance of the old rows,
from PyTorch's global state.
"""

from collections.abc import Mapping

import numpy as np

from bertjax.members.weight_table import WORDS, WeightTable

_VARIANCE = 1e-9  # of the noise, as a share of that of the old rows
_PER_WORD = (WORDS, "masked_lm")  # modules of tensors with an entry a word piece


def with_vocabulary(
    tensors: Mapping[str, np.ndarray], table: WeightTable, old_size: int, new_size: int, seed: int
) -> dict[str, np.ndarray]:
    """A checkpoint for a larger vocabulary: embeddings, and the bias of the masked-LM head; old rows stay as they are.

    Args:
      tensors: by Hugging Face's names.
      table: of their names.
      old_size: word pieces of the checkpoint; a tensor of another length stays, for `to_haiku` to report.
      new_size: word pieces that are wanted.
      seed: of the noise; a tied tensor gets the same under both of its names.
    """
    firsts = {rule.hugging_face for rule in table.rules if rule.module in _PER_WORD}
    per_word = firsts | {second for second, first in table.tied.items() if first in firsts}
    return {
        name: _grown(tensor, new_size - old_size, seed)
        if table.canonical(name) in per_word and tensor.shape[:1] == (old_size,)
        else tensor
        for name, tensor in tensors.items()
    }


def _grown(tensor: np.ndarray, added: int, seed: int) -> np.ndarray:
    """Embeddings [V, D] or a bias [V] with `added` more entries on the first axis, in float32 at least."""
    dtype = np.promote_types(tensor.dtype, np.float32)
    new = np.zeros((added, *tensor.shape[1:]))
    if tensor.ndim > 1:
        rows, noise = tensor.astype(np.float64), np.random.default_rng(seed).standard_normal(new.shape)
        new = rows.mean(0) + _VARIANCE**0.5 * rows.std(0) * noise
    return np.concatenate([tensor.astype(dtype), new.astype(dtype)])
