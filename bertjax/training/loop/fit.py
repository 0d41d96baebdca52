"""The loop: batches in, a trained state out, and everything worth knowing on the way told to whoever listens.

It keeps the device busy: the metrics of a step are read after the next one was started.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import NamedTuple, Protocol

from bertjax.data.batching.collate import BatchSource, PackedBatch
from bertjax.data.batching.prefetch import prefetched
from bertjax.errors import UserError
from bertjax.tasks import Params
from bertjax.tracking.tracker import Tracker
from bertjax.training.checkpoint.checkpoints import Checkpoints
from bertjax.training.checkpoint.multihost import SharedCheckpoints
from bertjax.training.loop.early_stopping import Goal
from bertjax.training.loop.eval_schedule import Due, Rhythm
from bertjax.training.loop.progress import Progress, Reading
from bertjax.training.loop.train_metrics import RunRecord
from bertjax.training.multi.lockstep import Steps
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.step.engine import Engine
from bertjax.training.step.train_step import Metrics, TrainState

logger = logging.getLogger(__name__)

_TRAINING_LOSS = Goal("epoch/train_loss")
_NAMES_SHOWN = 3


class Interrupted(UserError):
    """The run was asked to stop and can be resumed.

    Attributes:
      saved_step: of the newest checkpoint; None where not even one could be saved.
    """

    def __init__(self, step: int, total_steps: int, saved_step: int | None):
        unsaved = "" if saved_step == step else f" (the newest checkpoint: {saved_step or 'none'})"
        super().__init__(f"stopped after step {step} of {total_steps}{unsaved}")
        self.saved_step = saved_step


class Seat(Protocol):
    """The place of a run at an engine, which other runs may share.

    Attributes:
      engine: what computes.
      state: of the run after its last step, placed; reading it may copy it.
    """

    engine: Engine
    state: TrainState


class Listeners(NamedTuple):
    """Who hears of a run, and who may end it.

    Attributes:
      name: of the run in the log, where there are several at a time.
    """

    tracker: Tracker
    progress: Progress
    checkpoints: Checkpoints | SharedCheckpoints
    should_stop: Callable[[], bool]
    name: str = ""

    def log(self, text: str, *values: object) -> None:
        """A line of the log."""
        logger.info("%s" + text, f"{self.name}: " if self.name else "", *values)


class Diverged(UserError):
    """Too many steps in a row had a loss or gradient that is not finite; what was saved before is good."""


class Course(NamedTuple):
    """Where a run goes.

    Attributes:
      rhythm: when it evaluates and saves.
      goal: what it is judged by, if by anything.
      max_skipped_steps: in a row, after which it ends.
      validate: parameters -> metrics, if there is something to validate on.
      after_evaluation: (state, cost) -> the state to go on with.
      not_finite_parameters: metrics of a skipped step -> the paths of the parameters whose gradient was not finite.
    """

    rhythm: Rhythm
    goal: Goal | None
    max_skipped_steps: int
    validate: Callable[[Params], dict[str, float]] | None
    after_evaluation: Callable[[TrainState, float], TrainState]
    not_finite_parameters: Callable[[Metrics], list[str]]


class _Pending(NamedTuple):
    """A step that was started and not yet read."""

    step: int
    metrics: Metrics
    packed_batch: PackedBatch


def fit(seat: Seat, source: BatchSource, course: Course, record: RunRecord, listeners: Listeners) -> Steps[TrainState]:
    """Trains from the seat's step to the end of the course, or until the goal is given up.

    Whoever takes these steps computes them: it is given the batch of each, and sends back its metrics.

    Args:
      seat: has the state, which is that after the step when the metrics come.
      source: the batches to train on.
      course: when to evaluate, save and end.
      record: brought up to date in place.
      listeners: tracker, progress, checkpoints, and the question whether to stop.

    Returns:
      The state after the last step.

    Raises:
      Interrupted: `should_stop` said so; the state is saved.
      Diverged: too many steps in a row were skipped.
    """
    step, rhythm = int(seat.state.step), course.rhythm
    if record.stopped_early:
        return seat.state
    pending: _Pending | None = None
    with listeners.progress, closing(prefetched(source.batches(source.plan.position(step)))) as batches:
        mark = time.perf_counter()
        for packed_batch in batches:
            record.wait_seconds += time.perf_counter() - mark
            metrics = yield packed_batch.batch
            step += 1
            _read(pending, course, record, listeners, seat.engine)
            pending = _Pending(step, metrics, packed_batch)
            due, stop = rhythm.due(step), listeners.should_stop()
            if any(due) or stop:
                _read(pending, course, record, listeners, seat.engine)
                pending = None
            record.count(packed_batch, time.perf_counter() - mark)
            best_before = record.standing.best_step
            if due.epoch or due.evaluation:
                _measure(seat, step, due, course, record, listeners)
            if due.save or stop or record.stopped_early or record.standing.best_step != best_before:
                listeners.checkpoints.save(seat.state, asdict(record), record.standing.best_step or None)
            if record.stopped_early:
                break
            if stop and step < rhythm.total_steps:
                listeners.checkpoints.wait()
                raise Interrupted(step, rhythm.total_steps, listeners.checkpoints.latest_step)
            mark = time.perf_counter()
    return seat.state


def _read(pending: _Pending | None, course: Course, record: RunRecord, listeners: Listeners, engine: Engine) -> None:
    """Waits for a step and tells of it."""
    if pending is None:
        return
    metrics = {name: float(value) for name, value in pending.metrics.items() if value.ndim == 0}
    if metrics.pop("skipped"):
        record.count_skipped()
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        metrics["skipped_steps"] = record.skipped_steps
        logger.warning("step %d was skipped: its loss or gradient is not finite", pending.step)
        if record.skipped_in_a_row >= course.max_skipped_steps:
            raise _diverged(pending, course, listeners.checkpoints)
    else:
        record.count_loss(metrics["loss"], pending.packed_batch.num_examples)
    listeners.tracker.log_metrics({f"train/{name}": value for name, value in metrics.items()}, pending.step)
    rhythm = course.rhythm
    listeners.progress.show(
        Reading(
            step=pending.step,
            total_steps=rhythm.total_steps,
            epoch=(pending.step - 1) // rhythm.steps_per_epoch + 1,
            epochs=rhythm.total_steps // rhythm.steps_per_epoch,
            loss=metrics.get("loss", math.nan),
            examples_per_second=record.examples_per_second,
            tokens_per_second=record.tokens_per_second,
            matmul_share=engine.matmul_share(record.real_tokens, record.token_pairs, record.seconds),
        )
    )


def _diverged(pending: _Pending, course: Course, checkpoints: Checkpoints | SharedCheckpoints) -> Diverged:
    names = course.not_finite_parameters(pending.metrics)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    culprits = f"the gradient of {', '.join(names[:_NAMES_SHOWN])}{more}" if names else "the loss"
    checkpoints.wait()
    newest = checkpoints.latest_step
    kept = "there is no checkpoint yet" if newest is None else f"the checkpoint of step {newest} is good"
    return Diverged(
        f"{course.max_skipped_steps} steps in a row were skipped, the last of them step {pending.step}: {culprits} "
        f"is not finite; {kept}; try a lower --learning-rate, a lower --clip-norm or --precision float32"
    )


def _measure(seat: Seat, step: int, due: Due, course: Course, record: RunRecord, listeners: Listeners) -> None:
    """Adds a row to the history and judges it, which may change the state to go on with."""
    state = seat.state
    row = {"epoch": step / course.rhythm.steps_per_epoch}
    if due.epoch:
        row["epoch/train_loss"] = record.end_epoch()
        row["epoch/examples_per_second"] = record.examples_per_second
    if due.evaluation and course.validate is not None:
        row |= course.validate(evaluation_params(state))
    record.history.append(row)
    listeners.tracker.log_metrics(row, step)
    shown = {name.split("/", 1)[-1]: value for name, value in row.items() if "/class/" not in name}
    listeners.log("%s", ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))
    if course.goal is not None:
        _judge(row, step, course.goal, record, listeners)
    cost = (course.goal or _TRAINING_LOSS).cost(row)
    after = state if cost is None else course.after_evaluation(state, cost)
    if after is not state:
        seat.state = after


def _judge(row: Mapping[str, float], step: int, goal: Goal, record: RunRecord, listeners: Listeners) -> None:
    record.standing = goal.judge(record.standing, step, row)
    record.stopped_early = goal.given_up(record.standing)
    if record.stopped_early:
        listeners.log(
            "stopping after step %d: %s was best after step %d, %d evaluations ago",
            step, goal.metric_of(row), record.standing.best_step, record.standing.evaluations_since,
        )  # fmt: skip
