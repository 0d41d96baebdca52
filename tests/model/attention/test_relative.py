"""Buckets of distances against transformers' own, at every distance that a row can have."""

import jax.numpy as jnp
import numpy as np
import torch
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from bertjax.model.attention.relative import distance_bias, distance_buckets


def test_buckets_are_those_of_transformers():
    distances = np.arange(-2100, 2101)
    theirs = MPNetEncoder.relative_position_bucket(torch.tensor(distances), num_buckets=32).numpy()
    np.testing.assert_array_equal(distance_buckets(distances, 32), theirs)


def test_the_bias_is_that_from_a_query_to_a_key():
    table = jnp.arange(32 * 2, dtype=jnp.float32).reshape(32, 2)
    bias = np.asarray(distance_bias(table, 5))
    assert bias.shape == (1, 2, 5, 5)
    assert bias[0, 1, 3, 1] == table[2, 1]  # two behind
    assert bias[0, 0, 1, 3] == table[16 + 2, 0]  # two ahead
