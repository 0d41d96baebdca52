"""The driver of a sweep: it starts Ray, runs the trials with Ray Tune, and writes the report."""

import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bertjax import ray_cluster
from bertjax.errors import ConfigError, RunFolderError, Stopped
from bertjax.settings import differences
from bertjax.stage_progress import UNSHOWN, Advance, StageProgress
from bertjax.storage.atomic_write import write_text
from bertjax.storage.folder_lock import check_is_folder, contents, locked_folder
from bertjax.sweeps.best_config_seeds import train_seeds
from bertjax.sweeps.ledger import SCHEDULER, SEEDS, SWEEP, Ledger, Trial, belongs_to_sweep
from bertjax.sweeps.results.sweep_results import Results, experiment_file, read_results
from bertjax.sweeps.same_inputs import check_trials
from bertjax.sweeps.sweep_config import Sweep, to_json
from bertjax.tracking import event_log
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.mlflow_store import tracking_address
from bertjax.tracking.mlflow_tracker import upload_pending
from bertjax.tracking.tracker import Tracking, tracked_run
from bertjax.training.run.beginning import Beginning, held_folder
from bertjax.training.run.run_folder import CHECKPOINTS, MODEL, RESUMES, IfExists

logger = logging.getLogger(__name__)

REPORT, BEST = "report.html", "best.py"

# Settings that a resumed sweep may change: how much runs, how fast, and what is kept.
_MAY_CHANGE = {"samples", "repeat_points", "concurrency", "max_seconds", "max_epochs", "cpus", "gpus", "resources",
               "retries", "keep", "seeds", "stack_seeds"}  # fmt: skip
_GPU_MEMORY_SHARE = 0.9  # of a GPU's memory, for all trials on it together


class SweepStopped(Stopped):
    """The sweep was interrupted and can be resumed."""

    def __init__(self, folder: Path):
        super().__init__(f"the sweep in {folder} was stopped; --resume {folder} continues it")


def run_sweep(
    sweep: Sweep,
    out: str | Path,
    *,
    if_exists: Literal["error", "resume", "resume_changed"] = "error",
    address: str | None = None,
    progress: StageProgress = UNSHOWN,
) -> Results:
    """Runs a sweep, or the rest of one.

    Args:
      sweep: its settings.
      out: folder of the sweep.
      if_exists: what to do with a sweep that is in `out`: refuse ("error"), or continue it ("resume"): trials that have
        ended stay, the others continue. They must have been made from the rows and weights at hand, and by the present
        versions and devices unless it is "resume_changed".
      address: of a Ray cluster, see `ray_cluster.join`.
      progress: shows how many trials have ended.

    Returns:
      Every trial with its scores.

    Raises:
      UserError: a mistake in settings, folder or cluster, found before a trial starts.
      ConfigError: every trial failed.
      SweepStopped: the sweep was interrupted.
    """
    folder = Path(out).absolute()
    with held_folder(folder, belongs_to_sweep):
        return _run_sweep(sweep, folder, if_exists, address, progress)


