"""Fine-tuning, put together: the input, the network on its devices, the tracker, and the folder of the run.

Everything that can be wrong with the input is found before the folder is touched.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from bertjax.batch import Batch
from bertjax.data.batching.collate import BatchSource
from bertjax.data.encode.examples import Examples
from bertjax.errors import CheckpointError, ConfigError, UserError
from bertjax.evaluation.reports import Report
from bertjax.losses import Loss, imbalanced_cross_entropy
from bertjax.prediction.devices import AXIS, Devices, all_devices, is_first_process, several_processes
from bertjax.prediction.predict import predict
from bertjax.settings import flatten
from bertjax.tasks import TASKS, Model, Params, find_evaluator
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.tracker import NullTracker, Status, Tracker
from bertjax.training.checkpoint.checkpoints import Checkpoints
from bertjax.training.checkpoint.multihost import SharedCheckpoints
from bertjax.training.loop.early_stopping import VALIDATION, check_metric, choose_goal
from bertjax.training.loop.eval_schedule import rhythm
from bertjax.training.loop.fit import Course, Interrupted, Listeners, Seat, fit
from bertjax.training.loop.progress import NoProgress, Progress
from bertjax.training.loop.train_metrics import RunRecord
from bertjax.training.multi.lockstep import Steps, in_lockstep
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.optim.schedules import after_evaluation
from bertjax.training.run import run_folder
from bertjax.training.run.environment import describe_environment, package_versions, with_variables
from bertjax.training.run.prepare import Prepared, prepare
from bertjax.training.run.run_results import training_metrics, write_model, write_results
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.step.engine import Engine
from bertjax.training.step.train_step import (
    Metrics,
    TrainState,
    TrainStep,
    make_train_step,
    not_finite_parameters,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuneResult:
    """What a run leaves.

    Attributes:
      folder: of the run.
      metrics: flat, such as `test/accuracy`; the content of `metrics.json`.
      report: of the test rows.
      run_id: of the tracker.
    """

    folder: Path
    metrics: Mapping[str, float]
    report: Report
    run_id: str

    @property
    def model_dir(self) -> Path:
        """The fine-tuned model, a folder that `from_pretrained` and transformers load."""
        return self.folder / run_folder.MODEL


def finetune(
    config: FineTuneConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    allow_changed: bool = False,
    command: str | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FineTuneResult:
    """Fine-tunes a pretrained BERT on a labelled table, evaluates it, and leaves a folder and a tracked run.

    Args:
      config: what to do.
      out: folder of the run; default: a new one under `runs/`.
      resume: continue the run in `out` from its last checkpoint.
      overwrite: replace the run in `out`.
      allow_changed: resume though settings, rows or weights are no longer those that the run was started with.
      command: that repeats the run, for its records; default: this call.
      tracker: default: MLflow.
      progress: what shows the steps; default: nothing.
      should_stop: asked after each step; True saves the state and raises `Interrupted`.

    Returns:
      The folder, its metrics and its report.

    Raises:
      UserError: anything about the input or the folder that the user can mend; nothing has been written then.
      Interrupted: `should_stop` said so.
    """
    job = ready(config, out, resume=resume, overwrite=overwrite, allow_changed=allow_changed)
    return run_alone(job, command=command, tracker=tracker, progress=progress, should_stop=should_stop)


@dataclass
class Job:
    """A run that may begin: everything about it has been checked, and nothing has been written.

    Attributes:
      folder, config, resume: where it writes, what it does, and whether it goes on with what is there.
      devices: that it runs on.
      prepared: its input.
      made_from: its settings and hashes, flat.
      step: pure.
      state, record: where it has come to; the state not yet placed.
      started: `time.perf_counter()` when it was asked for.
    """

    folder: Path
    config: FineTuneConfig
    resume: bool
    devices: Devices
    prepared: Prepared
    made_from: Mapping[str, Any]
    step: TrainStep
    state: TrainState | None
    record: RunRecord
    started: float

    def hand_over(self) -> TrainState:
        """The state, which nobody keeps: training would hold it twice."""
        assert self.state is not None, "it was handed over before"
        state, self.state = self.state, None
        return state

    def open_checkpoints(self) -> Checkpoints | SharedCheckpoints:
        """The checkpoints in the run's folder."""
        return _checkpoints(self.folder, self.config, self.prepared.model, self.made_from)


