"""A trial: a whole fine-tuning run in a folder of its own, which tells Ray its score at each evaluation.

What Ray is told comes out of the run's journal, so a trial that is taken up again tells its earlier scores first and
then goes on; one that has ended tells them and is done. A trial of a population trains until it is to be compared with
the others, saves its state, tells, and is taken up again for the next turn.
"""

import fcntl
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.pbt.checkpoint_copy import take_over
from bertjax.sweeps.sweep_config import Sweep
from bertjax.tracking import event_log
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.training.loop.early_stopping import Goal
from bertjax.training.run.run_folder import CONFIG, METRICS

COST = "cost"  # what Ray makes small; the goal knows what it stands for

_SECONDS_TO_CLOSE = 600
_TOLD = "told.json"  # in what Ray holds for a checkpoint: how many evaluations it has been told of


def run_trial(given: Mapping[str, Any], folder: str, parent: str, cwd: str, store: str) -> None:
    """What Ray calls, in a process of its own, or in that of a trial that has come to its end.

    Args:
      given: `number`, from the searcher; the ledger has the values.
      folder: of the sweep.
      parent: the MLflow run of the sweep.
      cwd: of the driver, from which relative paths of the config are meant.
      store: MLflow's address, as the driver has it.
    """
    # Nobody else works in this process now, and Ray has started it anywhere.
    if Path(cwd).is_dir():
        os.chdir(cwd)
    os.environ["MLFLOW_TRACKING_URI"] = store
    # Ray gives the process to another trial when this one has closed its run, and fails that one if it takes longer.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(_SECONDS_TO_CLOSE)
    ledger = Ledger(Path(folder))
    sweep, number = ledger.sweep(), given["number"]
    run = ledger.run_folder(number)
    with alone_in(run):
        trial, last = ledger.trials()[number], _last_of_turn(sweep, ledger)
        teller = Teller(sweep.goal, last, _known_to_ray())
        told = told_so_far(run, sweep.goal)
        for step, row in told:
            teller.tell(step, row)
        if trial.status == "running" and not (run / METRICS).exists():
            _train(sweep, trial, run, parent, teller, {step for step, _ in told}, last)
        teller.finish()


def _last_of_turn(sweep: Sweep, ledger: Ledger) -> int:
    """The evaluation after which a trial waits for the others, or is done."""
    return min(ledger.settled() + sweep.turn, sweep.reports) if sweep.scheduler == "pbt" else sweep.reports


def told_so_far(run: Path, goal: Goal) -> list[tuple[int, dict[str, float]]]:
    """The evaluations of a run, from its journal: steps and what was measured, the metric of the goal among it."""
    path = run / event_log.FILE
    rows = [
        (e["step"], dict(e["metrics"])) for e in (event_log.events(path) if path.exists() else ()) if "metrics" in e
    ]
    return [(step, row) for step, row in rows if goal.cost(row) is not None]


class Teller:
    """Tells Ray the evaluations of a trial, each once and in order.

    Ray may end the process at any of them. So it hears of the last one when the run is done, not before its test, or
    when the state of the run is saved that another trial may go on from.
    """

    def __init__(self, goal: Goal, last: int, known: int):
        """A teller of a trial that trains up to its evaluation `last`, and of which Ray knows the first `known`."""
        self._goal, self._last, self._known = goal, last, known
        self._count = 0
        self._held: tuple[int, Mapping[str, float]] | None = None

    def tell(self, step: int, row: Mapping[str, float]) -> None:
        """Takes the next evaluation."""
        self._count += 1
        if self._count >= self._last:
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

    def __init__(self, trial: Trial, experiment: str, parent: str, goal: Goal, teller: Teller, told: set[int]):
        """A tracker of one trial.

        Args:
          trial: whose run this is.
          experiment: MLflow's name of what belongs together.
          parent: the sweep's run.
          goal: what says which metrics are an evaluation.
          teller: of the trial.
          told: steps whose evaluations it has had.
        """
        super().__init__(experiment, parent)
        self._trial, self._goal, self._teller, self._told = trial, goal, teller, told

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        """See `Tracker.start`. MLflow's params of a run never change, so what became of them is in its tags."""
        tags = dict(tags or {})
        if self._trial.exploits:
            tags["bertjax.went_on_from"] = self._trial.origin
            tags |= {f"bertjax.now.{path}": str(value) for path, value in self._trial.values.items()}
        return super().start(name, params, folder, tags)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker.log_metrics`."""
        super().log_metrics(metrics, step)
        if step not in self._told and self._goal.cost(metrics) is not None:
            self._told.add(step)
            self._teller.tell(step, metrics)


def _train(sweep: Sweep, trial: Trial, run: Path, parent: str, teller: Teller, told: set[int], last: int) -> None:
    """Trains up to an evaluation, and saves the state there; to the end where that is the last of all."""
    import jax

    from bertjax.training.loop.fit import Interrupted
    from bertjax.training.run.finetuning import ready, run_alone

    jax.clear_caches()  # the process may have run another trial, whose programs nobody needs any more
    config = sweep.trial_config(trial.values)
    is_new = bool(trial.exploits) and trial.exploits[-1].evaluation == len(told)  # nothing was measured with it yet
    if is_new:
        take_over(run)
    job = ready(config, run, resume=(run / CONFIG).exists(), allow_changed=is_new)
    assert job.state is not None, "it was not handed over yet"
    plan = job.prepared.train.plan
    start, end = int(job.state.step), last * sweep.base.evaluation.evaluate_every * plan.steps_per_epoch
    if start == end and last < sweep.reports:
        return
    steps = itertools.count(start + 1)
    tracker = TrialTracker(trial, config.experiment, parent, sweep.goal, teller, told)
    try:
        run_alone(job, tracker=tracker, should_stop=lambda: next(steps) == end)
    except Interrupted as stop:
        if stop.saved_step != end:
            raise


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
