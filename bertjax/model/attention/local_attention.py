"""Local (sliding window) attention in blocks, which skips the scores of distant pairs; they are masked anyway.

    B rows   H heads   T positions   K head size   W window, and block size   N blocks of a row

A block of W queries attends to the 3 W keys of its own and the two neighbouring blocks. No other key is within W tokens
of any of its queries, since the tokens of an example are contiguous in their row.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bertjax.model.dropout import TokenPlaces

Attend = Callable[..., Float[Array, "B H T K"]]
"""(query, key, value, segments of queries, of keys, places of queries, of keys) -> the weighted sums."""


def blocks_save_work(window: int, length: int) -> bool:
    """Whether whole rows of this length have more scores than their blocks have."""
    return 0 < 3 * window < length


def attend_in_blocks(
    attend: Attend,
    window: int,
    query: Float[Array, "B H T K"],
    key: Float[Array, "B H T K"],
    value: Float[Array, "B H T K"],
    segment_ids: Int[Array, "B T"],
    places: TokenPlaces,
) -> Float[Array, "B H T K"]:
    """Runs attention on blocks, and returns the weighted sums of whole rows.

    Args:
      attend: attention that applies the window's mask; it gets blocks as rows.
      window: W.
      query: of every position.
      key: of the same positions.
      value: of the same positions.
      segment_ids: which example each token belongs to; 0 is padding.
      places: of the tokens.
    """
    rows, heads, length, size = query.shape

    def blocks(per_token: Array) -> Array:
        """[B, T, ...] -> [B, N, W, ...]; what fills the last block is padding, segment 0."""
        further = ((0, 0),) * (per_token.ndim - 2)
        padded = jnp.pad(per_token, ((0, 0), (0, -length % window), *further))
        return padded.reshape(rows, -1, window, *per_token.shape[2:])

    def with_neighbours(blocks: Array) -> Array:
        """[B, N, W, ...] -> [B, N, 3 W, ...]; beside the first and the last block is padding."""
        further = ((0, 0),) * (blocks.ndim - 2)
        padded = jnp.pad(blocks, ((0, 0), (1, 1), *further))
        return jnp.concatenate([padded[:, :-2], blocks, padded[:, 2:]], axis=2)

    def as_rows(blocks: Array) -> Array:
        return blocks.reshape(-1, *blocks.shape[2:])

    def per_token(heads: Array) -> Array:
        return heads.transpose(0, 2, 1, 3)

    of_queries = [as_rows(blocks(x)) for x in (segment_ids, *places)]
    of_keys = [as_rows(with_neighbours(blocks(x))) for x in (segment_ids, *places)]
    query = per_token(as_rows(blocks(per_token(query))))  # [B N, H, W, K]
    key, value = (per_token(as_rows(with_neighbours(blocks(per_token(x))))) for x in (key, value))  # [B N, H, 3 W, K]
    mixed = attend(
        query, key, value, of_queries[0], of_keys[0], TokenPlaces(*of_queries[1:]), TokenPlaces(*of_keys[1:])
    )
    return per_token(per_token(mixed).reshape(rows, -1, heads, size)[:, :length])
