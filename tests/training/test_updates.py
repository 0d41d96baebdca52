"""What a step does beside descending: gradients in parts, steps that are skipped, a state that keeps its shape."""

from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bertjax.devices.data_parallel import AXIS, split_rows
from bertjax.losses import cross_entropy
from bertjax.model.precision import under_standard_rules
from bertjax.tasks import make_model
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.optimizer import make_optimizer, optax_chain
from bertjax.training.optim.optimizer_state import find
from bertjax.training.optim.schedules import learning_rate_schedule
from bertjax.training.settings.optimizer_defaults import OPTIMIZERS
from bertjax.training.settings.options import Optimizer
from bertjax.training.step import train_step
from bertjax.training.step.train_step import chosen, looped, make_train_step, not_finite_parameters
from tests.support.batches import EIGHT_ROWS as BATCH
from tests.support.models import TINY

MODEL = make_model(replace(TINY, num_layers=1), "classification", ("a", "b", "c"))  # with dropout
PARAMS = MODEL.init(jax.random.PRNGKey(0))
KEY = jax.random.PRNGKey(0)
POISON = 63  # a token that the examples do not have


def gradient_on(num_devices, accumulate):
    step = make_train_step(MODEL, optax.sgd(0.1), cross_entropy, axis_name=AXIS, accumulate=accumulate)
    devices = jax.devices()[:num_devices]
    gradient = jax.pmap(step.gradient, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)
    grads, metrics = gradient(step.init(PARAMS, KEY), jax.tree.map(lambda leaf: split_rows(leaf, num_devices), BATCH))
    return jax.device_get((grads, metrics["loss"]))


@pytest.mark.parametrize(("num_devices", "accumulate"), [(1, 8), (2, 4)])
def test_parts_of_a_batch_have_its_loss_and_gradient(num_devices, accumulate):
    """With dropout: an example has the same masks in any part, on any device."""
    assert len({int(count) for count in (BATCH.example_weights > 0).sum(axis=1)}) > 1, "rows of different weight"
    whole, loss = gradient_on(1, 1)
    parts, loss_of_parts = gradient_on(num_devices, accumulate)
    np.testing.assert_allclose(loss_of_parts, loss, rtol=1e-6)
    # float32 sums over other numbers of terms
    chex.assert_trees_all_close(parts, whole, rtol=1e-7, atol=5e-7)


def test_an_update_takes_the_sums_of_squares_that_came_with_the_gradient():
    """The right sums, in float64; and other ones clip otherwise: the update does not read the gradient for them."""
    step, state = started(Optimizer(clip_norm=1e-3, warmup=0.0, learning_rate=1.0))
    grads, metrics = jax.jit(step.gradient)(state, BATCH)
    right = [np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(jax.device_get(grads))]
    np.testing.assert_allclose(metrics["squares"], right, rtol=1e-5)
    update, loss = jax.jit(step.update), metrics["loss"]
    after, told = update(state, grads, loss, metrics["squares"])
    alone, told_alone = update(state, grads, loss)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), (after, told), (alone, told_alone))
    _, told = update(state, grads, loss, metrics["squares"].at[0].set(jnp.nan))
    assert told["skipped"] == 1
    other, told = update(state, grads, loss, 4 * metrics["squares"])
    np.testing.assert_allclose(told["grad_norm"], 2 * told_alone["grad_norm"], rtol=1e-5)
    adam, adam_of_other = (find(state.opt_state, optax.ScaleByAdamState) for state in (after, other))
    np.testing.assert_allclose(2 * adam_of_other.mu["classifier"]["w"], adam.mu["classifier"]["w"], rtol=1e-5)


def test_examples_draw_masks_of_their_own():
    """Even equal ones: as the first and as the second of a batch, a text has other masks."""
    model = make_model(replace(MODEL.config, hidden_dropout_rate=0.5), "classification", ("a", "b", "c"))
    row_twice = jax.tree.map(lambda leaf: np.stack([leaf[0], leaf[0]]), BATCH)
    row_twice.example_numbers[1] += row_twice.example_numbers.max() + 1
    first, second = model.apply(PARAMS, KEY, row_twice, deterministic=False).logits
    assert np.abs(np.asarray(first - second)).max(axis=-1)[BATCH.example_weights[0] > 0].min() > 1e-4


def started(settings, **options):
    step = make_train_step(MODEL, make_optimizer(settings, 10, MODEL), cross_entropy, **options)
    return step, step.init(PARAMS, KEY)


def same_bits(left, right):
    return jax.tree.structure(left) == jax.tree.structure(right) and jax.tree.all(
        jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), left, right)
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_keeps_its_structure_and_a_bad_gradient_changes_none_of_it(name):
    """Compiled once: a state of another structure or type would not be taken."""
    averaged = {} if name == "schedule_free_adamw" else {"ema_decay": 0.9}
    step, state = started(Optimizer(name, **averaged), freeze=("embeddings",))
    grads = jax.tree.map(lambda leaf: 1e-2 * jnp.ones_like(leaf), step.trainable(PARAMS))
    bad = jax.tree.map(jnp.array, grads)
    bad["bert/layer_0/output"]["w"] = bad["bert/layer_0/output"]["w"].at[3, 4].set(jnp.inf)
    bad["classifier"]["b"] = bad["classifier"]["b"].at[1].set(jnp.nan)
    update = jax.jit(step.update).lower(state, grads, jnp.float32(1)).compile()

    for _ in range(2):
        state, metrics = update(state, grads, jnp.float32(1))
        assert metrics["skipped"] == 0
    for wrong_grads, loss, paths in [
        (bad, 1.0, ["bert/layer_0/output/w", "classifier/b"]),
        (grads, np.nan, []),
        (grads, np.inf, []),
    ]:
        after, metrics = update(state, wrong_grads, jnp.float32(loss))
        assert metrics["skipped"] == 1
        assert not_finite_parameters(step.trainable(PARAMS), metrics) == paths
        assert same_bits(after._replace(step=state.step), state)
        assert int(after.step) == int(state.step) + 1  # the batch is gone
    after, _ = update(after, grads, jnp.float32(1))
    assert not same_bits(after.params, state.params)


