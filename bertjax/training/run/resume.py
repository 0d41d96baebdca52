"""Continues a run from a checkpoint, also where its settings or rows have changed (`--allow-changed`).

Progress is kept in epochs. If an epoch has another number of steps than before, the run stays at its epoch: its step
count goes on counting updates, its schedule continues at the same fraction of its length, and
`TrainMetrics.step_offset` converts between the two. What follows from the evaluations so far (the best of them, the
patience, the learning rate of `reduce_on_plateau`) is kept, unless what it derives from has changed.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

from bertjax.data.batching.batch_plan import Plan
from bertjax.errors import RunFolderError
from bertjax.training.checkpoint.checkpoints import Restored
from bertjax.training.loop.early_stopping import TRAINING_LOSS, VALIDATION, BestSoFar, choose_best_metric
from bertjax.training.loop.train_metrics import TrainMetrics
from bertjax.training.optim.schedules import rescaled, with_plateau_of
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.resume_rules import Change, listed
from bertjax.training.train_state import TrainState

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """How far a run has come: epochs that are done, and steps of the next one."""

    epochs: int
    steps: int


def continue_from(
    restored: Restored,
    changes: Sequence[Change],
    config: FineTuneConfig,
    plan: Plan,
    fresh: TrainState,
    validates: bool,
) -> tuple[TrainState, TrainMetrics]:
    """The state and the counters to continue with.

    Args:
      restored: the checkpoint.
      changes: what has changed since, all of it allowed.
      config: the settings to continue with.
      plan: of the run as the settings at hand make it.
      fresh: the state before the first step.
      validates: whether the run has validation rows.

    Raises:
      ConfigError: a setting needs validation rows, and there are none.
      RunFolderError: a change that cannot be made at this place of the run.
    """
    state, metrics = restored.state, _with_steps(TrainMetrics.from_json(restored.progress), plan)
    if changes:
        state, metrics = _on_plan(state, metrics, changes, plan)
        if any(change.effect == "decided again" for change in changes):
            state, metrics = _decided_again(state, metrics, changes, config, fresh, validates)
        logger.warning("continuing though something has changed: %s", listed(changes))
    return state, replace(metrics, steps_per_epoch=plan.steps_per_epoch)


def _with_steps(metrics: TrainMetrics, plan: Plan) -> TrainMetrics:
    """Counters with the steps of their history, which earlier versions did not record."""
    if metrics.steps_per_epoch:
        return metrics
    steps = [round(row["epoch"] * plan.steps_per_epoch) for row in metrics.history]
    return replace(metrics, history_steps=steps)


def _on_plan(
    state: TrainState, metrics: TrainMetrics, changes: Sequence[Change], plan: Plan
) -> tuple[TrainState, TrainMetrics]:
    """The same place of the run in the epochs of `plan`."""
    step, before, now = int(state.step), metrics.steps_per_epoch, plan.steps_per_epoch
    of_settings = [change for change in changes if change.effect == "between epochs"]
    of_rows = [change for change in changes if change.key == "train_rows"]
    if (of_settings or of_rows) and not before:
        raise RunFolderError(
            f"the checkpoint of step {step} is of an earlier version, which did not record the length of its epochs, "
            f"and {[*of_settings, *of_rows][0]}; continue as it began, or start again with --overwrite"
        )
    place = Place(*divmod(step - metrics.step_offset, before or now))
    if place.steps and of_settings:
        raise RunFolderError(
            f"the checkpoint of step {step} is within epoch {place.epochs + 1}, and this can only change between "
            f"epochs: {of_settings[0]}; let the run end its epoch with the settings it has, or start again with "
            f"--overwrite"
        )
    begun = place.epochs + (place.steps > 0)
    if begun > plan.epochs:
        raise RunFolderError(
            f"the run has begun its epoch {begun}, and with --epochs {plan.epochs} it would have ended before; give as "
            f"many, or start again with --overwrite"
        )
    if place.steps and of_rows:
        logger.warning("epoch %d goes on with other rows: some of its examples come twice, others not at all", begun)
    if not before or before == now:
        return state, metrics
    state = state._replace(opt_state=rescaled(state.opt_state, now / before))
    planned = place.epochs * now + place.steps * now // before
    return state, replace(metrics, step_offset=step - planned)


def _decided_again(
    state: TrainState,
    metrics: TrainMetrics,
    changes: Sequence[Change],
    config: FineTuneConfig,
    fresh: TrainState,
    validates: bool,
) -> tuple[TrainState, TrainMetrics]:
    """State and counters with all decisions that follow from evaluations, taken by the present settings."""
    best_metric = choose_best_metric(config.evaluation, config.early_stopping, validates)
    rows = list(zip(metrics.history_steps, metrics.history, strict=True))
    if any(change.key == "validation_rows" for change in changes):
        logger.info("evaluations on the validation rows of before are not compared with those from here on")
        rows = [(step, _without_validation(row)) for step, row in rows]
    best = BestSoFar()
    if best_metric is not None:
        best = reduce(lambda best, row: best_metric.update(best, *row), rows, best)
    costs = ((best_metric or TRAINING_LOSS).cost(row) for _, row in rows)
    opt_state = with_plateau_of(
        config.optimizer, state.opt_state, fresh.opt_state, [cost for cost in costs if cost is not None]
    )
    stops = best_metric is not None and best_metric.out_of_patience(best)
    return state._replace(opt_state=opt_state), replace(metrics, best_so_far=best, stopped_early=stops)


def _without_validation(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not name.startswith(f"{VALIDATION}/")}
