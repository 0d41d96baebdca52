"""The callbacks of the training loop.

A run has them in the order of this file, since each reads what the ones before it write to `TrainMetrics`.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax

from bertjax.errors import Diverged, Interrupted
from bertjax.tasks import Params
from bertjax.tracking.tracker import Tracker
from bertjax.training.checkpoint.multihost import SharedCheckpoints
from bertjax.training.loop.early_stopping import BestMetric
from bertjax.training.loop.eval_schedule import EvalSchedule
from bertjax.training.loop.fit import StepInfo
from bertjax.training.loop.progress import Progress, StepProgress
from bertjax.training.loop.train_metrics import TrainMetrics
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.schedules import after_evaluation
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.train_step import not_finite_parameters
from bertjax.training.train_state import Metrics, TrainState

logger = logging.getLogger(__name__)

_NAMES_SHOWN = 3


@dataclass
class LogTrainMetrics:
    """After every step: counts tokens and time, and logs the metrics of the step before it.

    Reading metrics one step late keeps the devices busy. `flush` reads the last step too, before an evaluation or a
    save.

    Attributes:
      mfu: (real tokens, token pairs, seconds) -> model FLOPs utilization.
      check_divergence: called after a skipped step; may raise.
    """

    train_metrics: TrainMetrics
    schedule: EvalSchedule
    tracker: Tracker
    progress: Progress
    mfu: Callable[[int, int, float], float | None]
    check_divergence: Callable[[TrainMetrics, int, Metrics], None]
    _unread: StepInfo | None = field(default=None, init=False)

    def due(self, step: int) -> bool:
        """After every step."""
        return True

    def __call__(self, info: StepInfo) -> None:
        """Reads the step before this one."""
        self.train_metrics.wait_seconds += info.fetched - info.started
        self._read()
        self._unread = info
        self.train_metrics.count(info.packed_batch, time.perf_counter() - info.started)

    def flush(self) -> None:
        """Waits for the last step and reads it; the time counts as its training time."""
        started = time.perf_counter()
        self._read()
        self.train_metrics.seconds += time.perf_counter() - started

    def _read(self) -> None:
        if self._unread is None:
            return
        info, self._unread = self._unread, None
        train_metrics = self.train_metrics
        scalars = {name: value for name, value in info.metrics.items() if value.ndim == 0}
        values = {name: float(value) for name, value in jax.device_get(scalars).items()}  # one wait for all of them
        if values.pop("skipped"):
            train_metrics.count_skipped()
            values = {name: value for name, value in values.items() if math.isfinite(value)}
            values["skipped_steps"] = train_metrics.skipped_steps
            logger.warning("step %d was skipped: its loss or gradient is not finite", info.step)
            self.check_divergence(train_metrics, info.step, info.metrics)
        else:
            train_metrics.count_loss(values["loss"], info.packed_batch.num_examples)
        self.tracker.log_metrics({f"train/{name}": value for name, value in values.items()}, info.step)
        self.progress.show(
            StepProgress(
                step=info.step,
                total_steps=self.schedule.total_steps,
                epoch=int(self.schedule.epochs_done(info.step - 1)) + 1,
                epochs=self.schedule.epochs,
                loss=values.get("loss", math.nan),
                examples_per_second=train_metrics.examples_per_second,
                tokens_per_second=train_metrics.tokens_per_second,
                mfu=self.mfu(train_metrics.real_tokens, train_metrics.token_pairs, train_metrics.seconds),
            )
        )


@dataclass(frozen=True)
class _AtReports:
    """Due at the end of an epoch, and when an evaluation is due: whenever the history gets a row."""

    train_metrics: TrainMetrics
    schedule: EvalSchedule

    def due(self, step: int) -> bool:
        return self.schedule.reports(step)


@dataclass(frozen=True)
class Evaluate(_AtReports):
    """Evaluates the validation rows, and adds a row to the history.

    Attributes:
      validate: parameters -> metrics on the validation rows; None without validation rows.
      flush: `LogTrainMetrics.flush`.
    """

    validate: Callable[[Params], dict[str, float]] | None
    tracker: Tracker
    flush: Callable[[], None]
    log: Callable[..., None]

    def __call__(self, info: StepInfo) -> None:
        """Adds the row, tracks it, and logs it."""
        self.flush()
        row = {"epoch": self.schedule.epochs_done(info.step)}
        if self.schedule.ends_epoch(info.step):
            row["epoch/train_loss"] = self.train_metrics.end_epoch()
            row["epoch/examples_per_second"] = self.train_metrics.examples_per_second
        if self.schedule.evaluates(info.step) and self.validate is not None:
            row |= self.validate(evaluation_params(info.state()))
        self.train_metrics.add_row(info.step, row)
        self.tracker.log_metrics(row, info.step)
        shown = {name.split("/", 1)[-1]: value for name, value in row.items() if "/class/" not in name}
        self.log("%s", ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))


@dataclass(frozen=True)
class StopEarly(_AtReports):
    """After `Evaluate`: keeps track of the best evaluation, and stops the run when its patience is exhausted."""

    best_metric: BestMetric
    log: Callable[..., None]

    def __call__(self, info: StepInfo) -> None:
        """Compares the last row with the best; setting `TrainMetrics.stopped_early` ends the run's batches."""
        row = self.train_metrics.history[-1]
        best = self.best_metric.update(self.train_metrics.best_so_far, info.step, row)
        self.train_metrics.best_so_far = best
        self.train_metrics.stopped_early = self.best_metric.out_of_patience(best)
        if self.train_metrics.stopped_early:
            self.log(
                "stopping after step %d: %s was best after step %d, %d evaluations ago",
                info.step, self.best_metric.metric_of(row), best.best_step, best.evaluations_since,
            )  # fmt: skip