def test_a_whole_step_survives_a_loss_that_is_not_finite():
    params = jax.tree.map(jnp.array, PARAMS)
    params["bert/embeddings/word"]["embeddings"] = params["bert/embeddings/word"]["embeddings"].at[POISON].set(jnp.inf)
    step, _ = started(Optimizer())
    state, jitted = step.init(params, KEY), jax.jit(step)
    poisoned = BATCH._replace(token_ids=np.where(BATCH.token_ids == BATCH.token_ids[0, 0], POISON, BATCH.token_ids))
    state, metrics = jitted(state, poisoned)
    assert metrics["skipped"] == 1
    assert not np.isfinite(metrics["loss"])
    assert same_bits(state.params, params)
    state, metrics = jitted(state, BATCH)
    assert metrics["skipped"] == 0
    assert np.isfinite(metrics["loss"])
    assert jitted._cache_size() == 1


def test_the_learning_rate_of_a_step_is_told():
    step, state = started(Optimizer(learning_rate=1.0, warmup=0.5))
    grads, update, rates = step.trainable(PARAMS), jax.jit(step.update), []
    for loss in (1.0, 1.0, np.nan, 1.0):
        state, metrics = update(state, grads, jnp.float32(loss))
        rates.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(rates, [0.0, 0.2, 0.2, 0.4], atol=1e-7)  # a skipped step is no step of the schedule


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_frozen_have_no_state_with_any_optimizer(name):
    averaged = {} if name == "schedule_free_adamw" else {"ema_decay": 0.9}
    _, free = started(Optimizer(name, **averaged))
    _, frozen = started(Optimizer(name, **averaged), freeze=("backbone",))
    head = sum(leaf.size for leaf in jax.tree.leaves(PARAMS["classifier"]))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(frozen.opt_state))
    assert numbers < 4 * head + 40  # two moments and an average at most, and counters
    assert numbers < sum(leaf.size for leaf in jax.tree.leaves(free.opt_state)) / 10


@pytest.mark.parametrize("settings", [Optimizer(ema_decay=0.9), Optimizer("schedule_free_adamw", learning_rate=0.1)])
def test_what_is_evaluated_is_averaged_where_it_is_trained_and_frozen_elsewhere(settings):
    step, state = started(settings, freeze=("embeddings",))
    grads, update = jax.tree.map(jnp.ones_like, step.trainable(PARAMS)), jax.jit(step.update)
    for _ in range(5):
        state, _ = update(state, grads, jnp.float32(1))
    evaluated = evaluation_params(state)
    assert jax.tree.structure(evaluated) == jax.tree.structure(dict(state.params))
    assert not np.array_equal(evaluated["classifier"]["w"], state.params["classifier"]["w"])
    assert same_bits(evaluated["bert/embeddings/word"], PARAMS["bert/embeddings/word"])


def test_without_an_average_the_trained_are_evaluated():
    _, state = started(Optimizer())
    assert evaluation_params(state) is state.params


SETTINGS = {
    "clipped, all decayed": Optimizer(clip_norm=1e-3, no_decay=(), weight_decay=0.3),
    "not clipped, none decayed": Optimizer(clip_norm=None, weight_decay=0.0),
    "rates of layers": Optimizer(layer_decay=0.5, head_learning_rate=1e-3),
    "plateau": Optimizer(schedule="reduce_on_plateau"),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_adamw_in_one_expression_is_that_of_optax(settings):
    """From a state that Optax made, as an old checkpoint is: the structure of the state is Optax's too."""
    settings = settings.resolved()
    chain = optax_chain(settings, learning_rate_schedule(settings, 10), MODEL)
    ours = make_optimizer(settings, 10, MODEL)
    rng = np.random.default_rng(0)
    theirs_params = ours_params = PARAMS
    theirs_state = ours_state = chain.init(PARAMS)
    assert same_bits(ours.init(PARAMS), theirs_state)
    update, update_chain = jax.jit(ours.update), jax.jit(under_standard_rules()(chain.update))
    for step in range(6):
        grads = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), PARAMS)
        updates, theirs_state = update_chain(grads, theirs_state, theirs_params)
        theirs_params = optax.apply_updates(theirs_params, updates)
        if step < 2:
            ours_params, ours_state = theirs_params, theirs_state
            continue
        updates, ours_state = update(grads, ours_state, ours_params)
        ours_params = optax.apply_updates(ours_params, updates)
    assert jax.tree.structure(ours_state) == jax.tree.structure(theirs_state)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-7), ours_state, theirs_state)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), ours_params, theirs_params)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_a_choice_in_each_leaf_is_the_loop_of_one_turn(name, monkeypatch):
    """What a GPU runs and what a CPU runs: the same bits where a step is skipped, the same numbers where it is not."""
    ended = []
    for how in (looped, chosen):
        monkeypatch.setattr(train_step, "unless", how)
        step, state = started(Optimizer(name, warmup=0.0))
        grads = jax.tree.map(lambda leaf: 1e-2 * jnp.ones_like(leaf), PARAMS)
        update = jax.jit(step.update)
        moved, _ = update(state, grads, jnp.float32(1))
        kept, metrics = update(moved, grads, jnp.float32(np.nan))
        assert metrics["skipped"] == 1
        assert same_bits(kept._replace(step=moved.step), moved)
        ended.append(moved)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8), *ended)