def _run_sweep(
    sweep: Sweep, folder: Path, if_exists: IfExists, address: str | None, progress: StageProgress
) -> Results:
    """`run_sweep` in a folder that this process holds."""
    ledger = Ledger(folder)
    resumes, allow_changed = if_exists in RESUMES, if_exists == "resume_changed"
    check_folder(folder, sweep, resumes)
    tracker = tracker_of(sweep.base.tracking, sweep.base.experiment)
    tracker.check(folder if resumes else None)
    with (
        Beginning(folder, resumes, belongs_to_sweep) as beginning,
        tracked_run(tracker) as tracked,
        _ray_session(address, _environment(sweep)),
    ):
        check_resources(sweep)
        if resumes:
            check_trials(sweep, ledger, allow_changed)
        beginning.open(partial(ledger.open, sweep))
        if sweep.total_trials < sweep.asked_trials:
            logger.info(
                "the space has %d points, so there are as many trials and not %d (repeat_points draws a point again)",
                sweep.total_trials,
                sweep.asked_trials,
            )
        run_id = tracked.tracker.start(folder.name, _flatten(sweep), folder, {"bertjax.kind": "sweep"})
        beginning.commit()
        tracked.tracker.adopt(ledger.run_folder(trial.number) for trial in ledger.trials())
        ended = sum(trial.status != "running" for trial in ledger.trials())
        with progress.stage("sweep", "trials", sweep.total_trials, ended) as advance:
            budget_is_spent = _run_trials(sweep, ledger, run_id, allow_changed, advance)
        _end_trials(ledger, budget_is_spent, sweep.base.tracking)
        best = read_results(folder).best
        if best is not None and sweep.seeds:
            try:
                train_seeds(sweep, ledger, best.trial, run_id, allow_changed)
            except KeyboardInterrupt:
                raise SweepStopped(folder) from None
    results = read_results(folder)
    write_report(results)
    if sweep.keep == "best":
        _remove_all_but_best(results)
    if results.trials and all(result.trial.status == "failed" for result in results.trials):
        raise ConfigError(f"every trial failed; the first: {results.trials[0].trial.cause}")
    return results


def write_report(results: Results) -> None:
    """Writes the HTML page of a sweep, and the best config as an experiment file."""
    from bertjax.sweeps.results.sweep_report import render_report

    write_text(results.folder / REPORT, render_report(results))
    if results.best is not None:
        write_text(results.folder / BEST, experiment_file(results, results.best))


def check_folder(folder: Path, sweep: Sweep, resume: bool) -> None:
    """Checks that a sweep may be written to a folder; changes nothing.

    Raises:
      RunFolderError: the folder holds something else, another sweep, or nothing to resume.
    """
    if not resume:
        check_is_folder(folder)
        if contents(folder):
            holds = "already holds a sweep; continue it with --resume" if (folder / SWEEP).exists() else "is not empty"
            raise RunFolderError(f"{folder} {holds}, or choose another --out")
        return
    changed = differences(_flatten(Ledger(folder).sweep()), _flatten(sweep), but=_MAY_CHANGE)
    if changed:
        raise RunFolderError(f"{folder} holds another sweep: {'; '.join(changed)}")


def check_resources(sweep: Sweep) -> None:
    """Checks that the cluster can ever run a trial.

    Raises:
      ConfigError: it lacks a resource that a trial requires.
    """
    import ray

    available = ray.cluster_resources()
    for name, amount in _resources(sweep).items():
        if amount > available.get(name, 0):
            raise ConfigError(
                f"a trial asks for {amount:g} {name}, and the cluster has {available.get(name, 0):g}; ask for less, "
                f"or give the --address of a larger cluster"
            )


def _run_trials(sweep: Sweep, ledger: Ledger, run_id: str, allow_changed: bool, advance: Advance) -> bool:
    """Runs the trials that have not ended; returns whether the sweep's budget is spent.

    Raises:
      RunFolderError: a trial was refused, though not for its settings.
    """
    from ray import tune

    from bertjax.sweeps.schedulers import MaxEpochsStopper, make_scheduler
    from bertjax.sweeps.searchers import LedgerSearcher
    from bertjax.sweeps.trial import COST, run_trial
    from bertjax.sweeps.tune_callback import TuneCallback

    scratch = ledger.folder / SCHEDULER
    shutil.rmtree(scratch, ignore_errors=True)  # an earlier driver's; the ledger has all that counts
    trainable = partial(
        run_trial,
        folder=str(ledger.folder),
        parent_run_id=run_id,
        allow_changed=allow_changed,
        cwd=str(Path.cwd()),
        store=tracking_address(),
    )
    callback = TuneCallback(sweep, ledger, advance)
    stopper = MaxEpochsStopper(sweep.max_epochs, sweep.base.evaluation.evaluate_every)
    deadline = time.monotonic() + (sweep.max_seconds or math.inf)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _resources(sweep)),
        tune_config=tune.TuneConfig(
            metric=COST,
            mode="min",
            search_alg=LedgerSearcher(sweep, ledger, COST),
            scheduler=make_scheduler(sweep),
            num_samples=sweep.total_trials,
            max_concurrent_trials=sweep.concurrency,
            time_budget_s=sweep.max_seconds,
            reuse_actors=True,  # a process takes seconds to start and to import what a trial needs
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=SCHEDULER,
            storage_path=str(ledger.folder),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            stop=stopper,
            callbacks=[callback],
            verbose=0,
        ),
    )
    tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    if callback.refusal is not None:
        raise RunFolderError(callback.refusal)
    return stopper.stop_all() or time.monotonic() > deadline