@dataclass(frozen=True)
class ReduceOnPlateau(_AtReports):
    """After `Evaluate`: lowers the learning rate of `reduce_on_plateau` if `best_metric` has not improved."""

    best_metric: BestMetric
    optimizer: Optimizer

    def __call__(self, info: StepInfo) -> TrainState | None:
        """Returns the state with the learning rate to continue with."""
        cost = self.best_metric.cost(self.train_metrics.history[-1])
        return None if cost is None else after_evaluation(self.optimizer, info.state(), cost)


@dataclass
class SaveCheckpoint:
    """Saves the state when a save is due, when it is the best so far, and when the run is asked to stop.

    Attributes:
      should_stop: called once per step; ignored after the last one.
      flush: `LogTrainMetrics.flush`.
    """

    train_metrics: TrainMetrics
    schedule: EvalSchedule
    checkpoints: SharedCheckpoints
    should_stop: Callable[[], bool]
    flush: Callable[[], None]
    _stops: bool = field(default=False, init=False)

    def due(self, step: int) -> bool:
        """When a save is due, after each evaluation, which may be the best, and when the run is asked to stop."""
        self._stops = self.should_stop()
        return self._stops or self.schedule.saves(step) or self.schedule.reports(step)

    def __call__(self, info: StepInfo) -> None:
        """Saves the state, unless this follows an evaluation that was not the best.

        Raises:
          Interrupted: the run was asked to stop before its end; the state has been saved.
        """
        self.flush()
        step, train_metrics = info.step, self.train_metrics
        best_step, stopped_early = train_metrics.best_so_far.best_step, train_metrics.stopped_early
        if self.schedule.saves(step) or self._stops or stopped_early or best_step == step:
            is_last = self._stops or stopped_early or step == self.schedule.total_steps
            self.checkpoints.save(info.state(), train_metrics.to_json(), best_step or None, stays=is_last)
        if self._stops and not stopped_early and step < self.schedule.total_steps:
            self.checkpoints.wait()
            raise Interrupted(step, self.schedule.total_steps, self.checkpoints.latest_step)


@dataclass(frozen=True)
class DivergenceCheck:
    """Ends a run that skips `max_skipped_steps` in a row. `trainable` gives the names of the parameters."""

    max_skipped_steps: int
    trainable: Params
    checkpoints: SharedCheckpoints

    def __call__(self, train_metrics: TrainMetrics, step: int, metrics: Metrics) -> None:
        """Checks after a skipped step.

        Raises:
          Diverged: too many were skipped; the message names the parameters whose gradient is not finite.
        """
        if train_metrics.skipped_in_a_row < self.max_skipped_steps:
            return
        names = not_finite_parameters(self.trainable, metrics)
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        culprits = f"the gradient of {', '.join(names[:_NAMES_SHOWN])}{more}" if names else "the loss"
        self.checkpoints.wait()
        newest = self.checkpoints.latest_step
        kept = "there is no checkpoint yet" if newest is None else f"the checkpoint of step {newest} is good"
        raise Diverged(
            f"{self.max_skipped_steps} steps in a row were skipped, the last of them step {step}: {culprits} "
            f"is not finite; {kept}; try a lower --learning-rate, a lower --clip-norm or --precision float32"
        )
