"""The driver: starts Ray, runs the trials of a sweep on it, and writes down what became of each."""

import logging
import math
import os
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bertjax.errors import ConfigError, RunFolderError, UserError
from bertjax.settings import differences
from bertjax.sweeps.ledger import SCHEDULER, SEEDS, SWEEP, Ledger, Trial
from bertjax.sweeps.pbt.checkpoint_copy import clear
from bertjax.sweeps.results.sweep_results import Results, experiment_file, read_results
from bertjax.sweeps.sweep_config import Sweep, to_json
from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.mlflow_store import tracking_address
from bertjax.tracking.mlflow_tracker import MlflowTracker, send_rest
from bertjax.tracking.tracker import Status
from bertjax.training.multi import ray_cluster
from bertjax.training.run import run_folder
from bertjax.training.run.run_folder import CHECKPOINTS, MODEL

logger = logging.getLogger(__name__)

REPORT, BEST = "report.html", "best.py"

# How much is done, how fast, and what is kept of it: a sweep may be continued with others.
_MAY_CHANGE = {"samples", "concurrency", "max_seconds", "max_epochs", "cpus", "gpus", "resources", "retries", "keep",
               "seeds", "stack_seeds"}  # fmt: skip
_MEMORY_OF_A_GPU = 0.9  # what JAX may take of one, shared by the trials on it


class SweepStopped(UserError):
    """Somebody ended the sweep; it can be resumed."""


def run_sweep(sweep: Sweep, out: str | Path, *, resume: bool = False, address: str | None = None) -> Results:
    """Runs a sweep, or the rest of one.

    Args:
      sweep: what to do.
      out: folder of the sweep.
      resume: continue the sweep in `out`: trials that have ended stay, the others go on.
      address: of a Ray cluster, as in `training.cluster.join`.

    Returns:
      What is known of every trial.

    Raises:
      UserError: anything that the user can mend, found before a trial starts.
      ConfigError: every trial failed.
      SweepStopped: somebody ended it.
    """
    folder = Path(out).absolute()
    ledger = Ledger(folder)
    check_folder(folder, sweep, resume)
    tracker = MlflowTracker(sweep.base.experiment)
    tracker.connect()
    with _ray(address, _environment(sweep)):
        check_resources(sweep)
        ledger.open(sweep)
        parent = tracker.start(folder.name, _flat(sweep), folder, {"bertjax.kind": "sweep"})
        status: Status = "KILLED"
        try:
            spent = _tune(sweep, ledger, parent)
            _conclude(ledger, in_budget=not spent)
            _seeds(sweep, ledger, parent)
            status = "FINISHED"
        finally:
            tracker.finish(status)
    results = read_results(folder)
    write_report(results)
    if sweep.keep == "best":
        _tidy(results)
    if results.trials and all(result.trial.status == "failed" for result in results.trials):
        raise ConfigError(f"every trial failed; the first: {results.trials[0].trial.cause}")
    return results


def write_report(results: Results) -> None:
    """Writes the page of a sweep, and the best config as an experiment file."""
    from bertjax.sweeps.results.sweep_report import render_report

    run_folder.write_text(results.folder / REPORT, render_report(results))
    if results.best is not None:
        run_folder.write_text(results.folder / BEST, experiment_file(results, results.best))


def check_folder(folder: Path, sweep: Sweep, resume: bool) -> None:
    """Whether a sweep may be written there. Changes nothing.

    Raises:
      RunFolderError: the folder holds something else, another sweep, or nothing to resume.
    """
    if not resume:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            holds = "already holds a sweep; continue it with --resume" if (folder / SWEEP).exists() else "is not empty"
            raise RunFolderError(f"{folder} {holds}, or choose another --out")
        return
    stored, wanted = _flat(Ledger(folder).sweep()), _flat(sweep)
    different = differences(stored, wanted, but=_MAY_CHANGE)
    if different:
        raise RunFolderError(f"{folder} holds another sweep: {'; '.join(different)}")


def check_resources(sweep: Sweep) -> None:
    """Whether the cluster can ever run a trial.

    Raises:
      ConfigError: it lacks something that a trial asks for.
    """
    import ray

    there = ray.cluster_resources()
    for name, wanted in _resources(sweep).items():
        if wanted > there.get(name, 0):
            raise ConfigError(
                f"a trial asks for {wanted:g} {name}, and the cluster has {there.get(name, 0):g}; ask for less, "
                f"or give the --address of a larger cluster"
            )