def _end_trials(ledger: Ledger, budget_is_spent: bool, tracking: Tracking) -> None:
    """Records the end of the trials that Ray left running, and closes the runs of all that were cut short.

    Raises:
      SweepStopped: trials are left although the budget is not spent.
    """
    for trial in ledger.trials():
        if trial.status == "running":
            if not budget_is_spent:
                raise SweepStopped(ledger.folder)
            ledger.record(trial.number, status="stopped", cause="the budget of the sweep was spent")
    for trial in ledger.trials():
        if trial.status in ("stopped", "failed"):
            _close_run(ledger.run_folder(trial.number), trial, tracking)


def _close_run(run: Path, trial: Trial, tracking: Tracking) -> None:
    """Gives the run of a trial the status that the ledger has.

    The trial's process may have been killed, or has recorded another status. Ray reports a trial as ended before its
    process is, so the lock makes this the last record.
    """
    path = run / event_log.FILE
    with locked_folder(run, wait=True):
        if not path.exists():
            return
        log = EventLog(path)
        status = "FAILED" if trial.status == "failed" else "FINISHED"
        if log.status != status:
            log.record({"status": status, "time_ms": round(time.time() * 1000)})
            if tracking == "mlflow":
                upload_pending(run)


def _remove_all_but_best(results: Results) -> None:
    """Removes the checkpoints of all trials and seeds, and the models of all trials but the best."""
    best = results.best
    for result in results.trials:
        run = results.run_folder(result)
        shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        if best is None or result.trial.number != best.trial.number:
            shutil.rmtree(run / MODEL, ignore_errors=True)
    for checkpoints in (results.folder / SEEDS).glob(f"*/*/{CHECKPOINTS}"):
        shutil.rmtree(checkpoints, ignore_errors=True)


def _resources(sweep: Sweep) -> dict[str, float]:
    """The resources of a trial by Ray's names."""
    amounts = {"CPU": sweep.cpus, "GPU": sweep.gpus, **sweep.resources}
    return {name: float(amount) for name, amount in amounts.items() if amount}


def _environment(sweep: Sweep) -> dict[str, str]:
    """Environment variables of trials on any machine: this process's, and their share of a GPU's memory."""
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_GPU_MEMORY_SHARE * sweep.gpus:.3f}"} if 0 < sweep.gpus < 1 else {}
    return share | ray_cluster.carried_variables()  # a share that the user has set stays


def _flatten(sweep: Sweep) -> dict[str, Any]:
    """The settings of a sweep by dotted path."""
    values = to_json(sweep)
    nested = {f"{group}.{path}": value for group in ("base", "space") for path, value in values.pop(group).items()}
    return values | nested


@contextmanager
def _ray_session(address: str | None, environment: Mapping[str, str]) -> Iterator[None]:
    """Connects to Ray unless this process already is, and disconnects at the end if it was not."""
    import ray

    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the runs have a tracker
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the sweep logs lines of its own
    if ray.is_initialized():
        yield
        return
    ray_cluster.join(
        address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": dict(environment)}
    )
    try:
        yield
    finally:
        ray.shutdown()
