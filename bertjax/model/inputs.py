"""Checks of a batch: shapes agree, indices are in range, rows are not empty.

JAX silently clamps an index that is out of range, so batches are checked on the host before they are used. Inside a
compiled function there are no values to check; there `layers.look_up` returns NaN for such an index.
"""

import jax
import numpy as np

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.errors import BatchError


def check_batch(config: BertConfig, batch: Batch) -> None:
    """Checks shapes and dtypes, and the range of indices unless they are traced.

    Raises:
      BatchError: an empty batch, leaves whose shapes disagree, ids that are not integers, or an index out of range.
    """
    shape, starts = batch.token_ids.shape, batch.example_starts.shape
    if len(shape) != 2 or 0 in shape:
        raise BatchError(f"a batch needs rows of one token or more, got token_ids of shape {list(shape)}")
    for name in ("token_type_ids", "position_ids", "segment_ids"):
        if getattr(batch, name).shape != shape:
            raise BatchError(f"{name} has shape {list(getattr(batch, name).shape)}, token_ids {list(shape)}")
    if len(starts) != 2 or starts[0] != shape[0] or starts[1] == 0:
        raise BatchError(f"example_starts has shape {list(starts)}, expected one slot or more in {shape[0]} rows")
    if batch.example_numbers.shape != starts:
        raise BatchError(
            f"example_numbers has shape {list(batch.example_numbers.shape)}, example_starts {list(starts)}"
        )
    limits = {
        "token_ids": (config.vocab_size, "word pieces of the vocabulary"),
        **({"token_type_ids": (config.type_vocab_size, "segment types")} if config.type_vocab_size else {}),
        "position_ids": (config.max_length, "positions; cut the text to fewer tokens"),
        "segment_ids": (starts[1] + 1, "segments, padding and one for each slot"),
        "example_starts": (shape[1], "tokens of a row"),
    }
    for name, (limit, of_what) in limits.items():
        leaf = getattr(batch, name)
        if not np.issubdtype(leaf.dtype, np.integer):
            raise BatchError(f"{name} holds {leaf.dtype}, expected integers")
        if isinstance(leaf, jax.core.Tracer):
            continue
        values = np.asarray(leaf)
        if values.min() < 0 or values.max() >= limit:
            worst = values.max() if values.max() >= limit else values.min()
            raise BatchError(f"{name} has {worst}, the network has {limit} {of_what}")
