"""The mask generator: the rate is right, and masks that must be independent are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.data.batching.collate import collate
from bertjax.data.batching.packing import Layout
from bertjax.model.dropout import dropout
from bertjax.model.dropout import random_bits as bits_at
from bertjax.tasks import make_model
from tests.support.batches import make_examples
from tests.support.models import TINY

SIDE = 1000
COUNT = SIDE * SIDE


def places(shape):
    """The coordinates of every element."""
    return [jnp.asarray(axis) for axis in np.indices(shape, np.int32, sparse=True)]


def random_bits(key, shape):
    return bits_at(key, *places(shape))


def keep(key, rate=0.1):
    return np.asarray(dropout(key, rate, jnp.ones((SIDE, SIDE)), *places((SIDE, SIDE)))) > 0


def correlation(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_rate_and_expectation(rate):
    x = np.asarray(dropout(jax.random.PRNGKey(0), rate, jnp.ones((SIDE, SIDE)), *places((SIDE, SIDE))))
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


def test_masks_of_a_shape_are_traced_once():
    def masked_twice(key, x):
        for each in jax.random.split(key):
            x = dropout(each, 0.1, x, *places((5, 3)))
        return x

    text = jax.jit(masked_twice).lower(jax.random.key(0), jnp.ones((5, 3))).as_text()
    assert text.count("func private @random_bits") == 1
    assert text.count("call @random_bits") == 2


@pytest.mark.parametrize("rows", [[[0, 1], [2, 3]], [[2], [3, 0], [1]], [[3, 2, 1, 0]]], ids=["two", "three", "one"])
@pytest.mark.parametrize("task", ["classification", "token_classification"])
def test_masks_follow_examples_into_any_layout(task, rows):
    """However examples share rows, each has the masks that it has alone in one."""
    model = make_model(TINY, task, ("a", "b", "c"))
    params = model.init(jax.random.PRNGKey(0))
    examples = make_examples(4, lengths=(3, 10))

    @jax.jit
    def logits_of(batch):
        return model.apply(params, jax.random.PRNGKey(1), batch, deterministic=False).logits

    def outputs(rows):
        """The output of each example, or of each of its tokens."""
        layout = Layout(len(rows), 40, 4)
        packed = collate(examples, np.arange(4), rows, layout)
        logits = np.asarray(logits_of(packed.batch))
        of_tokens = task == "token_classification"
        ids = packed.token_sources(examples.offsets) if of_tokens else packed.example_ids
        return logits[ids >= 0][np.argsort(ids[ids >= 0])]

    alone = [[0], [1], [2], [3]]
    # float32 sums over other numbers of terms
    np.testing.assert_allclose(outputs(rows), outputs(alone), rtol=1e-5, atol=1e-6)
    assert np.abs(outputs(alone) - outputs([[1], [0], [2], [3]])).max() < 1e-6, "rows in another order, too"
