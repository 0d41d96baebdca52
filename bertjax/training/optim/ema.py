"""Exponential moving average of the parameters, used for evaluation and for the final model.

Source: Polyak and Juditsky 1992 for the average; its decay rises from 0.1 as in TensorFlow's
`ExponentialMovingAverage`, so that the average of a short run is not dominated by its first weights.
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax
from optax.contrib import ScheduleFreeState, schedule_free_eval_params

from bertjax.model.precision import under_standard_rules
from bertjax.tasks import Params
from bertjax.training.optim.optimizer_state import AveragedState, find
from bertjax.training.train_state import TrainState


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformationExtraArgs:
    """An optimizer that keeps an exponential moving average of the parameters it updates.

    After update t = 1, 2, ..: average = d * average + (1 - d) * params, with d = min(decay, t / (t + 9)).

    Args:
      optimizer: updates the parameters; the average does not affect it.
      decay: in (0, 1).
    """

    def init(params: Params) -> AveragedState:
        # A copy, since the same buffer cannot be donated twice.
        return AveragedState(optimizer.init(params), jax.tree.map(jnp.array, params), jnp.zeros((), jnp.int32))

    inner_update = optax.with_extra_args_support(optimizer).update

    def update(grads: Params, state: AveragedState, params: Params, **extra: Any) -> tuple[Params, AveragedState]:
        updates, inner = inner_update(grads, state.inner, params, **extra)
        done = state.updates + 1
        share = jnp.minimum(decay, done / (done + 9))
        moved = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda old, new: share * old + (1 - share) * new, state.average, moved)
        return updates, AveragedState(inner, average, done)

    return optax.GradientTransformationExtraArgs(init, update)


@under_standard_rules()
def evaluation_params(state: TrainState) -> Params:
    """The parameters to evaluate and to save: the average if the optimizer keeps one, else the trained parameters."""
    if (ours := find(state.opt_state, AveragedState)) is not None:
        return hk.data_structures.merge(state.params, ours.average)
    if (free := find(state.opt_state, ScheduleFreeState)) is not None:
        # Defazio et al. 2024: gradients are taken at y = (1 - b1) z + b1 x, and x is the average.
        moving = {module: {name: state.params[module][name] for name in leaves} for module, leaves in free.z.items()}
        return hk.data_structures.merge(state.params, schedule_free_eval_params(free, moving))
    return state.params
