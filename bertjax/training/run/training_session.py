"""A run while it trains: tracker, checkpoints and callbacks, from the opening of its folder to its results."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.devices.data_parallel import is_first_process, several_processes
from bertjax.errors import CheckpointError
from bertjax.evaluation.judged_rows import Finding
from bertjax.metrics.reliability import calibrated
from bertjax.metrics.reports import Report
from bertjax.prediction.forward import Forward, predict
from bertjax.settings import flatten
from bertjax.tasks import Model, Params, find_evaluator
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.tracker import NullTracker, Tracker, tracked_run
from bertjax.training.checkpoint.multihost import SharedCheckpoints
from bertjax.training.loop.callbacks import (
    DivergenceCheck,
    Evaluate,
    LogTrainMetrics,
    ReduceOnPlateau,
    SaveCheckpoint,
    StopEarly,
)
from bertjax.training.loop.early_stopping import (
    TRAINING_LOSS,
    VALIDATION,
    BestMetric,
    check_metric,
    choose_best_metric,
)
from bertjax.training.loop.eval_schedule import eval_schedule
from bertjax.training.loop.fit import Callback
from bertjax.training.loop.progress import NoProgress, Progress
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.run import run_folder
from bertjax.training.run.beginning import Beginning
from bertjax.training.run.environment import describe_environment, with_variables
from bertjax.training.run.prepared_run import PreparedRun, input_hashes
from bertjax.training.run.run_results import (
    judge_test,
    training_metrics,
    write_adapter,
    write_model,
    write_results,
)
from bertjax.training.run.validation_fits import ValidationFits, fit_on
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.train_state import TrainState

logger = logging.getLogger(__name__)


class RunContext(NamedTuple):
    """What surrounds a run: who records it, shows its progress, and may stop it.

    Attributes:
      command: the command that repeats the run, for its records; None for the call of `bertjax.finetune`.
      tracker: None for MLflow.
      progress: shows the steps.
      should_stop: called after each step.
      name: the prefix of its log lines, where several runs train at a time.
      begun: called before the first step, when all checks have passed.
    """

    command: str | None = None
    tracker: Tracker | None = None
    progress: Progress = NoProgress()
    should_stop: Callable[[], bool] = lambda: False
    name: str = ""
    begun: Callable[[], None] = lambda: None

    def log(self, text: str, *values: object) -> None:
        """Writes a line of the log."""
        logger.info("%s" + text, f"{self.name}: " if self.name else "", *values)


@dataclass(frozen=True)
class FineTuneResult:
    """The result of a run.

    Attributes:
      folder: the run's folder.
      metrics: flat metrics such as `test/accuracy`; the content of `metrics.json`.
      report: the report on the test rows.
      run_id: the tracker's id of the run.
      findings: further analyses of the test rows that the settings ask for, such as slices.
    """

    folder: Path
    metrics: Mapping[str, float]
    report: Report
    run_id: str
    findings: Sequence[Finding] = ()

    @property
    def model_dir(self) -> Path:
        """The fine-tuned model, a folder that `from_pretrained` and transformers load."""
        return self.folder / run_folder.MODEL


@dataclass(frozen=True)
class TrainingSession:
    """A run while it trains.

    Attributes:
      train_step, forward: compiled; stacked seeds share them.
      tracker: connected and started.
      command: the command that repeats the run.
    """

    run: PreparedRun
    train_step: CompiledTrainStep
    forward: Forward
    tracker: Tracker
    run_id: str
    checkpoints: SharedCheckpoints
    command: str
    callbacks: Sequence[Callback]

    def finish(self, last: TrainState) -> FineTuneResult:
        """Evaluates the final weights on the test rows, and writes the model and the results."""
        run, prepared, train_metrics = self.run, self.run.prepared, self.run.train_metrics
        self.checkpoints.wait()
        final = self._best(last) if run.config.evaluation.final_weights == "best" else last
        trained, last_step = prepared.in_units(evaluation_params(final)), int(last.step)
        params = run.devices.place(run.merged(trained))
        model, test = prepared.model, prepared.test
        score = partial(score_examples, self.forward, params, model)
        fits = ValidationFits() if prepared.validation is None else fit_on(prepared.validation, model, score)
        scores = score(test)
        report = find_evaluator(model.task)(calibrated(scores, fits.temperature), test, model.labels)
        judgement = judge_test(run.config, prepared, params, scores, report, fits.temperature)
        metrics = report.flat("test") | judgement.flat("test")
        metrics |= train_metrics.validation_at(int(final.step)) | fits.metrics()
        metrics |= training_metrics(train_metrics, self.train_step, run.started) | prepared.data_report.metrics()
        metrics["train/steps"], metrics["train/model_step"] = last_step, int(final.step)
        if is_first_process():
            write_model(run.folder, run.config, prepared, params, fits.temperature)
            write_adapter(run, trained)
        metrics["train/seconds"] = time.perf_counter() - run.started
        if is_first_process():
            write_results(run, self.command, report, metrics, judgement, self.tracker)
        return FineTuneResult(run.folder, metrics, report, self.run_id, judgement.findings)

    def _best(self, last: TrainState) -> TrainState:
        """The state of the best evaluation, or the last one if that checkpoint is missing or damaged."""
        best_step = self.run.train_metrics.best_so_far.best_step
        if best_step == int(last.step):
            return last
        try:
            return self.checkpoints.restore_step(best_step, last).state
        except CheckpointError as error:
            logger.warning("the model has the last weights, not the best, those of step %d: %s", best_step, error)
            return last


@contextmanager
def training_session(
    run: PreparedRun,
    context: RunContext,
    train_step: CompiledTrainStep,
    forward: Forward,
    first_state: Callable[[], TrainState] | None = None,
) -> Iterator[TrainingSession]:
    """Opens the tracker, the run's folder and its checkpoints, and closes them with the run's status.

    If opening fails, the folder is left as it was.

    Args:
      first_state: () -> the state before the first step; default: `run.state`.

    Raises:
      ConfigError: the tracker cannot be reached, or the run does not report its best-checkpoint metric.
      DiskError: the folder cannot be written.
    """
    config, prepared = run.config, run.prepared
    tracker = (
        (context.tracker or tracker_of(config.tracking, config.experiment)) if is_first_process() else NullTracker()
    )
    with Beginning(run.folder, run.resumes) as beginning, tracked_run(tracker):
        validate = None if prepared.validation is None else partial(_validate, forward, run)
        state = run.state if first_state is None else first_state()
        best_metric = _best_metric(run, validate, state.params)
        command = with_variables(context.command or f"bertjax.finetune({config!r})")
        environment = describe_environment() | {"command": command, "seed": str(config.seed)} | input_hashes(prepared)
        if is_first_process():
            beginning.open(partial(run_folder.write_start, run.folder, flatten(config), environment))
        run_id = tracker.start(run.folder.name, flatten(config), run.folder, environment)
        for dataset in prepared.datasets:
            tracker.log_dataset(dataset)
        with run.open_checkpoints() as checkpoints:
            if several_processes() and not run.resumes:
                # Another process may die before the first epoch ends.
                checkpoints.save(state, run.train_metrics.to_json())
            callbacks = list(_callbacks(run, context, train_step, tracker, checkpoints, validate, best_metric))
            beginning.commit()
            if is_first_process() and run.trains_on:
                run_folder.mark_unfinished(run.folder)
            context.begun()
            yield TrainingSession(run, train_step, forward, tracker, run_id, checkpoints, command, callbacks)


def score_examples(forward: Forward, params: Params, model: Model, examples: Examples) -> np.ndarray:
    """The scores (`Task.scores`) of a model whose parameters are on the devices."""
    return predict(partial(forward, params), forward.devices.count, model.task, examples)


def _validate(forward: Forward, run: PreparedRun, params: Params) -> dict[str, float]:
    model, examples = run.prepared.model, run.prepared.validation
    assert examples is not None, "there is something to validate on"
    scores = score_examples(forward, run.merged(run.prepared.in_units(params)), model, examples)
    return find_evaluator(model.task)(scores, examples, model.labels).flat(VALIDATION)


def _best_metric(
    run: PreparedRun, validate: Callable[[Params], dict[str, float]] | None, params: Params
) -> BestMetric | None:
    """The best-checkpoint metric of the settings. A named one is checked by evaluating once, before the first step."""
    best_metric = choose_best_metric(run.config.evaluation, run.config.early_stopping, validates=validate is not None)
    if best_metric is not None and best_metric.metric is not None:
        names = validate(params) if validate is not None else {}
        check_metric(best_metric, [*names, "epoch/train_loss"])
    return best_metric


def _callbacks(
    run: PreparedRun,
    context: RunContext,
    train_step: CompiledTrainStep,
    tracker: Tracker,
    checkpoints: SharedCheckpoints,
    validate: Callable[[Params], dict[str, float]] | None,
    best_metric: BestMetric | None,
) -> Iterator[Callback]:
    config, plan, metrics = run.config, run.prepared.train.plan, run.train_metrics
    schedule = eval_schedule(
        config.evaluation, config.checkpointing, plan.steps_per_epoch, plan.total_steps, metrics.step_offset
    )
    trainable = run.step.trainable(run.prepared.params)
    divergence = DivergenceCheck(config.early_stopping.max_skipped_steps, trainable, checkpoints)
    yield (reader := LogTrainMetrics(metrics, schedule, tracker, context.progress, train_step.mfu, divergence))
    yield Evaluate(metrics, schedule, validate, tracker, reader.flush, context.log)
    if best_metric is not None:
        yield StopEarly(metrics, schedule, best_metric, context.log)
    if config.optimizer.schedule == "reduce_on_plateau":
        yield ReduceOnPlateau(metrics, schedule, best_metric or TRAINING_LOSS, config.optimizer)
    yield SaveCheckpoint(metrics, schedule, checkpoints, context.should_stop, reader.flush)
