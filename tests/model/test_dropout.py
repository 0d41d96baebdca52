"""The mask generator: the rate is right, and masks that must be independent are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.model.dropout import dropout, random_bits

SIDE = 1000
COUNT = SIDE * SIDE


def keep(key, rate=0.1):
    return np.asarray(dropout(key, rate, jnp.ones((SIDE, SIDE)))) > 0


def correlation(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_rate_and_expectation(rate):
    x = np.asarray(dropout(jax.random.PRNGKey(0), rate, jnp.ones((SIDE, SIDE))))
    four_deviations = 4 * (rate * (1 - rate) / COUNT) ** 0.5
    assert abs((x == 0).mean() - rate) <= four_deviations
    assert abs(x.mean() - 1) <= four_deviations / (1 - rate) + 1e-6


def test_neighbours_rows_columns_and_keys_are_independent():
    first = keep(jax.random.PRNGKey(0))
    bound = 4 / COUNT**0.5
    assert correlation(first[:, 1:], first[:, :-1]) < bound
    assert correlation(first[1:], first[:-1]) < bound
    root = jax.random.PRNGKey(0)
    for other in (jax.random.PRNGKey(1), jax.random.fold_in(root, 1), *jax.random.split(root)):
        assert correlation(first, keep(other)) < bound


def test_every_bit_is_fair():
    bits = np.asarray(random_bits(jax.random.PRNGKey(3), (SIDE, SIDE)))
    for position in range(32):
        assert abs(((bits >> position) & 1).mean() - 0.5) < 4 * 0.5 / COUNT**0.5


def test_padding_changes_no_bit():
    key = jax.random.PRNGKey(5)
    wide = random_bits(key, (4, 3, 9, 11))
    np.testing.assert_array_equal(random_bits(key, (2, 3, 7, 8)), wide[:2, :3, :7, :8])


@pytest.mark.parametrize("shape", [(32, 128, 768), (24, 12, 96, 96), (2, 16, 256, 256), (8, 512, 1024)])
def test_no_two_places_share_their_bits(shape):
    """The hash of a place is a bijection of its count, so equal bits are equal counts."""
    bits = np.sort(np.asarray(random_bits(jax.random.PRNGKey(0), shape)).ravel())
    assert (bits[1:] != bits[:-1]).all()


def test_typed_and_raw_keys_give_the_same_bits():
    raw, typed = jax.random.PRNGKey(7), jax.random.key(7)
    np.testing.assert_array_equal(random_bits(raw, (5, 3)), random_bits(typed, (5, 3)))
