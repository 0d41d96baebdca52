"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864): queries and keys are rotated by their position.

    B rows   H heads   T positions   K head size

The features of a head form K / 2 pairs, (j, j + K / 2) as in transformers. Pair j is rotated by the angle position *
base^(-2j/K), so a score depends only on the distance of two tokens. Computed in float32 whatever the compute dtype.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bertjax.model.dropout import TokenPlaces


def rotated(base: float, heads: Float[Array, "B H T K"], positions: Int[Array, "B T"]) -> Float[Array, "B H T K"]:
    """Queries or keys, rotated by their positions.

    Args:
      base: of the angles.
      heads: of each position.
      positions: of the tokens in their examples, from 0.
    """
    half = heads.shape[-1] // 2
    frequencies = jnp.asarray(_frequencies(base, half))[None, None, None]
    angles = positions.astype(jnp.float32)[:, None, :, None] * frequencies  # [B, 1, T, K / 2]
    cosines, sines = jnp.cos(angles), jnp.sin(angles)
    left, right = jnp.split(heads.astype(jnp.float32), [half], axis=-1)
    turned = jnp.concatenate([left * cosines - right * sines, right * cosines + left * sines], axis=-1)
    return turned.astype(heads.dtype)


def _frequencies(base: float, count: int) -> np.ndarray:
    """[K / 2] float32, rounded at each operation as in transformers: at position 8,000 the last bit matters."""
    exponents = np.arange(0, 2 * count, 2, dtype=np.float32) / np.float32(2 * count)
    return np.float32(1) / np.power(np.float32(base), exponents)


def in_window(window: int, queries: TokenPlaces, keys: TokenPlaces) -> Bool[Array, "B T S"]:
    """True where a key is within `window` tokens of a query, for two tokens of one example."""
    return jnp.abs(queries.positions[:, :, None] - keys.positions[:, None, :]) <= window
