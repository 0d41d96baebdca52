"""The loop: batches in, a trained state out, and everything worth knowing on the way told to whoever listens.

It keeps the device busy: the metrics of a step are read after the next one was started.
"""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import jax
import numpy as np

from bertjax.data.batches import BatchSource, LaidOut, evaluation_batches
from bertjax.data.examples import Examples
from bertjax.data.prefetch import prefetched
from bertjax.errors import UserError
from bertjax.tasks import Params
from bertjax.tracking.tracker import Tracker
from bertjax.training.averaging import evaluation_params
from bertjax.training.checkpoints import Checkpoints
from bertjax.training.parallel import Engine
from bertjax.training.progress import Progress, Reading
from bertjax.training.step import Metrics, TrainState

logger = logging.getLogger(__name__)

_SCORE = "validation/f1_weighted"


class Interrupted(UserError):
    """The run was asked to stop; it has saved its state and can be resumed."""


@dataclass
class RunRecord:
    """How far a run has come. It is saved with each checkpoint, so a resumed run goes on counting.

    Attributes:
      examples, real_tokens, computed_tokens: so far; computed ones include padding.
      seconds: of training steps.
      wait_seconds: of these, spent waiting for the next batch.
      epoch_loss_sum: of the losses of all examples of the epoch under way, epoch_examples of them.
      history: metrics of each finished epoch.
    """

    examples: int = 0
    real_tokens: int = 0
    computed_tokens: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    epoch_loss_sum: float = 0.0
    epoch_examples: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def examples_per_second(self) -> float:
        """Training speed; 0 before the first step."""
        return self.examples / self.seconds if self.seconds > 0 else 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of the training time in which no batch was ready."""
        return self.wait_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def real_token_share(self) -> float:
        """Share of computed tokens that are not padding."""
        return self.real_tokens / max(self.computed_tokens, 1)


class Listeners(NamedTuple):
    """Who hears of a run, and who may end it."""

    tracker: Tracker
    progress: Progress
    checkpoints: Checkpoints
    should_stop: Callable[[], bool]


class _Pending(NamedTuple):
    """A step that was started and not yet read."""

    step: int
    metrics: Metrics
    laid_out: LaidOut


def fit(
    engine: Engine,
    state: TrainState,
    source: BatchSource,
    record: RunRecord,
    listeners: Listeners,
    validate: Callable[[Params], dict[str, float]] | None,
    after_evaluation: Callable[[TrainState, float], TrainState],
) -> TrainState:
    """Trains from `state.step` to the end of the plan.

    Args:
      engine: the step on the devices.
      state: placed on them.
      source: the batches to train on, and how many there are.
      record: brought up to date in place.
      listeners: tracker, progress, checkpoints, and the question whether to stop.
      validate: parameters -> metrics, after each epoch.
      after_evaluation: (state, value) -> the state to go on with, where less is better: the training loss of the epoch,
        or the negative of the weighted F1 where there is a validation set.

    Returns:
      The state after the last step.

    Raises:
      Interrupted: `should_stop` said so; the state is saved.
    """
    plan = source.plan
    first_step, per_epoch, total_steps = int(state.step), plan.steps_per_epoch, plan.total_steps
    pending: _Pending | None = None

    def read(waiting: _Pending | None) -> None:
        """Waits for a step and tells of it."""
        if waiting is None:
            return
        metrics = {name: float(value) for name, value in waiting.metrics.items() if value.ndim == 0}
        record.epoch_loss_sum += metrics["loss"] * waiting.laid_out.num_examples
        record.epoch_examples += waiting.laid_out.num_examples
        shown = ("loss", "grad_norm", "learning_rate")
        listeners.tracker.log_metrics({f"train/{name}": metrics[name] for name in shown}, waiting.step)
        epoch = (waiting.step - 1) // per_epoch + 1
        loss, speed = metrics["loss"], record.examples_per_second
        listeners.progress.show(Reading(waiting.step, total_steps, epoch, plan.epochs, loss, speed))

    step = first_step
    with listeners.progress, closing(prefetched(source.batches(plan.position(first_step)))) as batches:
        mark = time.perf_counter()
        for laid_out in batches:
            record.wait_seconds += time.perf_counter() - mark
            state, metrics = engine.train(state, laid_out.batch)
            step += 1
            read(pending)
            pending = _Pending(step, metrics, laid_out)
            epoch_done, stop = step % per_epoch == 0, listeners.should_stop()
            if epoch_done or stop:
                read(pending)
                pending = None
            _count(record, laid_out, time.perf_counter() - mark)
            mark = time.perf_counter()
            if epoch_done:
                of_epoch = _end_epoch(state, step, record, listeners, validate)
                state = after_evaluation(state, -of_epoch.get(_SCORE, -of_epoch["epoch/train_loss"]))
            if epoch_done or stop:
                listeners.checkpoints.save(state, asdict(record))
                mark = time.perf_counter()
            if stop and step < total_steps:
                raise Interrupted(f"stopped after step {step} of {total_steps}")
    return state


def _count(record: RunRecord, laid_out: LaidOut, seconds: float) -> None:
    record.examples += laid_out.num_examples
    record.real_tokens += laid_out.num_tokens
    record.computed_tokens += laid_out.batch.token_ids.size
    record.seconds += seconds


def _end_epoch(
    state: TrainState,
    step: int,
    record: RunRecord,
    listeners: Listeners,
    validate: Callable[[Params], dict[str, float]] | None,
) -> dict[str, float]:
    epoch = len(record.history) + 1
    metrics = {"epoch": float(epoch), "epoch/train_loss": record.epoch_loss_sum / record.epoch_examples}
    metrics["epoch/examples_per_second"] = record.examples_per_second
    if validate is not None:
        metrics |= validate(evaluation_params(state))
    record.history.append(metrics)
    record.epoch_loss_sum, record.epoch_examples = 0.0, 0
    listeners.tracker.log_metrics(metrics, step)
    shown = ", ".join(f"{name.split('/', 1)[-1]} {value:.4g}" for name, value in metrics.items() if "class" not in name)
    logger.info("%s", shown)
    return metrics


def predict(engine: Engine, params: Params, examples: Examples) -> np.ndarray:
    """What the network says of every example, in the order of `examples`: what evaluation reads (`Task.scores`).

    Returns:
      [N, ...] float32 of what is said of an example, [total tokens, ...] of what is said of each token.
    """
    scores: np.ndarray | None = None
    for laid_out in evaluation_batches(examples, engine.devices.count):
        computed = np.asarray(jax.device_get(engine.predict(params, laid_out.batch)))
        of_tokens = computed.shape[1] == laid_out.batch.token_ids.shape[1]
        ids = laid_out.token_sources(examples.offsets) if of_tokens else laid_out.example_ids
        if scores is None:
            total = examples.offsets[-1] if of_tokens else examples.num_examples
            scores = np.empty((total, *computed.shape[2:]), np.float32)
        scores[ids[ids >= 0]] = computed[ids >= 0]
    assert scores is not None, "there is at least one example"
    return scores
