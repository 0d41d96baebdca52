"""Examples to scores: every example packed, computed once, and put back in the order it came in."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertjax.batch import Batch
from bertjax.data.encode.examples import Examples
from bertjax.prediction.batcher import Batcher, one_shape_batches


def predict(
    forward: Callable[[Batch], Any], num_devices: int, examples: Examples, batcher: Batcher = one_shape_batches
) -> np.ndarray:
    """The scores of every example, in the order of `examples`.

    Args:
      forward: a batch -> its scores (`Task.scores`), such as [B, E, L].
      num_devices: the rows of a batch are a multiple of it.
      examples: one or more.
      batcher: makes batches of them.

    Returns:
      [N, ...] float32 where scores are of examples, [total tokens, ...] where they are of tokens.
    """
    scores: np.ndarray | None = None
    for packed_batch in batcher(examples, num_devices):
        computed = np.asarray(jax.device_get(forward(packed_batch.batch)))
        of_tokens = computed.shape[1] == packed_batch.batch.token_ids.shape[1]
        ids = packed_batch.token_sources(examples.offsets) if of_tokens else packed_batch.example_ids
        if scores is None:
            total = examples.offsets[-1] if of_tokens else examples.num_examples
            scores = np.empty((total, *computed.shape[2:]), np.float32)
        scores[ids[ids >= 0]] = computed[ids >= 0]
    assert scores is not None, "there is at least one example"
    return scores
