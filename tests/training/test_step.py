"""The step: packing and padding change its speed and nothing else."""

import chex
import jax
import numpy as np

from bertjax.losses import cross_entropy
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.train_step import make_train_step
from tests.support.batches import batches_of, make_examples
from tests.support.models import network


def test_packed_and_padded_losses_and_gradients_are_equal():
    """With dropout: an example has the same masks in any row."""
    model, params = network()
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
        chex.assert_trees_all_close(left_grads, right_grads, rtol=1e-7, atol=5e-7)


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
