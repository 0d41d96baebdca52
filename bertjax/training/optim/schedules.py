"""Learning rate schedules, and `reduce_on_plateau`, which follows the evaluations of a run."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from optax.contrib import ScheduleFreeState

from bertjax.errors import ConfigError
from bertjax.model.precision import under_standard_rules
from bertjax.training.optim.optimizer_state import LearningRateState, find, replaced
from bertjax.training.settings.options import Optimizer
from bertjax.training.train_state import TrainState

_TIMESCALE = 10_000  # steps; of the inverse square root without a warmup, as in transformers
_LEAST_GAIN = 1e-4  # by which an evaluation must be better; PyTorch's threshold


def learning_rate_schedule(config: Optimizer, total_steps: int) -> optax.Schedule:
    """Linear from 0 to the peak over the warmup, then `config.schedule`; the last step has a rate above 0.

    Raises:
      ConfigError: a warmup as long as the run.
    """
    settings = config.resolved()
    assert settings.learning_rate is not None, "resolved settings have one"
    assert settings.schedule is not None, "resolved settings have one"
    peak, end = settings.learning_rate, settings.learning_rate * settings.final_share
    warmup_steps = round(settings.warmup * total_steps) if settings.warmup < 1 else int(settings.warmup)
    if warmup_steps and warmup_steps >= total_steps:
        raise ConfigError(f"warmup takes {warmup_steps} of the {total_steps} steps of the run; it must be shorter")
    rest = total_steps - warmup_steps
    timescale = warmup_steps or _TIMESCALE
    after = {
        "linear": lambda: optax.linear_schedule(peak, end, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=settings.final_share),
        "constant": lambda: optax.constant_schedule(peak),
        "inverse_sqrt": lambda: lambda count: peak * jnp.sqrt(timescale / (jnp.maximum(count, 0) + timescale)),
        "polynomial": lambda: optax.polynomial_schedule(peak, end, settings.power, rest),
        "reduce_on_plateau": lambda: optax.constant_schedule(peak),
    }[settings.schedule]()
    if warmup_steps:
        after = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), after], [warmup_steps])
    return under_standard_rules()(after)


def descend(config: Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Turns a direction into an update, minus the learning rate times it, and keeps the rate in the state."""
    plateau = _plateau(config)

    def init(params: Any) -> LearningRateState:
        return LearningRateState(jnp.zeros((), jnp.int32), jnp.zeros(()), plateau.init(params))

    def update(directions: Any, state: LearningRateState, params: Any = None) -> tuple[Any, LearningRateState]:
        del params
        rate = next_rate(schedule, state)
        updates = jax.tree.map(lambda leaf: -rate.astype(leaf.dtype) * leaf, directions)
        return updates, LearningRateState(state.updates + 1, rate, state.plateau)

    return optax.GradientTransformation(init, update)


def next_rate(schedule: optax.Schedule, state: LearningRateState) -> Array:
    """[] float32 learning rate of the next update."""
    return jnp.asarray(schedule(state.updates), jnp.float32) * getattr(state.plateau, "scale", 1.0)


@under_standard_rules()
def after_evaluation(config: Optimizer, state: TrainState, value: float) -> TrainState:
    """The state after an evaluation: `reduce_on_plateau` lowers its learning rate when the evaluation is no better.

    Args:
      config: the optimizer settings of the run.
      state: placed on the devices, where it stays.
      value: the less, the better: a loss, or the negative of a score.
    """
    rate = find(state.opt_state, LearningRateState)
    if rate is None or config.schedule != "reduce_on_plateau":
        return state
    _, plateau = _plateau(config).update((), jax.device_get(rate.plateau), value=value)
    placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), plateau, rate.plateau)
    opt_state = replaced(state.opt_state, LearningRateState, rate._replace(plateau=placed))
    return state._replace(opt_state=opt_state)


def rescaled(opt_state: Any, share: float) -> Any:
    """The optimizer's host state at the same place of its schedule, where the schedule has `share` times the steps."""
    for kind, count in ((LearningRateState, "updates"), (ScheduleFreeState, "step_count")):
        if (state := find(opt_state, kind)) is not None:
            done = np.asarray(getattr(state, count))
            moved = np.asarray(round(int(done) * share), done.dtype)
            opt_state = replaced(opt_state, kind, state._replace(**{count: moved}))
    return opt_state


@under_standard_rules()
def with_plateau_of(config: Optimizer, opt_state: Any, fresh: Any, costs: Iterable[float]) -> Any:
    """The optimizer's host state with the learning rate of `reduce_on_plateau` after these evaluations.

    Args:
      config: the optimizer settings of the run.
      opt_state: the state to change.
      fresh: the state before the first step.
      costs: of each evaluation so far; see `after_evaluation`.
    """
    rate, start = find(opt_state, LearningRateState), find(fresh, LearningRateState)
    if rate is None or start is None or config.schedule != "reduce_on_plateau":
        return opt_state
    plateau = jax.device_get(start.plateau)
    for cost in costs:
        _, plateau = _plateau(config).update((), plateau, value=cost)
    return replaced(opt_state, LearningRateState, rate._replace(plateau=jax.device_get(plateau)))


def _plateau(config: Optimizer) -> optax.GradientTransformationExtraArgs:
    """`reduce_on_plateau` of Optax, else the identity; its gain is absolute, since scores may be negative."""
    if config.schedule != "reduce_on_plateau":
        return optax.with_extra_args_support(optax.identity())
    return optax.contrib.reduce_on_plateau(
        factor=config.plateau_factor, patience=config.plateau_patience, rtol=0.0, atol=_LEAST_GAIN
    )
