"""A fused attention kernel: FlashAttention-2 (Dao 2023) over packed rows, with dropout.

    B rows   H heads   T positions   K head size   N blocks of a row

No T x T matrix is materialised: a block of queries visits blocks of keys with an online softmax (section 3.1), the
output and its log-sum-exp are saved, and the backward pass recomputes the weights. Packed rows are block-diagonal, so
only blocks that may share an example are visited. The output at padding is zero.

Written for NVIDIA GPUs, in Pallas lowered through Triton (deprecated in JAX 0.11). Elsewhere it runs in Pallas'
interpreter, for tests.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Float, Int

from bertjax.model.dropout import WeightDropout, mixed_bits

HEAD_SIZES = (16, 32, 64, 128)  # Triton's tiles are powers of 2, its products at least 16 wide

_LARGEST_BLOCK = 64
_FLOOR = -1e30  # below every score, and finite: the difference of two floors is 0, not NaN


class _Settings(NamedTuple):
    """Compile-time settings of a kernel."""

    block: int
    rate: float
    precision: Any
    interpret: bool


class _Rows(NamedTuple):
    """What a kernel gets besides queries, keys and values."""

    segments: Any  # [B, T]
    first: Any  # [B, N] of each block, the first block that may share an example with it
    stop: Any  # [B, N] and the one after the last
    query_counts: Any  # [B, T] uint32, as the two below: see `WeightDropout`
    key_counts: Any  # [B, T]
    head_counts: Any  # [H]
    words: Any  # [2]


def fused_attention(
    query: Float[Array, "B H T K"],
    key: Float[Array, "B H T K"],
    value: Float[Array, "B H T K"],
    segment_ids: Int[Array, "B T"],
    dropout: WeightDropout | None,
    interpret: bool,
) -> Float[Array, "B H T K"]:
    """Scaled dot-product attention within examples; zeros where the query is padding.

    Args:
      query: unscaled; scores are scaled by K^-0.5 here.
      key: of the same positions.
      value: of the same positions.
      segment_ids: the example of each position; 0 is padding.
      dropout: of the weights, or None.
      interpret: whether to run in Pallas' interpreter, slowly, without a GPU.
    """
    rows, heads, length, _ = query.shape
    block = min(_LARGEST_BLOCK, max(16, pl.next_power_of_2(length)))
    tail = -length % block
    segments = jnp.pad(segment_ids.astype(jnp.int32), ((0, 0), (0, tail)))
    first, stop = _shared_blocks(segments, block)
    if dropout is None:
        counts = jnp.zeros((rows, length), jnp.uint32)
        dropout = WeightDropout(0.0, counts, counts, jnp.zeros(heads, jnp.uint32), jnp.zeros(2, jnp.uint32))
    query_counts, key_counts = (
        jnp.pad(counts, ((0, 0), (0, tail))) for counts in (dropout.query_counts, dropout.key_counts)
    )
    about = _Rows(segments, first, stop, query_counts, key_counts, dropout.head_counts, dropout.words)
    # The backward pass is traced outside of the caller's `default_matmul_precision`: read here, once.
    settings = _Settings(block, dropout.rate, jax.config.jax_default_matmul_precision, interpret)  # type: ignore[attr-defined]
    query, key, value = (jnp.pad(x, ((0, 0), (0, 0), (0, tail), (0, 0))) for x in (query, key, value))
    return _attend(settings, query, key, value, about)[:, :, :length]


def _shared_blocks(segments: Int[Array, "B T"], block: int) -> tuple[Int[Array, "B N"], Int[Array, "B N"]]:
    """For each block, the range of blocks whose segments overlap its own; empty if it is all padding."""
    blocks = segments.reshape(segments.shape[0], -1, block)
    count = blocks.shape[1]
    lowest = jnp.where(blocks == 0, jnp.iinfo(jnp.int32).max, blocks).min(axis=-1)
    highest = blocks.max(axis=-1)
    shared = (lowest[:, :, None] <= highest[:, None, :]) & (lowest[:, None, :] <= highest[:, :, None])  # [B, N, N]
    numbers = jnp.arange(count, dtype=jnp.int32)
    return jnp.where(shared, numbers, count).min(axis=-1), jnp.where(shared, numbers + 1, 0).max(axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(settings: _Settings, query: Array, key: Array, value: Array, about: _Rows) -> Array:
    return _forward(settings, query, key, value, about)[0]


def _forward(settings: _Settings, query: Array, key: Array, value: Array, about: _Rows) -> tuple[Array, Any]:
    logsumexp = jax.ShapeDtypeStruct(query.shape[:3], jnp.float32)
    call = _kernel(_forward_kernel, "attention_forward", settings, query, [query, logsumexp])
    output, logsumexp = call(about, query, key, value)
    return output, (query, key, value, about, output, logsumexp)


def _backward(settings: _Settings, saved: Any, gradient: Array) -> tuple[Array, Array, Array, None]:
    query, key, value, about, output, logsumexp = saved
    # D of the paper's algorithm 2; dropout leaves it the same sum.
    delta = (gradient.astype(jnp.float32) * output.astype(jnp.float32)).sum(axis=-1)  # [B, H, T]
    arrays = (query, key, value, gradient, logsumexp, delta)
    (of_query,) = _kernel(_query_gradient_kernel, "attention_query_gradient", settings, query, [query])(about, *arrays)
    of_key, of_value = _kernel(_key_gradient_kernel, "attention_key_gradient", settings, query, [key, value])(
        about, *arrays
    )
    return of_query, of_key, of_value, None


_attend.defvjp(_forward, _backward)


def _kernel(body: Any, name: str, settings: _Settings, like: Array, outputs: list[Any]) -> Any:
    """A program for each block of each head of each row: it reads the whole row and writes its block."""
    from jax.experimental.pallas import triton as plgpu  # deprecated since JAX 0.11: nothing else may need it

    rows, heads, length, _ = like.shape

    def of_row(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec((None, None, *shape[2:]), lambda b, h, i: (b, h, *(0 for _ in shape[2:])))

    def of_block(shape: tuple[int, ...]) -> pl.BlockSpec:
        return pl.BlockSpec(
            (None, None, settings.block, *shape[3:]), lambda b, h, i: (b, h, i, *(0 for _ in shape[3:]))
        )

    positions = pl.BlockSpec((None, length), lambda b, h, i: (b, 0))
    blocks = pl.BlockSpec((None, length // settings.block), lambda b, h, i: (b, 0))
    head = pl.BlockSpec((1,), lambda b, h, i: (h,))
    words = pl.BlockSpec((2,), lambda b, h, i: (0,))

    def call(about: _Rows, *arrays: Array) -> Any:
        return pl.pallas_call(
            partial(body, settings),
            grid=(rows, heads, length // settings.block),
            in_specs=[
                _Rows(positions, blocks, blocks, positions, positions, head, words),
                *(of_row(x.shape) for x in arrays),
            ],
            out_specs=[of_block(x.shape) for x in outputs],
            out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
            compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
            interpret=settings.interpret,
            name=name,
        )(about, *arrays)

    return call


def _forward_kernel(settings: _Settings, about: _Rows, query: Any, key: Any, value: Any, output: Any, lse: Any) -> None:
    """Algorithm 1 of the paper, for one block of queries."""
    i = pl.program_id(2)
    here = pl.ds(i * settings.block, settings.block)
    queries = query[here, :]

    def visit(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        mixed, maximum, total = carry
        there = pl.ds(j * settings.block, settings.block)
        values = value[there, :]
        mask = _mask(about, here, there)
        scores = jnp.where(mask, _scores(settings, queries, key[there, :]), _FLOOR)
        higher = jnp.maximum(maximum, scores.max(axis=-1))
        weights = jnp.where(mask, jnp.exp(scores - higher[:, None]), 0.0)
        correction = jnp.exp(maximum - higher)
        total = total * correction + weights.sum(axis=-1)
        kept = _dropped(settings, about, here, there, weights).astype(values.dtype)
        return mixed * correction[:, None] + _product(settings, kept, values), higher, total

    start = (
        jnp.zeros(queries.shape, jnp.float32),
        jnp.full(queries.shape[0], _FLOOR, jnp.float32),
        jnp.zeros(queries.shape[0], jnp.float32),
    )
    mixed, maximum, total = lax.fori_loop(about.first[i], about.stop[i], visit, start)
    total = jnp.where(total == 0.0, 1.0, total)  # padding
    output[...] = (mixed / total[:, None]).astype(output.dtype)
    lse[...] = maximum + jnp.log(total)


def _query_gradient_kernel(
    settings: _Settings, about: _Rows, query: Any, key: Any, value: Any, gradient: Any, lse: Any, delta: Any, out: Any
) -> None:
    """dQ of the paper's algorithm 2, for one block of queries; without atomics, so it is deterministic."""
    i = pl.program_id(2)
    here = pl.ds(i * settings.block, settings.block)
    queries, gradients, normaliser, shift = query[here, :], gradient[here, :], lse[here], delta[here]

    def visit(j: Array, total: Array) -> Array:
        there = pl.ds(j * settings.block, settings.block)
        keys = key[there, :]
        weights = _weights(settings, about, here, there, queries, keys, normaliser)
        of_weights = _dropped(settings, about, here, there, _product(settings, gradients, value[there, :].T))
        of_scores = weights * (of_weights - shift[:, None])
        return total + _product(settings, of_scores.astype(keys.dtype), keys)

    total = lax.fori_loop(about.first[i], about.stop[i], visit, jnp.zeros(queries.shape, jnp.float32))
    out[...] = (total * queries.shape[1] ** -0.5).astype(out.dtype)


