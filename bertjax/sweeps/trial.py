"""A trial: a fine-tuning run in its own folder and process that reports its evaluations to Ray Tune.

Reports are made from the run's event log, so a resumed trial first reports its earlier evaluations and then trains on;
a trial that has ended only reports.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertjax.errors import AssetError, DiskError, Diverged, RunFolderError, Stopped, UserError
from bertjax.storage.append_only_log import AppendOnlyLog
from bertjax.storage.folder_lock import locked_folder
from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.same_inputs import check_same_inputs
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.worker_task import enter_driver_settings
from bertjax.tracking import event_log
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.training.loop.early_stopping import BestMetric
from bertjax.training.run.run_folder import CONFIG, METRICS, IfExists

# Keys of a report to Ray: what it minimises, then the best-checkpoint metric and its value.
COST, METRIC, SCORE = "cost", "metric", "score"
WORST_COST = 1e30  # of a trial without an evaluation; infinity would make NaN of a scheduler's percentiles

_SECONDS_TO_CLOSE = 600
# What is no fault of the trial's settings: it may go better in the next attempt, or of the sweep.
_MACHINE_TROUBLE = (Stopped, DiskError, AssetError, RunFolderError)
_REPORTED = "reported.json"  # in Ray's checkpoint of a trial: the number of evaluations that Ray has received


def run_trial(
    suggestion: Mapping[str, Any], folder: str, parent_run_id: str, cwd: str, store: str, allow_changed: bool = False
) -> None:
    """Runs a trial to its end. Ray calls this in a new process, or in that of a trial that has ended.

    Args:
      suggestion: of the searcher; `number` identifies the trial, whose values are in the ledger.
      folder, parent_run_id: of the sweep; the latter in MLflow.
      cwd, store: see `enter_driver_settings`.
      allow_changed: whether the trial goes on though versions or devices have changed.
    """
    enter_driver_settings(cwd, store)
    # Ray gives the process to another trial when this one has closed its run, and fails that one if it takes longer.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(_SECONDS_TO_CLOSE)
    ledger, number = Ledger(Path(folder)), suggestion["number"]
    sweep, run = ledger.sweep(), ledger.run_folder(number)
    with locked_folder(run, wait=True):  # the process of a killed driver may still be at work
        reporter = TuneReporter(sweep.best_metric, sweep.evaluations_per_trial, _count_in_checkpoint())
        for step, metrics in read_evaluations(run, sweep.best_metric):
            reporter.add(step, metrics)
        trial = ledger.trials()[number]
        has_ended = (run / METRICS).exists() or ledger.final_failure(number) is not None
        if trial.status == "running" and not has_ended:
            try:
                _train(sweep, ledger, trial, reporter, parent_run_id, allow_changed)
            except UserError as error:
                if isinstance(error, _MACHINE_TROUBLE):
                    raise
                # The same settings fail in the same way, so Ray must not try again.
                ledger.write_final_failure(number, cause_of(error))
        if ledger.final_failure(number) is not None:
            reporter.report_failure()
        reporter.flush()


def cause_of(error: BaseException) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Diverged):
        return f"diverged: {text}"
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def read_evaluations(run: Path, best_metric: BestMetric) -> list[tuple[int, dict[str, float]]]:
    """The evaluations in a run's event log: the step and the metrics of each that has the best-checkpoint metric."""
    events = AppendOnlyLog(run / event_log.FILE).entries()
    rows = [(event["step"], dict(event["metrics"])) for event in events if "metrics" in event]
    return [(step, metrics) for step, metrics in rows if best_metric.cost(metrics) is not None]


@dataclass
class TuneReporter:
    """Reports the evaluations of a trial to Ray Tune, each once and in order.

    A scheduler may end the process at any report. The last evaluation is therefore reported by `flush`, when the run
    has written its results.

    Attributes:
      best_metric: the metric that trials are compared by.
      num_evaluations: of a trial that runs to its end.
      already_reported: the number of evaluations that Ray has received from an earlier process of the trial.
    """

    best_metric: BestMetric
    num_evaluations: int
    already_reported: int
    _steps: set[int] = field(default_factory=set, init=False)
    _pending: dict[str, Any] | None = field(default=None, init=False)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of a step; those that are no evaluation, or that a resumed run repeats, are ignored."""
        cost, metric = self.best_metric.cost(metrics), self.best_metric.metric_of(metrics)
        if cost is None or metric is None or step in self._steps:
            return
        self._steps.add(step)
        self._pending = {COST: cost, METRIC: metric, SCORE: metrics[metric]}
        if len(self._steps) < self.num_evaluations:
            self.flush()

    def report_failure(self) -> None:
        """Reports the worst cost for a trial that failed before its first evaluation: Ray wants a report of each."""
        if self._pending is None and not self._steps and not self.already_reported:
            _report({COST: WORST_COST, METRIC: "", SCORE: WORST_COST}, 1)

    def flush(self) -> None:
        """Reports the newest evaluation, unless Ray has it."""
        if self._pending is not None and len(self._steps) > self.already_reported:
            _report(self._pending, len(self._steps))
        self._pending = None


def _report(values: Mapping[str, Any], count: int) -> None:
    from ray import tune

    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / _REPORTED).write_text(json.dumps(count))
        tune.report(dict(values), checkpoint=tune.Checkpoint.from_directory(scratch))


def _count_in_checkpoint() -> int:
    """The number of evaluations that Ray has, where it restarts a trial that crashed or that it had paused."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        return int(json.loads((Path(folder) / _REPORTED).read_text()))


def _train(
    sweep: Sweep, ledger: Ledger, trial: Trial, reporter: TuneReporter, parent_run_id: str, allow_changed: bool
) -> None:
    import jax

    from bertjax.training.run.finetuning import train_and_evaluate
    from bertjax.training.run.prepared_run import prepare_run
    from bertjax.training.run.training_session import RunContext

    jax.clear_caches()  # an earlier trial of this process left programs that nothing uses any more
    folder, config = ledger.run_folder(trial.number), sweep.trial_config(trial.values)
    resumes = (folder / CONFIG).exists()
    if_exists: IfExists = "error" if not resumes else "resume_changed" if allow_changed else "resume"
    tracker = tracker_of(
        config.tracking,
        config.experiment,
        parent_run_id,
        on_metrics=lambda metrics, step: reporter.add(step, metrics),  # on to Ray Tune
    )
    tracker.check(folder if resumes else None)
    run = prepare_run(config, folder, if_exists)
    check_same_inputs(sweep, ledger, trial.number, run.fingerprints)
    train_and_evaluate(run, RunContext(tracker=tracker))
