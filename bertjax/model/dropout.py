"""Dropout (Srivastava et al. 2014) with masks from a counter-based generator that fuses into its surroundings.

JAX's own generator, Threefry, is a cryptographic cipher: masks drawn with it add a third to a training step on a CPU.
A mask needs no cipher. Here the bits of an element are an avalanche hash of its place and of the 64-bit key, the
finaliser `triple32` of Wellons' hash prospector: integer arithmetic only, so a mask is the same on every backend,
nothing is kept in memory between forward and backward pass, and the cost is a few percent. Keys still come from
Threefry (`split`, `fold_in`), so two layers, steps or devices never share a mask. Places are counted without regard to
the shape, so padding along any axis leaves the bits of the other elements unchanged.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32

# The place (.., k, j, i) counts i + j m + k m^2 + .., modulo 2**32. A multiplier that passes the spectral test (Knuth,
# volume 2, section 3.3.4: nearest points 68,725, 1,708 and 260 apart in 2 to 4 dimensions) keeps the counts of a tensor
# apart.
_MULTIPLIER = 0xADB4A92D
_GOLDEN = np.uint32(0x9E3779B9)  # 2**32 / golden ratio: consecutive counters land far apart


def dropout(rng_key: Array, rate: float, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Zeroes a share of `x` and scales the rest by 1 / (1 - rate), so that the expectation stays.

    Args:
      rng_key: a key of `jax.random`, consumed.
      rate: share to drop, in [0, 1).
      x: any shape.
    """
    keep = random_bits(rng_key, x.shape) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x / (1.0 - rate), 0)


def random_bits(rng_key: Array, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """32 uniform bits for each element of `shape`, a pure function of the key and the element's place."""
    words = jax.random.key_data(rng_key) if jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key) else rng_key
    # Two scalars that differ everywhere between neighbouring keys: where the counter starts, and what joins it halfway.
    start = _avalanche(words[0] + _avalanche(words[1] + _GOLDEN))
    halfway = _avalanche(words[1] + start)
    # Built from one iota an axis and not from one reshaped: fusion stays elementwise.
    counter = jnp.zeros(shape, jnp.uint32)
    for power, axis in enumerate(reversed(range(len(shape)))):
        counter += lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(pow(_MULTIPLIER, power, 2**32))
    return _avalanche(counter * _GOLDEN + start, halfway)


def _avalanche(bits: Array, halfway: Array | int = 0) -> Array:
    """`triple32`: every bit of the argument flips every bit of the result with probability one half, all but exactly.

    `halfway` is added between its rounds. Without it, the masks of two keys would be windows of one long sequence.
    Its lesser, `lowbias32`, has a multiplication less and saves no time: on an H200, where many seeds are cheap, models
    trained with it scored a little below PyTorch's, and with other masks did not.
    """
    bits = (bits ^ (bits >> 17)) * jnp.uint32(0xED5AD4BB)
    bits = (bits ^ (bits >> 11)) + jnp.uint32(halfway)
    bits = bits * jnp.uint32(0xAC4C1B51)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x31848BAB)
    return bits ^ (bits >> 14)


def maybe_dropout(rate: float, x: Float[Array, "*shape"], deterministic: bool) -> Float[Array, "*shape"]:
    """Dropout with the next key of the Haiku transform, or `x` itself when deterministic."""
    if deterministic or rate == 0:
        return x
    return dropout(hk.next_rng_key(), rate, x)
