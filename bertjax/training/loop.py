"""The loop: batches in, a trained state out, and everything worth knowing on the way told to whoever listens.

It keeps the device busy: the metrics of a step are read after the next one was started.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import numpy as np

from bertjax.batch import Batch
from bertjax.data.batches import BatchSource, LaidOut, evaluation_batches
from bertjax.data.examples import Examples
from bertjax.data.prefetch import prefetched
from bertjax.errors import UserError
from bertjax.tasks import Params
from bertjax.tracking.tracker import Tracker
from bertjax.training.averaging import evaluation_params
from bertjax.training.checkpoints import Checkpoints
from bertjax.training.goal import Goal
from bertjax.training.parallel import Engine
from bertjax.training.progress import Progress, Reading
from bertjax.training.record import RunRecord
from bertjax.training.rhythm import Due, Rhythm
from bertjax.training.shared_checkpoints import SharedCheckpoints
from bertjax.training.step import Metrics, TrainState

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


class Listeners(NamedTuple):
    """Who hears of a run, and who may end it."""

    tracker: Tracker
    progress: Progress
    checkpoints: Checkpoints | SharedCheckpoints
    should_stop: Callable[[], bool]


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
    laid_out: LaidOut


def fit(
    engine: Engine,
    state: TrainState,
    source: BatchSource,
    course: Course,
    record: RunRecord,
    listeners: Listeners,
) -> TrainState:
    """Trains from `state.step` to the end of the course, or until the goal is given up.

    Args:
      engine: the step on the devices.
      state: placed on them.
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
    step, rhythm = int(state.step), course.rhythm
    if record.stopped_early:
        return state
    pending: _Pending | None = None
    with listeners.progress, closing(prefetched(source.batches(source.plan.position(step)))) as batches:
        mark = time.perf_counter()
        for laid_out in batches:
            record.wait_seconds += time.perf_counter() - mark
            state, metrics = engine.train(state, laid_out.batch)
            step += 1
            _read(pending, course, record, listeners)
            pending = _Pending(step, metrics, laid_out)
            due, stop = rhythm.due(step), listeners.should_stop()
            if any(due) or stop:
                _read(pending, course, record, listeners)
                pending = None
            record.count(laid_out, time.perf_counter() - mark)
            best_before = record.standing.best_step
            if due.epoch or due.evaluation:
                state = _measure(state, step, due, course, record, listeners)
            if due.save or stop or record.stopped_early or record.standing.best_step != best_before:
                listeners.checkpoints.save(state, asdict(record), record.standing.best_step or None)
            if record.stopped_early:
                break
            if stop and step < rhythm.total_steps:
                listeners.checkpoints.wait()
                raise Interrupted(step, rhythm.total_steps, listeners.checkpoints.latest_step)
            mark = time.perf_counter()
    return state


def _read(pending: _Pending | None, course: Course, record: RunRecord, listeners: Listeners) -> None:
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
        record.count_loss(metrics["loss"], pending.laid_out.num_examples)
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


def _measure(
    state: TrainState, step: int, due: Due, course: Course, record: RunRecord, listeners: Listeners
) -> TrainState:
    """Adds a row to the history and judges it; returns the state to go on with."""
    row = {"epoch": step / course.rhythm.steps_per_epoch}
    if due.epoch:
        row["epoch/train_loss"] = record.end_epoch()
        row["epoch/examples_per_second"] = record.examples_per_second
    if due.evaluation and course.validate is not None:
        row |= course.validate(evaluation_params(state))
    record.history.append(row)
    listeners.tracker.log_metrics(row, step)
    logger.info(
        "%s", ", ".join(f"{name.split('/', 1)[-1]} {value:.4g}" for name, value in row.items() if "/class/" not in name)
    )
    if course.goal is not None:
        _judge(row, step, course.goal, record)
    cost = (course.goal or _TRAINING_LOSS).cost(row)
    return state if cost is None else course.after_evaluation(state, cost)


def _judge(row: Mapping[str, float], step: int, goal: Goal, record: RunRecord) -> None:
    record.standing = goal.judge(record.standing, step, row)
    record.stopped_early = goal.given_up(record.standing)
    if record.stopped_early:
        logger.info(
            "stopping after step %d: %s was best after step %d, %d evaluations ago",
            step, goal.metric_of(row), record.standing.best_step, record.standing.evaluations_since,
        )  # fmt: skip


def predict(forward: Callable[[Batch], Any], num_devices: int, examples: Examples) -> np.ndarray:
    """What a network says of every example, in the order of `examples`: what evaluation reads (`Task.scores`).

    Args:
      forward: a batch -> what is said of it, such as [B, E, L].
      num_devices: the rows of a batch are a multiple of it.
      examples: to be judged.

    Returns:
      [N, ...] float32 of what is said of an example, [total tokens, ...] of what is said of each token.
    """
    scores: np.ndarray | None = None
    for laid_out in evaluation_batches(examples, num_devices):
        computed = np.asarray(jax.device_get(forward(laid_out.batch)))
        of_tokens = computed.shape[1] == laid_out.batch.token_ids.shape[1]
        ids = laid_out.token_sources(examples.offsets) if of_tokens else laid_out.example_ids
        if scores is None:
            total = examples.offsets[-1] if of_tokens else examples.num_examples
            scores = np.empty((total, *computed.shape[2:]), np.float32)
        scores[ids[ids >= 0]] = computed[ids >= 0]
    assert scores is not None, "there is at least one example"
    return scores