def ready(
    config: FineTuneConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    allow_changed: bool = False,
) -> Job:
    """Reads and checks all that a run needs; arguments and errors are those of `finetune`."""
    started = time.perf_counter()
    config = config.resolved()
    folder = _folder(config, out, resume, overwrite, allow_changed)
    devices = all_devices(config.engine)
    prepared = prepare(config, devices.count)
    step = make_train_step(
        prepared.model,
        make_optimizer(config.optimizer, prepared.train.plan.total_steps, prepared.model),
        loss_of(config),
        axis_name=AXIS,
        freeze=config.freeze,
        accumulate=config.accumulate,
        regularization=config.regularization,
    )
    state, made_from = step.init(prepared.params, jax.random.PRNGKey(config.seed)), flatten(config) | _hashes(prepared)
    # Of the parameters, the shapes are enough from here on; the values are in the state.
    prepared = prepared._replace(params=jax.eval_shape(lambda params: params, prepared.params))
    job = Job(folder, config, resume, devices, prepared, made_from, step, state, RunRecord(), started)
    if not resume:
        return job
    with job.open_checkpoints() as checkpoints:
        job.state, job.record = _resumed(folder, checkpoints, state, made_from, allow_changed)
    return job


def run_alone(
    job: Job,
    *,
    command: str | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FineTuneResult:
    """Runs a job to its end on an engine of its own; arguments and errors are those of `finetune`."""
    state = job.devices.place(job.hand_over())
    shapes = _in_order_of_need(job.prepared.train, int(state.step))
    # It compiles while the tracker connects.
    seat = _OwnSeat(Engine(job.devices, job.prepared.model, job.step, state, shapes), state)
    del state  # the first step gives it up
    with closing(seat.engine):
        run = conduct(job, seat, command=command, tracker=tracker, progress=progress, should_stop=should_stop)
        (outcome,) = in_lockstep([run], seat.train)
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


@dataclass
class _OwnSeat:
    """The place of a run that shares its engine with nobody."""

    engine: Engine
    state: TrainState

    def train(self, batches: Sequence[Batch | None]) -> list[Metrics]:
        """The metrics of a step of the one run."""
        (batch,) = batches
        assert batch is not None, "it has not ended"
        self.state, metrics = self.engine.train(self.state, batch)
        return [metrics]


def conduct(
    job: Job,
    seat: Seat,
    *,
    name: str = "",
    command: str | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Steps[FineTuneResult]:
    """A run from its first step to what it leaves; whoever takes the steps computes them (see `fit`).

    Args:
      job: what to do.
      seat: where it is computed, with the state that the job has handed over.
      name: of the run in the log, where there are several at a time.
      command, tracker, progress, should_stop: as for `finetune`.
    """
    folder, config, prepared, record, engine = job.folder, job.config, job.prepared, job.record, seat.engine
    writes = is_first_process()
    tracker = (tracker or MlflowTracker(config.experiment)) if writes else NullTracker()
    status: Status = "FAILED"
    try:
        tracker.connect()
        course = _course(job, seat)
        environment = _environment(command or f"bertjax.finetune({config!r})", config.seed) | _hashes(prepared)
        if writes:
            run_folder.open_folder(folder, flatten(config), job.resume, environment | {"packages": package_versions()})
        run_id = _begin(tracker, folder, config, prepared, environment)
        with job.open_checkpoints() as checkpoints:
            if several_processes() and not job.resume:
                # Another process may die before the first epoch ends.
                checkpoints.save(seat.state, asdict(record))
            told = Listeners(tracker, progress or NoProgress(), checkpoints, should_stop, name)
            state = yield from fit(seat, prepared.train, course, record, told)
            final = _final(config, checkpoints, record, state)
        params, last_step = engine.devices.place(evaluation_params(final)), int(state.step)
        report = _evaluate(engine, params, prepared.test, prepared.model)
        metrics = report.flat("test") | record.validation_at(int(final.step), prepared.train.plan.steps_per_epoch)
        metrics |= training_metrics(record, engine, job.started) | prepared.data_report.metrics()
        metrics["train/steps"], metrics["train/model_step"] = last_step, int(final.step)
        if writes:
            write_model(folder, config, prepared, params)
        metrics["train/seconds"] = time.perf_counter() - job.started
        if writes:
            shown = flatten(config) | {"command": environment["command"]}
            write_results(folder, config, shown, prepared.data_report, report, metrics, record, tracker, last_step)
        status = "FINISHED"
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)
    return FineTuneResult(folder, metrics, report, run_id)


def _folder(config: FineTuneConfig, out: str | Path | None, resume: bool, overwrite: bool, allow_changed: bool) -> Path:
    """Where the run is written; the process that does so has seen that it may be."""
    if resume and out is None:
        raise ConfigError("--resume needs --out, the folder of the run to continue")
    folder = Path(out) if out is not None else run_folder.default_folder(config)
    if is_first_process():
        run_folder.check_folder(folder, flatten(config), resume, overwrite, allow_changed)
    return folder


def _course(job: Job, seat: Seat) -> Course:
    config, plan = job.config, job.prepared.train.plan
    goal = choose_goal(config.evaluation, config.early_stopping, validates=job.prepared.validation is not None)
    validate = _validation(seat.engine, job.prepared)
    if goal is not None and goal.metric is not None:
        names = validate(seat.state.params) if validate is not None else {}
        check_metric(goal, [*names, "epoch/train_loss"])
    return Course(
        rhythm(config.evaluation, config.checkpointing, plan.steps_per_epoch, plan.total_steps),
        goal,
        config.early_stopping.max_skipped_steps,
        validate,
        partial(after_evaluation, config.optimizer),
        partial(not_finite_parameters, job.step.trainable(job.prepared.params)),
    )


def _in_order_of_need(source: BatchSource, step: int) -> list[Batch]:
    """A batch of each shape of a run, that of its next one first."""
    shapes = source.plan.empty_batches
    if len(shapes) == 1:
        return list(shapes)
    upcoming = next(iter(source.batches(source.plan.position(step))), None)
    first = None if upcoming is None else upcoming.batch.token_ids.shape
    return sorted(shapes, key=lambda batch: batch.token_ids.shape != first)


def loss_of(config: FineTuneConfig) -> Loss:
    """The loss that a run minimises: its task's, with what is done about classes of very different size."""
    imbalance = config.imbalance
    if imbalance.label_smoothing or imbalance.focal_gamma:
        return imbalanced_cross_entropy(imbalance.label_smoothing, imbalance.focal_gamma)
    loss = TASKS[config.task].loss
    assert loss is not None, "every task that a config can name has a loss"
    return loss


def _checkpoints(
    folder: Path, config: FineTuneConfig, model: Model, made_from: Mapping[str, Any]
) -> Checkpoints | SharedCheckpoints:
    belongs_to = {
        "task": model.task,
        "labels": list(model.labels),
        "pooling": model.pooling,
        "layers": model.config.num_layers,
        "heads": model.config.num_heads,
        "hidden_act": model.config.hidden_act,
    }
    keep = config.checkpointing.keep_checkpoints
    own = partial(Checkpoints, folder / run_folder.CHECKPOINTS, belongs_to, keep, made_from)
    return SharedCheckpoints(own) if several_processes() else own()


def _begin(
    tracker: Tracker, folder: Path, config: FineTuneConfig, prepared: Prepared, environment: Mapping[str, str]
) -> str:
    """Tells the tracker what the run is; returns its id there."""
    run_id = tracker.start(folder.name, flatten(config), folder, environment)
    for dataset in prepared.datasets:
        tracker.log_dataset(dataset)
    return run_id


def _environment(command: str, seed: int) -> dict[str, str]:
    return describe_environment() | {"command": with_variables(command), "seed": str(seed)}


def _hashes(prepared: Prepared) -> dict[str, str]:
    """Of all that a run reads."""
    return {f"{rows.side}_rows": rows.digest for rows in prepared.datasets} | {"weights": prepared.weights}


def _resumed(
    folder: Path,
    checkpoints: Checkpoints | SharedCheckpoints,
    first: TrainState,
    made_from: Mapping[str, Any],
    allow_changed: bool,
) -> tuple[TrainState, RunRecord]:
    """Where the run has come to; its first state where it was killed before it had saved one."""
    if checkpoints.latest_step is None and not several_processes():
        logger.info("%s has no checkpoint yet: the run starts again from its first step", folder)
        return first, RunRecord()
    state, progress, then = checkpoints.restore(first)
    run_folder.check_unchanged(folder, then, made_from, allow_changed)
    return state, RunRecord.from_json(progress)


def _final(
    config: FineTuneConfig, checkpoints: Checkpoints | SharedCheckpoints, record: RunRecord, last: TrainState
) -> TrainState:
    """The state whose weights the run leaves."""
    return _best(checkpoints, record, last) if config.evaluation.final_weights == "best" else last


def _best(checkpoints: Checkpoints | SharedCheckpoints, record: RunRecord, last: TrainState) -> TrainState:
    """The state of the best evaluation, or the last one where the best was not or badly saved."""
    checkpoints.wait()
    best = record.standing.best_step
    if best == int(last.step):
        return last
    try:
        return checkpoints.restore_step(best, last).state
    except CheckpointError as error:
        logger.warning("the model has the last weights, not the best, those of step %d: %s", best, error)
        return last


def _evaluate(engine: Engine, params: Params, examples: Examples, model: Model) -> Report:
    scores = predict(partial(engine.predict, params), engine.devices.count, examples)
    return find_evaluator(model.task)(scores, examples, model.labels)


def _validation(engine: Engine, prepared: Prepared) -> Callable[[Params], dict[str, float]] | None:
    examples = prepared.validation
    if examples is None:
        return None
    return lambda params: _evaluate(engine, params, examples, prepared.model).flat(VALIDATION)
