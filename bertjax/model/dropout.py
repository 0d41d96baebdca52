"""Dropout (Srivastava et al. 2014) with masks from a counter-based hash, which XLA fuses with the operations around it.

Threefry, JAX's generator, is a cryptographic cipher; drawing masks with it adds a third to a training step on a CPU.
A mask needs no cipher. Here the bits of an element are a hash of its coordinates and of a 64-bit key: `triple32`, the
finaliser of Wellons' hash prospector. It is integer arithmetic only, so masks are the same on every backend, nothing
is stored between the forward and the backward pass, and the cost is a few percent. Keys still come from Threefry
(`split`, `fold_in`), so two layers or steps never share a mask.

The coordinates of an element do not depend on the layout of the batch: the number of its example in the update, the
token's position in the example, the feature. So packing, the number of devices and gradient accumulation change no
mask.

    B rows   T tokens in a row   E example slots in a row   R positions read   H heads   D hidden size
"""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from bertjax.batch import Batch

# The coordinates (.., k, j, i) count as i + j m + k m^2 + .., modulo 2**32. A multiplier m that passes the spectral
# test (Knuth, volume 2, section 3.3.4: nearest points 68,725, 1,708 and 260 apart in 2 to 4 dimensions) keeps the
# counts of a tensor apart.
_MULTIPLIER = 0xADB4A92D
_GOLDEN = np.uint32(0x9E3779B9)  # 2**32 / golden ratio: consecutive counters land far apart


class TokenPlaces(NamedTuple):
    """Tokens by their example's number in the update and their position in the example, whatever the layout."""

    examples: Int[Array, "B R"]
    positions: Int[Array, "B R"]

    def at(self, positions: Int[Array, "B R"] | None) -> "TokenPlaces":
        """The places of the tokens at these positions of their rows; None for all."""
        return self if positions is None else TokenPlaces(*(jnp.take_along_axis(of, positions, axis=1) for of in self))


def token_places(batch: Batch) -> TokenPlaces:
    """The place of each token, [B, T]; meaningless for padding."""
    slots = jnp.maximum(jnp.asarray(batch.segment_ids) - 1, 0)
    return TokenPlaces(
        jnp.take_along_axis(jnp.asarray(batch.example_numbers), slots, axis=1), jnp.asarray(batch.position_ids)
    )


def drop_features(
    rate: float, x: Float[Array, "B R D"], places: TokenPlaces, deterministic: bool
) -> Float[Array, "B R D"]:
    """Dropout of the features of tokens."""
    examples, positions = places
    return _maybe_dropout(rate, x, deterministic, examples[:, :, None], positions[:, :, None], _axis(x, 2))


def drop_pooled(
    rate: float, x: Float[Array, "B E D"], example_numbers: Int[Array, "B E"], deterministic: bool
) -> Float[Array, "B E D"]:
    """Dropout of the features of whole examples."""
    return _maybe_dropout(rate, x, deterministic, example_numbers[:, :, None], _axis(x, 2))


def drop_weights(
    rate: float, x: Float[Array, "B H R T"], queries: TokenPlaces, keys: TokenPlaces, deterministic: bool
) -> Float[Array, "B H R T"]:
    """Dropout of attention weights [B, H, R, T], for queries and keys of the same example."""
    examples, positions = (of[:, None, :, None] for of in queries)
    return _maybe_dropout(rate, x, deterministic, examples, _axis(x, 1), positions, keys.positions[:, None, None, :])


class WeightDropout(NamedTuple):
    """The masks of `drop_weights` for a kernel: a weight's count is the sum of its query's, key's and head's counts."""

    rate: float
    query_counts: UInt32[Array, "B T"]
    key_counts: UInt32[Array, "B T"]
    head_counts: UInt32[Array, " H"]
    words: UInt32[Array, " 2"]


def weight_dropout(
    rate: float, heads: int, queries: TokenPlaces, keys: TokenPlaces, deterministic: bool
) -> WeightDropout | None:
    """The dropout that `drop_weights` would apply, with the same key of the Haiku transform; None without dropout."""
    if deterministic or rate == 0:
        return None
    return WeightDropout(
        rate,
        _count(queries.examples, 0, queries.positions, 0),
        _count(keys.positions),
        _count(jnp.arange(heads, dtype=jnp.int32), 0, 0),
        jnp.stack(_words(hk.next_rng_key())),
    )


def _axis(x: Array, axis: int) -> Array:
    """Indices along an axis of an array, in a shape that broadcasts against the other coordinates."""
    return lax.broadcasted_iota(jnp.int32, tuple(x.shape[i] if i == axis else 1 for i in range(x.ndim)), axis)


def _maybe_dropout(rate: float, x: Array, deterministic: bool, *places: Array) -> Array:
    """Dropout with the next key of the Haiku transform, or `x` itself when deterministic."""
    return x if deterministic or rate == 0 else dropout(hk.next_rng_key(), rate, x, *places)


def dropout(rng_key: Array, rate: float, x: Float[Array, "*shape"], *places: Array) -> Float[Array, "*shape"]:
    """Zeroes a share of `x` and scales the rest by 1 / (1 - rate), which preserves the expectation.

    Args:
      rng_key: a key of `jax.random`, consumed.
      rate: share to drop, in [0, 1).
      x: any shape.
      places: see `random_bits`.
    """
    keep = random_bits(rng_key, *places) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x / (1.0 - rate), 0)


@jax.jit  # traced once for all masks of a shape
def random_bits(rng_key: Array, *places: Array) -> UInt32[Array, "..."]:
    """32 uniform bits per element, a pure function of the key and the element's coordinates.

    Args:
      rng_key: a key of `jax.random`.
      places: the coordinates, integers that broadcast against each other.
    """
    start, halfway = _words(rng_key)
    return mixed_bits(_count(*places), start, halfway)


def mixed_bits(counts: UInt32[Array, "..."], start: Array, halfway: Array) -> UInt32[Array, "..."]:
    """The bits of the elements with these counts (`_count`), for a key expanded by `_words`."""
    return _avalanche(counts * _GOLDEN + start, halfway)


def _words(rng_key: Array) -> tuple[Array, Array]:
    """A key as two scalars, which differ in about half of their bits between neighbouring keys: the counter's start,
    and what is added halfway through the hash."""
    words = jax.random.key_data(rng_key) if jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key) else rng_key
    start = _avalanche(words[0] + _avalanche(words[1] + _GOLDEN))
    return start, _avalanche(words[1] + start)


def _count(*places: Array | int) -> Array:
    """Coordinates as one integer, modulo 2**32."""
    counter = jnp.uint32(0)
    for power, place in enumerate(reversed(places)):
        counter += jnp.asarray(place).astype(jnp.uint32) * jnp.uint32(pow(_MULTIPLIER, power, 2**32))
    return counter


def _avalanche(bits: Array, halfway: Array | int = 0) -> Array:
    """The hash `triple32`: each input bit flips each output bit with a probability very close to one half.

    `halfway` is added between its rounds. Without it, the masks of two keys would be windows of one long sequence.
    The cheaper `lowbias32` (one multiplication less) saves no measurable time, and models trained with it scored
    slightly below PyTorch's over many seeds on an H200, which did not happen with other generators.
    """
    bits = (bits ^ (bits >> 17)) * jnp.uint32(0xED5AD4BB)
    bits = (bits ^ (bits >> 11)) + jnp.uint32(halfway)
    bits = bits * jnp.uint32(0xAC4C1B51)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x31848BAB)
    return bits ^ (bits >> 14)
