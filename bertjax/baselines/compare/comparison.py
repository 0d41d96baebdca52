"""A comparison: every framework on every seed, in turn, each in a process of its own; then a summary of all.

    OUT/config.json           the settings, written first
    OUT/FRAMEWORK-SEED/       one run, see `runner_result`
    OUT/metrics.json          the summary
    OUT/made_from.json        what all of its runs were made from
    OUT/report.html           the same as a page

A run that crashes leaves the others as they are; a second start with `if_exists="resume"` runs what is missing. A
result is kept for what it was made from: settings, rows, weights, and the versions of its packages.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bertjax.baselines.compare.comparison_report import render_comparison
from bertjax.baselines.compare.earlier_runs import Run, read_kept
from bertjax.baselines.compare.summary import Failure, Summary, summarise
from bertjax.baselines.runners.frameworks import FRAMEWORKS, check_frameworks, check_job
from bertjax.baselines.runners.runner_result import LOG, RunResult, read_error, read_result, run_folder, write_error
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import ConfigError, RunFolderError
from bertjax.settings import flatten, require
from bertjax.stage_progress import UNSHOWN, StageProgress
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.tasks import find_task
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.event_log import next_step
from bertjax.tracking.tracker import Tracker, tracked_run
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.run.beginning import Beginning, held_folder
from bertjax.training.run.environment import describe_environment
from bertjax.training.run.made_from import inputs_of, without_seed, write_made_from
from bertjax.training.run.prepare import prepare
from bertjax.training.run.prepared_run import fingerprints
from bertjax.training.run.run_folder import (
    CONFIG,
    METRICS,
    REPORT,
    RESUMES,
    IfExists,
    belongs_to_run,
    check_folder,
    stored_settings,
)
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.resume_rules import changes_between, listed

logger = logging.getLogger(__name__)


def compare(
    config: FineTuneConfig,
    frameworks: Sequence[str],
    seeds: Sequence[int],
    out: str | Path,
    *,
    if_exists: IfExists = "error",
    keep_models: bool = False,
    new_tracker: Callable[[str | None], Tracker] | None = None,
    progress: StageProgress = UNSHOWN,
) -> Summary:
    """Trains every framework on every seed and compares them.

    Args:
      config: the job; its seed is not used.
      frameworks: rows of `FRAMEWORKS`; the first is compared with each other one.
      seeds: distinct; of head, order and dropout, the same for all frameworks.
      out: folder of the comparison.
      if_exists: what happens to a comparison in `out`: "error", "resume" (keep its runs, and run those that are
        missing), "resume_changed" (the same, and again those that were made from other settings, rows, weights or
        versions), or "overwrite".
      keep_models: keep each trained model in the folder of its run.
      new_tracker: id of the parent run, or None for the comparison's own -> a tracker; default: MLflow.
      progress: shows how many runs have ended.

    Raises:
      UserError: the input or the folder is wrong in a way that the user can mend; nothing has been written then.
    """
    check_frameworks(frameworks)
    require(bool(seeds) and len(set(seeds)) == len(seeds), "seeds must be distinct, one or more", list(seeds))
    config, out = replace(config.resolved(), seed=0), Path(out)
    _check_names(config, out)
    with held_folder(out, _belongs):
        return _compare(config, frameworks, seeds, out, if_exists, keep_models, new_tracker, progress)


def _compare(
    config: FineTuneConfig,
    frameworks: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    if_exists: IfExists,
    keep_models: bool,
    new_tracker: Callable[[str | None], Tracker] | None,
    progress: StageProgress,
) -> Summary:
    """`compare` in a folder that this process holds."""
    if if_exists != "resume_changed":  # where results of other settings are made again, whatever these are
        check_folder(out, flatten(config), if_exists)
    new_tracker = new_tracker or partial(tracker_of, config.tracking, config.experiment)
    tracker = new_tracker(None)
    tracker.check(out if if_exists in RESUMES else None)
    present = _check_input(config, frameworks, seeds[0])
    runs = [  # taking turns
        Run(framework, seed, keep_models or (framework == "jax" and "onnx" in frameworks))
        for seed in seeds
        for framework in frameworks
    ]
    resumes = if_exists in RESUMES
    kept = read_kept(out, runs, present, stored_settings(out), if_exists) if resumes else {}

    settings = {**flatten(config), "frameworks": list(frameworks), "seeds": list(seeds)}
    inputs = inputs_of(present)
    with Beginning(out, resumes, _belongs) as beginning, tracked_run(tracker) as tracked:
        beginning.open(partial(write_json, out / CONFIG, flatten(config)))  # the processes of the runs read it
        tags = describe_environment() | inputs | {"bertjax.kind": "comparison"}
        parent = tracked.tracker.start(out.name, settings, out, tags)
        beginning.commit()
        results: list[RunResult] = []
        failures: list[Failure] = []
        with progress.stage("comparison", "runs", len(runs)) as advance:
            for run in runs:
                outcome = kept[run] if run in kept else _run(out, run, inputs)
                (results if isinstance(outcome, RunResult) else failures).append(outcome)  # type: ignore[arg-type]
                _record(new_tracker(parent), run_folder(out, run.framework, run.seed), outcome)
                advance(1)
        metric = find_task(config.task).metric
        assert metric is not None, "every task that trains has a metric"
        summary = summarise(results, failures, frameworks, metric, dropout=config.dropout_rate != 0)
        write_json(out / METRICS, summary.flat())
        write_made_from(out, without_seed(present) | {"frameworks": list(frameworks), "seeds": list(seeds)})
        title = f"{config.model} on {config.data.train}"
        write_text(out / REPORT, render_comparison(title, summary, results, inputs | settings))
        tracked.tracker.log_metrics(summary.flat(), next_step(out, len(results)))
        for name in (CONFIG, METRICS, REPORT):
            tracked.tracker.log_artifact(out / name)
        if failures:
            tracked.status = "FAILED"
    return summary


def _check_names(config: FineTuneConfig, out: Path) -> None:
    """Checks that `out` is no input: the runs' processes would read it in the place of a hub id or a catalog name."""
    table = config.data
    if out.absolute() in {
        Path(name).absolute() for name in (config.model, table.train, table.validation, table.test) if name
    }:
        raise RunFolderError(f"--out {out} is the name of the model or of a table as well; choose another --out")


