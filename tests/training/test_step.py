"""The step: packing, padding and the number of devices change its speed and nothing else."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from bertjax.data.batches import InMemory, plan_training
from bertjax.data.examples import Examples
from bertjax.losses import cross_entropy
from bertjax.tasks import make_model
from bertjax.training import parallel
from bertjax.training.optimizer import make_optimizer
from bertjax.training.options import Optimizer
from bertjax.training.step import make_train_step
from tests.conftest import TINY

LABELS = ("a", "b", "c")


def make_examples(count=30, seed=0) -> Examples:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 30, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(5, 60, offsets[-1]).astype(np.int32)
    return Examples(tokens, np.zeros_like(tokens), offsets, rng.integers(0, 3, count).astype(np.int32), 0)


def network(config=TINY):
    model = make_model(config, "classification", LABELS)
    return model, model.init(jax.random.PRNGKey(0))


def without_dropout():
    return network(replace(TINY, hidden_dropout_rate=0.0, attention_dropout_rate=0.0))


def batches_of(examples, packed, devices=1, batch_size=8, epochs=1):
    plan = plan_training(examples.lengths, batch_size, epochs, 0, 16, devices, packed)
    return plan, [laid_out.batch for laid_out in InMemory(examples, plan).batches()]


def test_packed_and_padded_losses_and_gradients_are_equal():
    model, params = without_dropout()
    optimizer = make_optimizer(Optimizer(), 10, model)
    step = make_train_step(model, optimizer, cross_entropy)
    state = step.init(params, jax.random.PRNGKey(0))
    examples = make_examples()
    _, packed = batches_of(examples, packed=True)
    _, padded = batches_of(examples, packed=False)
    for left, right in zip(packed, padded, strict=True):
        left_grads, left_metrics = jax.jit(step.gradient)(state, left)
        right_grads, right_metrics = jax.jit(step.gradient)(state, right)
        np.testing.assert_allclose(left_metrics["loss"], right_metrics["loss"], rtol=1e-6)
        # float32 sums over other numbers of terms
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-7), left_grads, right_grads)


def run_on(num_devices, monkeypatch):
    """Losses and parameters of a run without dropout on some of the host's devices."""
    devices = jax.devices()[:num_devices]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    model, params = without_dropout()
    examples = make_examples()
    plan, batches = batches_of(examples, packed=True, devices=num_devices, epochs=5)
    optimizer = make_optimizer(Optimizer(learning_rate=1e-3), len(batches), model)
    step = make_train_step(model, optimizer, cross_entropy, axis_name=parallel.AXIS)
    state = step.init(params, jax.random.PRNGKey(0))
    engine = parallel.compile_engine(model, step, state, plan.empty_batches)
    state = engine.place(state)
    losses = []
    for batch in batches:
        state, metrics = engine.train(state, batch)
        losses.append(float(metrics["loss"]))
    return losses, state


def test_two_devices_equal_one(monkeypatch):
    one, _ = run_on(1, monkeypatch)
    two, _ = run_on(2, monkeypatch)
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_devices_draw_different_dropout_masks():
    model, params = network()
    optimizer = optax.sgd(0.0)
    step = make_train_step(model, optimizer, cross_entropy, axis_name=parallel.AXIS)
    state = step.init(params, jax.random.PRNGKey(0))
    _, batches = batches_of(make_examples(2), packed=False, batch_size=1)
    same_row_twice = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), batches[0])

    def logits_of_a_device(state, batch):
        key = jax.random.fold_in(jax.random.fold_in(state.rng_key, state.step), jax.lax.axis_index(parallel.AXIS))
        return model.apply(state.params, key, batch, deterministic=False).logits

    # The keys are the step's own: its gradient must be the mean of what these two masks give.
    logits = jax.pmap(logits_of_a_device, parallel.AXIS, in_axes=(None, 0))(state, same_row_twice)
    assert np.abs(np.asarray(logits[0] - logits[1])).max() > 1e-4
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, 0, 0], batches[0].labels[0])
    gradient = jax.pmap(step.gradient, parallel.AXIS, in_axes=(None, 0), out_axes=None)
    _, metrics = gradient(state, same_row_twice)
    np.testing.assert_allclose(float(metrics["loss"]), float(losses.mean()), rtol=1e-5)


def test_eight_examples_are_learned_by_heart():
    model, params = network()
    examples = make_examples(8)
    _, batches = batches_of(examples, packed=True, epochs=60)
    optimizer = make_optimizer(Optimizer(learning_rate=3e-3), len(batches), model)
    step = make_train_step(model, optimizer, cross_entropy)
    state = step.init(params, jax.random.PRNGKey(0))
    jitted = jax.jit(step)
    for batch in batches:
        state, metrics = jitted(state, batch)
    logits = model.apply(state.params, None, batches[-1]).logits
    right = (np.argmax(logits, -1) == batches[-1].labels)[batches[-1].example_weights > 0]
    assert right.all()
    assert int(state.step) == 60


@pytest.mark.parametrize("rows", [2, 6])
def test_rows_are_split_over_devices_in_order(rows):
    _, batches = batches_of(make_examples(rows), packed=False, batch_size=rows, devices=2)
    split = parallel.split_rows(batches[0], 2)
    np.testing.assert_array_equal(split.token_ids.reshape(batches[0].token_ids.shape), batches[0].token_ids)
