"""Model FLOPs utilization (MFU): the share of the devices' peak matrix throughput that training achieves.

Source: Chowdhery et al. 2022 (arXiv:2204.02311), appendix B. It counts the matrix products of the encoder for real
tokens, forward and backward, and neither padding, recomputation, embeddings, head nor optimizer. The peak is measured.
"""

import time
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.config import BertConfig, Execution
from bertjax.model.precision import matmul_precision, policy_of

_ROUNDS = 3
_SIZE, _SIZE_ON_CPU = 8192, 1024  # of square matrices, large enough to keep a device busy


def training_flops(config: BertConfig, tokens: int, pairs: int) -> float:
    """Floating point operations of training.

    Args:
      config: the encoder.
      tokens: number of real tokens.
      pairs: number of token pairs that attend to each other, the sum of the squared lengths of the texts.
    """
    width, inner = config.hidden_size, config.intermediate_size
    # Multiply-adds of query, key, value and output; of the feed-forward layers, the first one wider by a gate.
    of_token = 4 * width * width + (2 + config.gated) * width * inner
    of_pair = 2 * width  # of a score, and of the value that it weighs
    # The backward pass takes twice the forward pass; once, where no gradient of a layer's own weights is taken.
    passes = 3 if config.adapters is None else 2
    of_tokens = passes * config.num_layers * tokens * of_token
    # A multiply-add is two operations.
    return 2.0 * (of_tokens + 3 * _pairs_of_layers(config, tokens, pairs) * of_pair)


def _pairs_of_layers(config: BertConfig, tokens: int, pairs: int) -> int:
    """Token pairs summed over the layers. With local attention these are at most window pairs per token."""
    if config.rotary is None:
        return config.num_layers * pairs
    windows = (config.rotary.of_layer(i).window for i in range(config.num_layers))
    return sum(pairs if window is None else min(pairs, tokens * (2 * window + 1)) for window in windows)


@cache
def matmul_peak(devices: tuple[jax.Device, ...], execution: Execution) -> float:
    """FLOP/s of large matrix products on all devices at once, in the network's precision.

    The best of a few rounds, measured once per process on its own devices, which should be idle.
    """
    own = [device for device in devices if device.process_index == jax.process_index()]
    size = _SIZE_ON_CPU if own[0].platform == "cpu" else _SIZE
    dtype = policy_of(execution).compute_dtype
    # A GPU draws less power, and is faster, where all numbers are equal.
    numbers = np.random.default_rng(0).random((size, size), np.float32) - np.float32(0.5)
    squares = [jax.device_put(jnp.asarray(numbers, dtype), device) for device in own]

    @jax.jit
    def squared(matrix: jax.Array) -> jax.Array:
        with matmul_precision(execution):
            return matrix @ matrix

    jax.block_until_ready([squared(square) for square in squares])  # compiles
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        jax.block_until_ready([squared(square) for square in squares])
        seconds.append(time.perf_counter() - started)
    return 2.0 * size**3 * len(devices) / min(seconds)
