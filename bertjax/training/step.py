"""One training step, pure: (state, batch) -> (state, metrics).

It comes in two halves, `gradient` and `update`, because the second does not depend on the batch: compiled apart, each
new batch shape compiles only the first half, and the optimizer compiles once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jaxtyping import Array

from bertjax.batch import Batch
from bertjax.model.heads import BertOutput
from bertjax.tasks import Model, Params

Metrics = dict[str, Array]
Loss = Callable[[BertOutput, Batch], Array]


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
      gradient: (state, batch) -> (grads, metrics with the loss).
      update: (state, grads) -> (state, metrics with the gradient's global norm).
    """

    gradient: Callable[[TrainState, Batch], tuple[Params, Metrics]]
    update: Callable[[TrainState, Params], tuple[TrainState, Metrics]]

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, loss_metrics = self.gradient(state, batch)
        state, update_metrics = self.update(state, grads)
        return state, loss_metrics | update_metrics


def init_state(params: Params, optimizer: optax.GradientTransformation, rng_key: Array) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimizer.init(params), jax.numpy.zeros((), jax.numpy.int32), rng_key)


def make_train_step(
    model: Model, optimizer: optax.GradientTransformation, loss: Loss, axis_name: str | None = None
) -> TrainStep:
    """The step of a model, an optimizer and a loss.

    The loss is the mean over the examples of the whole batch, on all devices; empty slots weigh nothing, so packing
    and padding never change it.

    Args:
      model: what to train.
      optimizer: how.
      loss: (output, batch) -> [B, E] the loss of each example slot.
      axis_name: the mapped axis over devices that the step runs under, or None on one device.
    """

    def gradient(state: TrainState, batch: Batch) -> tuple[Params, Metrics]:
        rng_key = jax.random.fold_in(state.rng_key, state.step)
        if axis_name is not None:
            # One key on every device would draw one dropout mask on every device.
            rng_key = jax.random.fold_in(rng_key, lax.axis_index(axis_name))
        num_examples = _sum_over(axis_name, batch.example_weights.sum())

        def share_of_mean_loss(params: Params) -> Array:
            output = model.apply(params, rng_key, batch, deterministic=False)
            return (loss(output, batch) * batch.example_weights).sum() / num_examples

        mean_loss, grads = _sum_over(axis_name, jax.value_and_grad(share_of_mean_loss)(state.params))
        return grads, {"loss": mean_loss}

    def update(state: TrainState, grads: Params) -> tuple[TrainState, Metrics]:
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new_state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return new_state, {"grad_norm": optax.tree.norm(grads)}

    return TrainStep(gradient, update)


def _sum_over(axis_name: str | None, tree: Any) -> Any:
    """The sum over devices. On one device there is nothing to add, and XLA would copy every gradient to say so."""
    if axis_name is None or lax.axis_size(axis_name) == 1:
        return tree
    return lax.psum(tree, axis_name)