def _check_input(config: FineTuneConfig, frameworks: Sequence[str], seed: int) -> dict[str, Any]:
    """Checks table, model and settings before the first process starts; returns what a run is made from now."""
    devices = all_devices(config.engine)
    prepared = prepare(replace(config, seed=seed), devices.count, platform=devices.platform)
    trained, _ = with_adapters(prepared.model, prepared.params, config.lora, seed)
    check_job(frameworks, config, trained)
    return {**fingerprints(config, prepared), "labels": list(prepared.model.labels)}


def _belongs(name: str) -> bool:
    """Whether an entry of the folder is part of a comparison, or of a run that one may replace."""
    return belongs_to_run(name) or name.rsplit("-", 1)[0] in FRAMEWORKS


def _run(out: Path, run: Run, inputs: Mapping[str, Any]) -> RunResult | Failure:
    """The result of a new process; it fails where that read other rows or weights than the comparison began with."""
    framework, seed, keeps_model = run
    folder = run_folder(out, framework, seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    logger.info("%s", run.title)
    command = [sys.executable, "-m", "bertjax.baselines.runners.runner_process", str(out), framework, str(seed)]
    status = _process([*command, *(["--keep-model"] if keeps_model else [])], folder / LOG)
    result = read_result(folder)
    changes = [] if result is None else changes_between(inputs, inputs_of(result.made_from))
    if result is not None and not changes:
        return result
    error = read_error(folder) or _reason(status)
    if changes:
        error = f"something has changed since the comparison began: {listed(changes)}"
    write_error(folder, error)
    logger.warning("%s failed: %s (see %s)", run.title, error, folder / LOG)
    return Failure(framework, seed, error)


def _process(command: Sequence[str], log: Path) -> int:
    """Runs a process and returns its status; an exception in this process ends it, too."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment) as process,
    ):
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


def _reason(status: int) -> str:
    if status == -signal.SIGKILL:
        return "the process was killed; the machine may have run out of memory"
    if status < 0:
        return f"the process ended by {signal.Signals(-status).name}"
    return f"the process ended with status {status}"


def _record(tracker: Tracker, folder: Path, outcome: RunResult | Failure) -> None:
    """Records one run; the tracker leaves out what an earlier start has recorded."""
    try:
        tracker.connect()
        tracker.start(folder.name, {"framework": outcome.framework, "seed": outcome.seed}, folder)
    except ConfigError as error:  # no reason to lose hours of training
        logger.warning("%s is not recorded: %s; --resume records it", folder.name, error)
        return
    if isinstance(outcome, Failure):
        tracker.finish("FAILED")
        return
    for step, loss in enumerate(outcome.losses, start=1):
        tracker.log_metrics({"train/loss": float(loss)}, step)
    tracker.log_metrics(outcome.metrics | outcome.measured, len(outcome.losses))
    tracker.finish("FINISHED")