def _key_gradient_kernel(
    settings: _Settings,
    about: _Rows,
    query: Any,
    key: Any,
    value: Any,
    gradient: Any,
    lse: Any,
    delta: Any,
    key_out: Any,
    value_out: Any,
) -> None:
    """dK and dV of the paper's algorithm 2, for one block of keys. The ranges are symmetric in queries and keys."""
    j = pl.program_id(2)
    there = pl.ds(j * settings.block, settings.block)
    keys, values = key[there, :], value[there, :]

    def visit(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        of_keys, of_values = carry
        here = pl.ds(i * settings.block, settings.block)
        queries, gradients = query[here, :], gradient[here, :]
        weights = _weights(settings, about, here, there, queries, keys, lse[here])
        kept = _dropped(settings, about, here, there, weights).astype(values.dtype)
        of_weights = _dropped(settings, about, here, there, _product(settings, gradients, values.T))
        of_scores = (weights * (of_weights - delta[here][:, None])).astype(queries.dtype)
        return of_keys + _product(settings, of_scores.T, queries), of_values + _product(settings, kept.T, gradients)

    zeros = jnp.zeros(keys.shape, jnp.float32)
    of_keys, of_values = lax.fori_loop(about.first[j], about.stop[j], visit, (zeros, zeros))
    key_out[...] = (of_keys * keys.shape[1] ** -0.5).astype(key_out.dtype)
    value_out[...] = of_values.astype(value_out.dtype)


def _product(settings: _Settings, left: Array, right: Array) -> Array:
    """A product in the dtype of its arguments, accumulated in float32."""
    return jnp.dot(left, right, precision=settings.precision, preferred_element_type=jnp.float32)


def _scores(settings: _Settings, queries: Array, keys: Array) -> Array:
    return _product(settings, queries, keys.T) * queries.shape[1] ** -0.5


def _mask(about: _Rows, here: Any, there: Any) -> Bool[Array, "Q S"]:
    """`attention_mask` of a block of queries and one of keys."""
    of_keys = about.segments[there][None, :]
    return (about.segments[here][:, None] == of_keys) & (of_keys != 0)


def _weights(
    settings: _Settings, about: _Rows, here: Any, there: Any, queries: Array, keys: Array, normaliser: Array
) -> Array:
    """Recomputes the softmax's weights, before dropout."""
    # Masked before the exponential: a score of another example may lie far above this one's normaliser.
    scores = jnp.where(_mask(about, here, there), _scores(settings, queries, keys) - normaliser[:, None], _FLOOR)
    return jnp.exp(scores)


def _dropped(settings: _Settings, about: _Rows, here: Any, there: Any, x: Array) -> Array:
    """`drop_weights` of a block, from the same bits."""
    if settings.rate == 0:
        return x
    counts = about.query_counts[here][:, None] + about.key_counts[there][None, :]
    bits = mixed_bits(counts + about.head_counts[0], about.words[0], about.words[1])
    return jnp.where(bits >= jnp.uint32(round(settings.rate * 2**32)), x / (1.0 - settings.rate), 0.0)
