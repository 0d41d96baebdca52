"""A trial: a whole fine-tuning run in a folder of its own, which tells Ray its score at each evaluation.

What Ray is told comes out of the run's journal, so a trial that is taken up again tells its earlier scores first and
then goes on; one that has ended tells them and is done.
"""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.tracking import journal
from bertjax.tracking.mlflow import MlflowTracker
from bertjax.training.goal import Goal
from bertjax.training.run_folder import CHECKPOINTS, CONFIG, METRICS

Report = Callable[[int, Mapping[str, float]], None]

COST = "cost"  # what Ray makes small; the goal knows what it stands for

_POINTER = "run.json"  # in what Ray holds for a checkpoint: where the run is that has the weights
_COPIES = 5  # attempts at a checkpoint that its owner may be replacing


def run_trial(given: Mapping[str, Any], folder: str, parent: str, cwd: str, store: str) -> None:
    """What Ray calls, in a process of its own.

    Args:
      given: `number` and `values`, from the searcher or from population-based training.
      folder: of the sweep.
      parent: the MLflow run of the sweep.
      cwd: of the driver, from which relative paths of the config are meant.
      store: MLflow's address, as the driver has it.
    """
    from ray import tune

    # The process is the trial's own, and Ray has started it anywhere.
    if Path(cwd).is_dir():
        os.chdir(cwd)
    os.environ["MLFLOW_TRACKING_URI"] = store
    ledger = Ledger(Path(folder))
    goal = ledger.sweep().goal
    # Population-based training hands on the number of the trial that it copies.
    trial = ledger.trial_of(tune.get_context().get_trial_id())
    run = ledger.run_folder(trial.number)
    checkpoint = tune.get_checkpoint()
    with _alone_in(run):
        told = told_so_far(run, goal)
        if checkpoint is not None:
            with checkpoint.as_directory() as held:
                donor = Path(json.loads((Path(held) / _POINTER).read_text())["run"])
            if donor != run:
                _take_over(donor, run)
                told = []
        else:
            for step, row in told:
                _tell_ray(run, goal, step, row)
        if trial.status == "running" and not (run / METRICS).exists():
            _train(ledger, trial, dict(given["values"]), parent, {step for step, _ in told})


def told_so_far(run: Path, goal: Goal) -> list[tuple[int, dict[str, float]]]:
    """The evaluations of a run, from its journal: steps and what was measured, the metric of the goal among it."""
    path = run / journal.FILE
    rows = [(e["step"], dict(e["metrics"])) for e in (journal.events(path) if path.exists() else ()) if "metrics" in e]
    return [(step, row) for step, row in rows if goal.cost(row) is not None]


class TrialTracker(MlflowTracker):
    """MLflow's tracker, which tells Ray as well; the run is shown under that of the sweep."""

    def __init__(self, experiment: str, parent: str, goal: Goal, told: set[int], report: Report):
        """A tracker of one trial.

        Args:
          experiment: MLflow's name of what belongs together.
          parent: the sweep's run.
          goal: what says which metrics are an evaluation.
          told: steps whose evaluations Ray knows.
          report: is given the others.
        """
        super().__init__(experiment, parent)
        self._goal, self._told, self._report = goal, told, report

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker.log_metrics`."""
        super().log_metrics(metrics, step)
        if step not in self._told and self._goal.cost(metrics) is not None:
            self._told.add(step)
            self._report(step, metrics)


def _train(ledger: Ledger, trial: Trial, values: dict[str, Any], parent: str, told: set[int]) -> None:
    from bertjax.training.finetune import finetune

    run, sweep = ledger.run_folder(trial.number), ledger.sweep()
    config = sweep.trial_config(values)

    def report(step: int, row: Mapping[str, float]) -> None:
        _tell_ray(run, sweep.goal, step, row)

    tracker = TrialTracker(config.experiment, parent, sweep.goal, told, report)
    finetune(config, run, resume=(run / CONFIG).exists(), allow_changed=True, tracker=tracker)


def _tell_ray(run: Path, goal: Goal, step: int, row: Mapping[str, float]) -> None:
    """Reports an evaluation. Ray ends the process here where the scheduler says so."""
    from ray import tune

    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / _POINTER).write_text(json.dumps({"run": str(run)}))
        tune.report({COST: goal.cost(row), "step": step}, checkpoint=tune.Checkpoint.from_directory(scratch))


def _take_over(donor: Path, run: Path) -> None:
    """Replaces a run's checkpoints by those of another run, which may be at work."""
    for attempt in range(_COPIES):
        scratch = run / ".taken-over"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            shutil.copytree(donor / CHECKPOINTS, scratch)
        except shutil.Error:
            if attempt == _COPIES - 1:
                raise
            time.sleep(1)
            continue
        shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        scratch.rename(run / CHECKPOINTS)
        return


@contextmanager
def _alone_in(run: Path) -> Iterator[None]:
    """Waits until no other process works in the folder: one whose driver was killed may not have noticed yet."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
