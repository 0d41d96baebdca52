"""A comparison: every framework on every seed, each in a process of its own, taking turns; then what they say together.

    OUT/config.json           the settings, written first
    OUT/FRAMEWORK-SEED/       one run, see `results`
    OUT/metrics.json          what they say together
    OUT/report.html           the same for people

A run that crashes leaves the others as they are; a second start with `resume` completes what is missing.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bertjax.baselines.compare.comparison_report import render_comparison
from bertjax.baselines.compare.summary import Failure, Summary, summarise
from bertjax.baselines.runners.frameworks import FRAMEWORKS, check_frameworks, check_job
from bertjax.baselines.runners.runner_result import LOG, Result, read_error, read_result, run_folder, write_error
from bertjax.errors import ConfigError, RunFolderError
from bertjax.prediction.devices import all_devices
from bertjax.settings import flatten, require
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.tasks import find_task
from bertjax.tracking import event_log
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.tracker import Status, Tracker
from bertjax.training.run.environment import describe_environment
from bertjax.training.run.prepare import prepare
from bertjax.training.run.run_folder import CONFIG, METRICS, REPORT, check_folder
from bertjax.training.settings.finetune_config import FineTuneConfig

logger = logging.getLogger(__name__)


def compare(
    config: FineTuneConfig,
    frameworks: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    keep_models: bool = False,
    new_tracker: Callable[[str | None], Tracker] | None = None,
) -> Summary:
    """Trains every framework on every seed and compares them.

    Args:
      config: the job; its seed is replaced.
      frameworks: rows of `FRAMEWORKS`; the first is compared with each other one.
      seeds: of head, order and dropout; all frameworks share them.
      out: folder of the comparison.
      resume: keep the runs that are there, and run what is missing.
      overwrite: replace the comparison in `out`.
      keep_models: leave each trained model in its run's folder.
      new_tracker: id of the run that it is a part of, if any -> a tracker; default: MLflow.

    Raises:
      UserError: anything about the input or the folder that the user can mend; nothing has been written then.
    """
    check_frameworks(frameworks)
    require(bool(seeds) and len(set(seeds)) == len(seeds), "seeds must be distinct, one or more", list(seeds))
    config = replace(config.resolved(), seed=0)
    _check_names(config, out)
    check_folder(out, flatten(config), resume, overwrite)
    labels = _check_input(config, frameworks, seeds[0])
    new_tracker = new_tracker or (lambda parent: MlflowTracker(config.experiment, parent_run_id=parent))
    runs = [(framework, seed) for seed in seeds for framework in frameworks]  # taking turns
    if resume:
        _check_labels(out, runs, labels)

    tracker = new_tracker(None)
    tracker.connect()
    _open(out, config, resume)
    settings = {**flatten(config), "frameworks": list(frameworks), "seeds": list(seeds)}
    run_id = tracker.start(out.name, settings, out, describe_environment())
    status: Status = "FAILED"
    try:
        results: list[Result] = []
        failures: list[Failure] = []
        for framework, seed in runs:
            found = _run(out, framework, seed, keep_models or (framework == "jax" and "onnx" in frameworks))
            (results if isinstance(found, Result) else failures).append(found)  # type: ignore[arg-type]
            _record(new_tracker(run_id), run_folder(out, framework, seed), found)
        metric = find_task(config.task).metric
        assert metric is not None, "what trains is measured"
        summary = summarise(results, failures, frameworks, metric, dropout=config.dropout_rate != 0)
        write_json(out / METRICS, summary.flat())
        title = f"{config.model} on {config.data.train}"
        write_text(out / REPORT, render_comparison(title, summary, results, settings))
        tracker.log_metrics(summary.flat(), len(results))  # a second start has more of them
        for name in (CONFIG, METRICS, REPORT):
            tracker.log_artifact(out / name)
        status = "FAILED" if failures else "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)
    return summary


def _check_names(config: FineTuneConfig, out: Path) -> None:
    """A folder that has the name of an input would be read in its place by the processes that follow."""
    table = config.data
    if out.absolute() in {
        Path(name).absolute() for name in (config.model, table.train, table.validation, table.test) if name
    }:
        raise RunFolderError(f"--out {out} is the name of the model or of a table as well; choose another --out")


def _check_input(config: FineTuneConfig, frameworks: Sequence[str], seed: int) -> tuple[str, ...]:
    """Finds what is wrong with table, model and settings before a process is started for them; the label names."""
    prepared = prepare(replace(config, seed=seed), all_devices(config.engine).count)
    check_job(frameworks, config, prepared.model)
    return prepared.model.labels


def _check_labels(out: Path, runs: Sequence[tuple[str, int]], labels: tuple[str, ...]) -> None:
    for framework, seed in runs:
        result = read_result(run_folder(out, framework, seed))
        if result is not None and result.labels != labels:
            raise RunFolderError(
                f"{run_folder(out, framework, seed)} was trained on other labels ({', '.join(result.labels)}) than the "
                f"table has now ({', '.join(labels)}); choose another --out"
            )


def _open(out: Path, config: FineTuneConfig, resume: bool) -> None:
    """Makes the folder ready; an overwritten comparison's own files go."""
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        return
    for path in out.iterdir():
        if path.name.rsplit("-", 1)[0] in FRAMEWORKS:
            shutil.rmtree(path)
    for name in (METRICS, REPORT, event_log.FILE, CONFIG):
        (out / name).unlink(missing_ok=True)
    write_json(out / CONFIG, flatten(config))


def _run(out: Path, framework: str, seed: int, keep_model: bool) -> Result | Failure:
    """The result of one run, of an earlier start or of a process of its own."""
    folder = run_folder(out, framework, seed)
    result = read_result(folder)
    if result is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        logger.info("%s, seed %d", FRAMEWORKS[framework].title, seed)
        command = [sys.executable, "-m", "bertjax.baselines.runners.runner_process", str(out), framework, str(seed)]
        status = _process([*command, *(["--keep-model"] if keep_model else [])], folder / LOG)
        result = read_result(folder)
        if result is None:
            write_error(folder, read_error(folder) or _ending(status))
            error = read_error(folder) or ""
            logger.warning("%s, seed %d failed: %s (see %s)", framework, seed, error, folder / LOG)
            return Failure(framework, seed, error)
    return result


def _process(command: Sequence[str], log: Path) -> int:
    """Runs a process to its end, which is also ours; returns its status."""
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


def _ending(status: int) -> str:
    if status == -signal.SIGKILL:
        return "the process was killed; the machine may have run out of memory"
    if status < 0:
        return f"the process ended by {signal.Signals(-status).name}"
    return f"the process ended with status {status}"


def _record(tracker: Tracker, folder: Path, found: Result | Failure) -> None:
    """One run of the tracker; what an earlier start has recorded is left as it is."""
    try:
        tracker.connect()
        tracker.start(folder.name, {"framework": found.framework, "seed": found.seed}, folder)
    except ConfigError as error:  # hours of training are not given up for it
        logger.warning("%s is not recorded: %s; --resume records it", folder.name, error)
        return
    if isinstance(found, Failure):
        tracker.finish("FAILED")
        return
    for step, loss in enumerate(found.losses, start=1):
        tracker.log_metrics({"train/loss": float(loss)}, step)
    tracker.log_metrics(found.metrics | found.measured, len(found.losses))
    tracker.finish("FINISHED")