def _tune(sweep: Sweep, ledger: Ledger, parent: str) -> bool:
    """Runs the trials that are left; returns whether the sweep's budget has ended them."""
    from ray import tune

    from bertjax.sweeps.pbt.population import Population
    from bertjax.sweeps.schedulers import EpochBudget, make_scheduler
    from bertjax.sweeps.searchers import LedgerSearch
    from bertjax.sweeps.trial import COST, run_trial
    from bertjax.sweeps.tune_callback import Watch

    scratch = ledger.folder / SCHEDULER
    shutil.rmtree(scratch, ignore_errors=True)  # an earlier driver's; the ledger knows better
    here, store = str(Path.cwd()), tracking_address()
    job = partial(run_trial, folder=str(ledger.folder), parent=parent, cwd=here, store=store)
    budget = EpochBudget(sweep.max_epochs, sweep.base.evaluation.evaluate_every)
    scheduler = make_scheduler(sweep, ledger)
    population = scheduler if isinstance(scheduler, Population) else None
    deadline = time.monotonic() + (sweep.max_seconds or math.inf)
    tuner = tune.Tuner(
        tune.with_resources(job, _resources(sweep)),
        tune_config=tune.TuneConfig(
            metric=COST,
            mode="min",
            search_alg=LedgerSearch(sweep, ledger, COST, population and population.has_room),
            scheduler=scheduler,
            num_samples=sweep.total_trials,
            # Tune would count trials of a population that only wait for the others.
            max_concurrent_trials=None if population else sweep.concurrency,
            time_budget_s=sweep.max_seconds,
            reuse_actors=True,  # a process takes seconds to start and to import what a trial needs
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=SCHEDULER,
            storage_path=str(ledger.folder),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            stop=budget,
            callbacks=[Watch(sweep, ledger)],
            verbose=0,
        ),
    )
    tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    return budget.stop_all() or time.monotonic() > deadline


def _seeds(sweep: Sweep, ledger: Ledger, parent: str) -> None:
    """Trains the best config with the seeds of the sweep, where it names some and a trial has come to its end.

    Raises:
      SweepStopped: somebody ended it.
    """
    from bertjax.sweeps.best_config_seeds import train_seeds

    best = read_results(ledger.folder).best
    if best is None or not sweep.seeds:
        return
    try:
        train_seeds(sweep, ledger, best.trial, parent)
    except KeyboardInterrupt:
        raise SweepStopped(f"the sweep in {ledger.folder} was stopped; --resume {ledger.folder} continues it") from None


def _resources(sweep: Sweep) -> dict[str, float]:
    """What a trial takes, by Ray's names."""
    own = {"CPU": sweep.cpus, "GPU": sweep.gpus, **sweep.resources}
    return {name: float(amount) for name, amount in own.items() if amount}


def _environment(sweep: Sweep) -> dict[str, str]:
    """What trials find in their environment, on whatever machine: this process's, and their share of a GPU's memory."""
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY_OF_A_GPU * sweep.gpus:.3f}"} if 0 < sweep.gpus < 1 else {}
    return share | ray_cluster.carried_variables()  # a share that the user has set stays


def _conclude(ledger: Ledger, in_budget: bool) -> None:
    """Gives every trial that Ray has left an end, in the ledger and in MLflow.

    Raises:
      SweepStopped: trials are left over, and not because the budget was spent.
    """
    for trial in ledger.trials():
        if trial.status == "running":
            if in_budget:
                raise SweepStopped(f"the sweep in {ledger.folder} was stopped; --resume {ledger.folder} continues it")
            ledger.record(trial.number, status="stopped", cause="the budget of the sweep was spent")
    for trial in ledger.trials():
        if trial.status in ("stopped", "failed"):
            _close_run(ledger.run_folder(trial.number), trial)


def _close_run(run: Path, trial: Trial) -> None:
    """Ends the MLflow run of a trial as the ledger has it: its own process was killed, or knew no better.

    Ray says that a trial is over when it has told its process so; the last word must come after that of the process.
    """
    from bertjax.sweeps.trial import alone_in

    with alone_in(run):
        _record_end(run, trial)


def _record_end(run: Path, trial: Trial) -> None:
    path = run / event_log.FILE
    if not path.exists():
        return
    statuses = [event["status"] for event in event_log.events(path) if "status" in event]
    ended = "FAILED" if trial.status == "failed" else "FINISHED"
    if statuses[-1:] != [ended]:
        EventLog(path).record({"status": ended, "time_ms": round(time.time() * 1000)})
        send_rest(run)


def _tidy(results: Results) -> None:
    """Removes the checkpoints of trials that have ended, and the models of all but the best."""
    best = results.best
    for result in results.trials:
        run = results.run_folder(result)
        shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        clear(run)
        if best is None or result.trial.number != best.trial.number:
            shutil.rmtree(run / MODEL, ignore_errors=True)
    for checkpoints in (results.folder / SEEDS).glob(f"*/*/{CHECKPOINTS}"):
        shutil.rmtree(checkpoints, ignore_errors=True)


def _flat(sweep: Sweep) -> dict[str, Any]:
    """Every setting of a sweep under one key."""
    values = to_json(sweep)
    base, space = values.pop("base"), values.pop("space")
    return (
        values
        | {f"base.{path}": value for path, value in base.items()}
        | {f"space.{path}": dimension for path, dimension in space.items()}
    )


class _ray:  # noqa: N801 (a context manager, read as one)
    """Ray, started here unless it already runs; what was started is stopped again."""

    def __init__(self, address: str | None, environment: Mapping[str, str]):
        self._address, self._environment = address, dict(environment)
        self._started = False

    def __enter__(self) -> None:
        import ray

        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the runs have a tracker
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # and the sweep has lines of its own
        if ray.is_initialized():
            return
        ray_cluster.join(
            self._address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": self._environment},
        )
        self._started = True

    def __exit__(self, *exception: Any) -> None:
        import ray

        if self._started:
            ray.shutdown()
