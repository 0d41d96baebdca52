"""Examples to outputs: every example packed, computed once, and put back in the order it was given in."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertjax.batch import Batch
from bertjax.data.batching.collate import evaluation_batches
from bertjax.data.encode.examples import Examples


def predict(forward: Callable[[Batch], Any], num_devices: int, examples: Examples) -> np.ndarray:
    """What a network says of every example, in the order of `examples`: what evaluation reads (`Task.scores`).

    Args:
      forward: a batch -> what is said of it, such as [B, E, L].
      num_devices: the rows of a batch are a multiple of it.
      examples: to be judged.

    Returns:
      [N, ...] float32 of what is said of an example, [total tokens, ...] of what is said of each token.
    """
    scores: np.ndarray | None = None
    for packed_batch in evaluation_batches(examples, num_devices):
        computed = np.asarray(jax.device_get(forward(packed_batch.batch)))
        of_tokens = computed.shape[1] == packed_batch.batch.token_ids.shape[1]
        ids = packed_batch.token_sources(examples.offsets) if of_tokens else packed_batch.example_ids
        if scores is None:
            total = examples.offsets[-1] if of_tokens else examples.num_examples
            scores = np.empty((total, *computed.shape[2:]), np.float32)
        scores[ids[ids >= 0]] = computed[ids >= 0]
    assert scores is not None, "there is at least one example"
    return scores
