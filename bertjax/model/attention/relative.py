"""Relative position biases of T5 (Raffel et al. 2020, arXiv:1910.10683, section 2.1), shared by all layers.

    H heads   T positions

A learned number per head and distance bucket is added to the score of a query and a key. Half of the buckets are for
keys after the query. In each half, the first half of the buckets is for a single distance each, and the rest grow
logarithmically up to `_FARTHEST`.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_FARTHEST = 128  # tokens; what is further shares the last bucket


def distance_bias(table: Float[Array, "buckets H"], length: int) -> Float[Array, "1 H T T"]:
    """The bias of the scores between all positions of a row.

    Distances are taken between positions of the row. Within an example they are those of its tokens; other pairs are
    masked.

    Args:
      table: a number for each bucket and head.
      length: T.
    """
    places = np.arange(length)
    buckets = distance_buckets(places[None, :] - places[:, None], len(table))  # [T, T]
    return table.T[:, jnp.asarray(buckets)][None]


def distance_buckets(distances: np.ndarray, count: int) -> np.ndarray:
    """The buckets of distances from queries to keys, as transformers computes them.

    Args:
      distances: of any shape; negative where the key comes first.
      count: of buckets.
    """
    half = count // 2
    exact = half // 2
    sizes = np.abs(distances)
    # In float32, rounded at each operation: at a border of buckets a last bit decides.
    logarithms = np.log(np.maximum(sizes, 1).astype(np.float32) / np.float32(exact))
    shares = logarithms / np.float32(math.log(_FARTHEST / exact)) * np.float32(half - exact)
    large = np.minimum(exact + shares.astype(np.int32), half - 1)
    return (half * (distances > 0) + np.where(sizes < exact, sizes, large)).astype(np.int32)
