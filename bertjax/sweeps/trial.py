"""A trial: a whole fine-tuning run in a folder of its own, which tells Ray its score at each evaluation.

What Ray is told comes out of the run's journal, so a trial that is taken up again tells its earlier scores first and
then goes on; one that has ended tells them and is done.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertjax.sweeps.config import Sweep
from bertjax.sweeps.ledger import Ledger
from bertjax.tracking import journal
from bertjax.tracking.mlflow import MlflowTracker
from bertjax.training.goal import Goal
from bertjax.training.run_folder import CONFIG, METRICS

COST = "cost"  # what Ray makes small; the goal knows what it stands for

_TOLD = "told.json"  # in what Ray holds for a checkpoint: how many evaluations it has been told of


def run_trial(given: Mapping[str, Any], folder: str, parent: str, cwd: str, store: str) -> None:
    """What Ray calls, in a process of its own.

    Args:
      given: `number` and `values`, from the searcher.
      folder: of the sweep.
      parent: the MLflow run of the sweep.
      cwd: of the driver, from which relative paths of the config are meant.
      store: MLflow's address, as the driver has it.
    """
    # The process is the trial's own, and Ray has started it anywhere.
    if Path(cwd).is_dir():
        os.chdir(cwd)
    os.environ["MLFLOW_TRACKING_URI"] = store
    ledger = Ledger(Path(folder))
    sweep, number = ledger.sweep(), given["number"]
    run = ledger.run_folder(number)
    with alone_in(run):
        teller = Teller(sweep.goal, reports_of_trial(sweep), _known_to_ray())
        told = told_so_far(run, sweep.goal)
        for step, row in told:
            teller.tell(step, row)
        if ledger.trials()[number].status == "running" and not (run / METRICS).exists():
            _train(sweep, given["values"], run, parent, teller, {step for step, _ in told})
        teller.finish()


def reports_of_trial(sweep: Sweep) -> int:
    """How often a trial that runs to its end reports: at its evaluations."""
    return -(-sweep.base.epochs // sweep.base.evaluating.evaluate_every)


def told_so_far(run: Path, goal: Goal) -> list[tuple[int, dict[str, float]]]:
    """The evaluations of a run, from its journal: steps and what was measured, the metric of the goal among it."""
    path = run / journal.FILE
    rows = [(e["step"], dict(e["metrics"])) for e in (journal.events(path) if path.exists() else ()) if "metrics" in e]
    return [(step, row) for step, row in rows if goal.cost(row) is not None]


class Teller:
    """Tells Ray the evaluations of a trial, each once and in order.

    Ray may end the process at any of them. So it hears of the last one when the run is done, not before its test.
    """

    def __init__(self, goal: Goal, total: int, known: int):
        """A teller of a trial with `total` evaluations, of which Ray knows the first `known`."""
        self._goal, self._total, self._known = goal, total, known
        self._count = 0
        self._held: tuple[int, Mapping[str, float]] | None = None

    def tell(self, step: int, row: Mapping[str, float]) -> None:
        """Takes the next evaluation."""
        self._count += 1
        if self._count >= self._total:
            self._held = (step, row)
        elif self._count > self._known:
            self._report(step, row)

    def finish(self) -> None:
        """Tells what was held back."""
        if self._held is not None and self._count > self._known:
            self._report(*self._held)

    def _report(self, step: int, row: Mapping[str, float]) -> None:
        from ray import tune

        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / _TOLD).write_text(json.dumps(self._count))
            checkpoint = tune.Checkpoint.from_directory(scratch)
            tune.report({COST: self._goal.cost(row), "step": step}, checkpoint=checkpoint)


class TrialTracker(MlflowTracker):
    """MLflow's tracker, which tells Ray as well; the run is shown under that of the sweep."""

    def __init__(self, experiment: str, parent: str, goal: Goal, teller: Teller, told: set[int]):
        """A tracker of one trial.

        Args:
          experiment: MLflow's name of what belongs together.
          parent: the sweep's run.
          goal: what says which metrics are an evaluation.
          teller: of the trial.
          told: steps whose evaluations it has had.
        """
        super().__init__(experiment, parent)
        self._goal, self._teller, self._told = goal, teller, told

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker.log_metrics`."""
        super().log_metrics(metrics, step)
        if step not in self._told and self._goal.cost(metrics) is not None:
            self._told.add(step)
            self._teller.tell(step, metrics)


def _train(sweep: Sweep, values: Mapping[str, Any], run: Path, parent: str, teller: Teller, told: set[int]) -> None:
    from bertjax.training.finetune import finetune

    config = sweep.trial_config(values)
    tracker = TrialTracker(config.experiment, parent, sweep.goal, teller, told)
    finetune(config, run, resume=(run / CONFIG).exists(), tracker=tracker)


def _known_to_ray() -> int:
    """How many evaluations of this trial Ray has heard of, where it takes one up that it paused, or that crashed."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        return int(json.loads((Path(folder) / _TOLD).read_text()))


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Waits until no other process works in the folder: one whose driver was killed may not have noticed yet."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
