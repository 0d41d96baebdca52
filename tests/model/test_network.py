"""The network: its parameter names, and what must not change a number."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.batch import Batch, padded_batch
from bertjax.losses import cross_entropy
from bertjax.model.layers import gelu, look_up
from bertjax.tasks import initialised, make_model, parameter_shapes
from tests.support.models import TINY

LABELS = ("a", "b", "c")

GOLDEN_TREE = """
bert/embeddings/norm offset (16,)
bert/embeddings/norm scale (16,)
bert/embeddings/position embeddings (48, 16)
bert/embeddings/token_type embeddings (2, 16)
bert/embeddings/word embeddings (64, 16)
bert/layer_0/attention/key b (16,)
bert/layer_0/attention/key w (16, 16)
bert/layer_0/attention/output b (16,)
bert/layer_0/attention/output w (16, 16)
bert/layer_0/attention/query b (16,)
bert/layer_0/attention/query w (16, 16)
bert/layer_0/attention/value b (16,)
bert/layer_0/attention/value w (16, 16)
bert/layer_0/attention_norm offset (16,)
bert/layer_0/attention_norm scale (16,)
bert/layer_0/intermediate b (32,)
bert/layer_0/intermediate w (16, 32)
bert/layer_0/output b (16,)
bert/layer_0/output w (32, 16)
bert/layer_0/output_norm offset (16,)
bert/layer_0/output_norm scale (16,)
classifier b (3,)
classifier w (16, 3)
pooler b (16,)
pooler w (16, 16)
"""


def network(pooling="pooler"):
    model = make_model(TINY, "classification", LABELS, pooling)
    return model, model.init(jax.random.PRNGKey(0))


def three_examples() -> tuple[list[np.ndarray], np.random.Generator]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, 60, length) for length in (7, 3, 10)], rng


def padded(examples, length=12) -> Batch:
    ids, mask = np.zeros((len(examples), length), int), np.zeros((len(examples), length), int)
    for row, example in enumerate(examples):
        ids[row, : len(example)], mask[row, : len(example)] = example, 1
    return padded_batch(mask, ids)


def packed(examples, length=24, slots=5) -> Batch:
    """All examples in one row, with empty slots."""
    ids = np.zeros((1, length), np.int32)
    positions, segments = np.zeros_like(ids), np.zeros_like(ids)
    starts, weights = np.zeros((1, slots), np.int32), np.zeros((1, slots), np.float32)
    start = 0
    for i, example in enumerate(examples):
        end = start + len(example)
        ids[0, start:end], positions[0, start:end], segments[0, start:end] = example, range(len(example)), i + 1
        starts[0, i], weights[0, i] = start, 1
        start = end
    numbers = np.arange(slots, dtype=np.int32)[None]
    return Batch(ids, np.zeros_like(ids), positions, segments, starts, numbers, np.zeros_like(starts), weights)


@pytest.mark.parametrize("seed", [0, 7])
def test_fresh_parameters_are_those_of_a_network_that_is_all_fresh(seed):
    """The same bits, though the others are not drawn."""
    model, rng_key = network()[0], jax.random.key(seed)
    whole = jax.jit(model.init)(rng_key)
    fresh = tuple(
        (module, name) for module in ("classifier", "pooler", "bert/layer_0/output") for name in whole[module]
    )
    chex.assert_trees_all_equal(
        initialised(model.init, fresh)(rng_key), [whole[module][name] for module, name in fresh]
    )


def test_parameter_tree_is_the_golden_one():
    """Names are what checkpoints, path patterns and users rely on. If a change is meant, change the tree above."""
    shapes = parameter_shapes(network()[0])
    lines = [f"{module} {name} {leaf.shape}" for module in shapes for name, leaf in shapes[module].items()]
    one_layer = sorted(line for line in lines if "layer_1" not in line)
    assert "\n".join(one_layer) == GOLDEN_TREE.strip()
    assert len(lines) == len(one_layer) + 16


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_packed_equals_padded(pooling):
    model, params = network(pooling)
    examples, _ = three_examples()
    one_a_row = model.apply(params, None, padded(examples)).logits[:, 0]
    one_row = model.apply(params, None, packed(examples)).logits[0, :3]
    np.testing.assert_allclose(one_row, one_a_row, atol=2e-7)  # sums over other lengths round differently


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_padding_and_neighbours_change_nothing(pooling):
    model, params = network(pooling)
    examples, rng = three_examples()
    batch = packed(examples)
    noise = np.where(batch.segment_ids == 0, rng.integers(5, 60, batch.token_ids.shape), batch.token_ids)
    other_neighbour = np.where(batch.segment_ids == 2, 7, noise)
    first = model.apply(params, None, batch).logits[0, [0, 2]]
    second = model.apply(params, None, batch._replace(token_ids=other_neighbour)).logits[0, [0, 2]]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("pooling", ["pooler", "cls"])
def test_reading_the_last_layer_at_starts_only_changes_nothing(pooling):
    """Neither logits, nor loss, nor gradient; whoever asks for hidden states gets every position."""
    model, params = network(pooling)
    batch = packed(three_examples()[0])._replace(labels=np.array([[2, 0, 1, 0, 0]], np.int32))

    def loss_and_output(params, everywhere):
        output = model.apply(params, None, batch, return_hidden_states=everywhere)
        return (cross_entropy(output, batch) * batch.example_weights).sum(), output

    def run(everywhere):
        return jax.value_and_grad(loss_and_output, has_aux=True)(params, everywhere)

    (loss, at_starts), grads = run(everywhere=False)
    (whole_loss, everywhere), whole_grads = run(everywhere=True)
    assert everywhere.hidden_states.shape == (3, 1, 24, 16)
    assert at_starts.hidden_states is None
    # Products of other shapes add up in another order.
    np.testing.assert_allclose(at_starts.logits, everywhere.logits, atol=2e-7)
    np.testing.assert_allclose(loss, whole_loss, atol=1e-6)
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, atol=1e-6), grads, whole_grads)


def test_the_last_layer_is_read_at_starts_by_default():
    """Its feed-forward block, the widest product of a layer, sees 5 slots and not 24 positions."""
    model, params = network()
    batch = packed(three_examples()[0])
    program = str(jax.make_jaxpr(lambda params: model.apply(params, None, batch).logits)(params))
    assert "f32[1,5,32]" in program
    assert program.count("f32[1,24,32] = dot_general") == 1


def test_empty_rows_stay_finite_and_have_no_gradient():
    model, params = network()
    batch = packed(three_examples()[0])
    batch = jax.tree.map(lambda leaf: np.concatenate([leaf, np.zeros_like(leaf)]), batch)

    def total(params):
        logits = model.apply(params, None, batch).logits
        return (logits.sum(-1) * batch.example_weights).sum()

    chex.assert_tree_all_finite(jax.grad(total)(params))


def test_dropout_follows_its_key():
    model, params = network()
    batch = padded(three_examples()[0])

    def logits(seed):
        return model.apply(params, jax.random.PRNGKey(seed), batch, deterministic=False).logits

    np.testing.assert_array_equal(logits(1), logits(1))
    assert np.abs(np.asarray(logits(1) - logits(2))).max() > 1e-4


def test_gelu_and_its_derivative_by_hand():
    x = jnp.linspace(-6, 6, 101)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), atol=5e-7)
    reference = jax.vmap(jax.grad(lambda v: jax.nn.gelu(v, approximate=False)))(x)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), reference, atol=5e-7)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 512], ids="rows={}".format)
def test_the_gradient_of_a_table_adds_the_tokens_of_each_row(size):
    """Beside numpy's sums in float64; an index outside of the table gives NaN, and adds nothing to any row."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(size, 8)).astype(np.float32)
    indices = rng.integers(0, size, (4, 50))
    indices[0, :2] = -1, size
    inside = (indices >= 0) & (indices < size)
    gradient = rng.normal(size=(4, 50, 8)).astype(np.float32)

    values, pullback = jax.vjp(lambda table: look_up(table, jnp.asarray(indices)), jnp.asarray(table))
    np.testing.assert_array_equal(values[inside], table[indices[inside]])
    assert np.isnan(values[~inside]).all()
    expected = np.zeros((size, 8))
    np.add.at(expected, indices[inside], gradient[inside].astype(np.float64))
    np.testing.assert_allclose(pullback(jnp.asarray(gradient))[0], expected, atol=1e-5)
