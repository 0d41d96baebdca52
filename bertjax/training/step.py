"""One training step, pure: (state, batch) -> (state, metrics).

It comes in two halves, `gradient` and `update`, because the second does not depend on the batch: compiled apart, each
new batch shape compiles only the first half, and the optimizer compiles once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from bertjax.batch import Batch
from bertjax.losses import Loss
from bertjax.tasks import Model, Params
from bertjax.training.freezing import freezing

Metrics = dict[str, Array]


class TrainState(NamedTuple):
    """All that a step changes.

    Attributes:
      step: [] int32 updates done.
      rng_key: of dropout; never changes, each step folds its number in.
    """

    params: Params
    opt_state: Any
    step: Array
    rng_key: Array


@dataclass(frozen=True)
class TrainStep:
    """A step in two halves; calling it runs both, and `jax.jit` takes it whole.

    Attributes:
      init: (params, rng_key) -> the state before the first step.
      trainable: params -> those of them that are not frozen; gradients and optimizer state have their shape.
      gradient: (state, batch) -> (grads, metrics with the loss).
      update: (state, grads) -> (state, metrics with the gradient's global norm).
    """

    init: Callable[[Params, Array], TrainState]
    trainable: Callable[[Params], Params]
    gradient: Callable[[TrainState, Batch], tuple[Params, Metrics]]
    update: Callable[[TrainState, Params], tuple[TrainState, Metrics]]

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, loss_metrics = self.gradient(state, batch)
        state, update_metrics = self.update(state, grads)
        return state, loss_metrics | update_metrics


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    axis_name: str | None = None,
    freeze: Sequence[str] = (),
) -> TrainStep:
    """The step of a model, an optimizer and a loss.

    The loss is the mean over what is labelled in the whole batch, on all devices; empty slots weigh nothing, so packing
    and padding never change it.

    Args:
      model: what to train.
      optimizer: how.
      loss: (output, batch) -> a loss for each of the batch's weights.
      axis_name: the mapped axis over devices that the step runs under, or None on one device.
      freeze: what stays as it is, see `freezing`; it has no gradient and no optimizer state.

    Raises:
      ConfigError: a pattern of `freeze` that matches nothing, or nothing left to train.
    """
    is_frozen = freezing(model, freeze)

    def split(params: Params) -> tuple[Params, Params]:
        return hk.data_structures.partition(lambda module, name, _: not is_frozen(module, name), params)

    def trainable(params: Params) -> Params:
        return split(params)[0]

    def init(params: Params, rng_key: Array) -> TrainState:
        return TrainState(params, optimizer.init(trainable(params)), jnp.zeros((), jnp.int32), rng_key)

    def gradient(state: TrainState, batch: Batch) -> tuple[Params, Metrics]:
        rng_key = jax.random.fold_in(state.rng_key, state.step)
        if axis_name is not None:
            # One key on every device would draw one dropout mask on every device.
            rng_key = jax.random.fold_in(rng_key, lax.axis_index(axis_name))
        moving, frozen = split(state.params)
        totals = _sum_over(axis_name, jax.tree.map(jnp.sum, batch.example_weights))

        def share_of_mean_loss(moving: Params) -> Array:
            params = hk.data_structures.merge(moving, frozen)
            output = model.apply(params, rng_key, batch, deterministic=False)
            means = jax.tree.map(_weighted_mean, loss(output, batch), batch.example_weights, totals)
            return sum(jax.tree.leaves(means), start=jnp.zeros(()))

        mean_loss, grads = _sum_over(axis_name, jax.value_and_grad(share_of_mean_loss)(moving))
        return grads, {"loss": mean_loss}

    def update(state: TrainState, grads: Params) -> tuple[TrainState, Metrics]:
        moving, frozen = split(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, moving)
        params = hk.data_structures.merge(optax.apply_updates(moving, updates), frozen)
        new_state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return new_state, {"grad_norm": optax.tree.norm(grads)}

    return TrainStep(init, trainable, gradient, update)


def _weighted_mean(losses: Array, weights: Array, total: Array) -> Array:
    """Over the whole batch, of which this may be one device's share; 0 where nothing is labelled."""
    return (losses * weights).sum() / jnp.where(total > 0, total, 1)


def _sum_over(axis_name: str | None, tree: Any) -> Any:
    """The sum over devices. On one device there is nothing to add, and XLA would copy every gradient to say so."""
    if axis_name is None or lax.axis_size(axis_name) == 1:
        return tree
    return lax.psum(tree, axis_name)
