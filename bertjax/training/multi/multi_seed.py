"""Several seeds of one config: a whole run each, and what they say together.

OUT/config.json     the settings and the seeds, written first
OUT/seed-0/         the run of a seed, a run folder like any other, recorded under the run of them all
OUT/metrics.json    mean and standard deviation over the seeds, written last
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bertjax.errors import ConfigError, RunFolderError, UserError
from bertjax.evaluation.aggregate import aggregates, flat
from bertjax.prediction.devices import several_processes
from bertjax.settings import flatten, require
from bertjax.storage.atomic_write import write_json
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.tracker import Status, Tracker
from bertjax.training.loop.early_stopping import VALIDATION
from bertjax.training.loop.fit import Diverged, Interrupted
from bertjax.training.loop.progress import NoProgress, Progress
from bertjax.training.multi.lockstep import in_lockstep
from bertjax.training.multi.stacked_seeds import Stack
from bertjax.training.run import run_folder
from bertjax.training.run.environment import describe_environment, package_versions, with_variables
from bertjax.training.run.finetuning import FineTuneResult, Job, conduct, ready, run_alone
from bertjax.training.run.run_folder import seed_folder
from bertjax.training.settings.finetune_config import FineTuneConfig, check_seeds

logger = logging.getLogger(__name__)

_SCORES = ("test/", f"{VALIDATION}/")


@dataclass(frozen=True)
class SeedsResult:
    """What the runs of several seeds leave.

    Attributes:
      folder: of all of them; `seed-0` and so on in it are the runs.
      runs: seed -> the metrics of its run, in the order in which the seeds were given.
      failures: seed -> why its run came to no end.
      metrics: flat, such as `test/accuracy_mean` and `test/accuracy_sd`; the content of `metrics.json`.
      run_id: of the tracker's run that has the others under it.
    """

    folder: Path
    runs: Mapping[int, Mapping[str, float]]
    failures: Mapping[int, str]
    metrics: Mapping[str, float]
    run_id: str

    @property
    def scores(self) -> dict[int, dict[str, float]]:
        """Seed -> its metrics on test and validation rows."""
        return {seed: _scores_of(metrics) for seed, metrics in self.runs.items()}

    def model_dir(self, seed: int) -> Path:
        """The model that one seed left."""
        return seed_folder(self.folder, seed) / run_folder.MODEL


def finetune_seeds(
    config: FineTuneConfig,
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    stack: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    allow_changed: bool = False,
    command: str | None = None,
    new_tracker: Callable[[str | None], Tracker] | None = None,
    new_progress: Callable[[], Progress] = NoProgress,
    should_stop: Callable[[], bool] = lambda: False,
) -> SeedsResult:
    """Fine-tunes with several seeds, and says mean and standard deviation of every score.

    One after the other, or side by side in one program, to the same numbers but for rounding. A seed whose training
    diverges, or which stops early, leaves the others as they are.

    Args:
      config: what to do; its seed is replaced.
      seeds: distinct.
      out: folder of the runs; default: a new one under `runs/`.
      stack: side by side: all states are in the devices' memory at once.
      resume: keep the runs in `out` that have ended, continue the one that has not, and run the seeds that are missing.
      overwrite: replace what is in `out`.
      allow_changed: see `finetune`.
      command: that does the same without its seeds, for the records.
      new_tracker: id of the run that a run is a part of, if any -> its tracker; default: MLflow.
      new_progress: makes what shows the steps of a run.
      should_stop: see `finetune`.

    Raises:
      ConfigError: the stacked seeds do not fit in the devices' memory.
      UserError: what `finetune` raises; nothing has been written then, unless a later seed has a mistake of its own.
      Diverged: every seed did.
      Interrupted: `should_stop` said so; `resume` continues.
    """
    config = config.resolved()
    require(len(seeds) > 0, "seeds must be one or more", list(seeds))
    check_seeds(seeds)
    if several_processes():
        raise ConfigError("several processes share one run, and several seeds are several; start each seed by itself")
    folder = Path(out) if out is not None else run_folder.default_folder(config)
    settings = flatten(config) | {"seeds": list(seeds)}
    del settings["seed"]
    _check_folder(folder, settings, resume, overwrite, allow_changed)

    def get_ready(seed: int) -> Job:
        own = seed_folder(folder, seed)
        goes_on = resume and (own / run_folder.CONFIG).exists()
        # What is overwritten goes with the folder around it.
        return ready(replace(config, seed=seed), own, resume=goes_on, overwrite=overwrite, allow_changed=allow_changed)

    runs = {seed: found for seed in seeds if resume and (found := _finished(seed_folder(folder, seed)))}
    left = [seed for seed in seeds if seed not in runs]
    checked = {seed: get_ready(seed) for seed in (left if stack else left[:1])}  # before anything is written
    if new_tracker is None:
        new_tracker = partial(MlflowTracker, config.experiment)
    tracker = new_tracker(None)
    tracker.connect()
    environment = describe_environment() | {"command": with_variables(_command(command, config, seeds))}
    run_folder.open_folder(folder, settings, resume, environment | {"packages": package_versions()})
    run_id = tracker.start(folder.name, settings, folder, environment | {"bertjax.kind": "seeds"})

    def listeners(seed: int, shown: bool = True) -> dict[str, Any]:
        return {
            "command": f"{command} --seed {seed}" if command else None,
            "tracker": new_tracker(run_id),
            "progress": new_progress() if shown else None,
            "should_stop": should_stop,
        }

    def run(seed: int) -> FineTuneResult:
        logger.info("seed %d, number %d of %d", seed, seeds.index(seed) + 1, len(seeds))
        return run_alone(checked.pop(seed) if seed in checked else get_ready(seed), **listeners(seed))

    status: Status = "FAILED"
    try:
        outcomes = _side_by_side(checked, listeners) if stack and left else _one_by_one(left, run)
        failures = {seed: str(outcome) for seed, outcome in outcomes.items() if isinstance(outcome, Diverged)}
        for seed, outcome in outcomes.items():
            if isinstance(outcome, FineTuneResult):
                runs[seed] = outcome.metrics
        runs = {seed: runs[seed] for seed in seeds if seed in runs}
        if not runs:
            raise Diverged(f"every seed diverged; the first: {next(iter(failures.values()))}")
        metrics = _together(runs)
        write_json(folder / run_folder.METRICS, metrics)
        tracker.log_metrics(metrics, len(runs))  # a second start has more of them
        for name in (run_folder.CONFIG, run_folder.METRICS):
            tracker.log_artifact(folder / name)
        status = "FAILED" if failures else "FINISHED"
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)
    return SeedsResult(folder, runs, failures, metrics, run_id)


def _one_by_one(seeds: Sequence[int], run: Callable[[int], FineTuneResult]) -> dict[int, FineTuneResult | Diverged]:
    """What each seed's run leaves, or how it diverged."""
    outcomes: dict[int, FineTuneResult | Diverged] = {}
    for seed in seeds:
        try:
            outcomes[seed] = run(seed)
        except Diverged as error:
            logger.warning("seed %d: %s", seed, error)
            outcomes[seed] = error
    return outcomes


def _side_by_side(
    jobs: Mapping[int, Job], listeners: Callable[[int, bool], dict[str, Any]]
) -> dict[int, FineTuneResult | Diverged]:
    """The same for jobs of different seeds, in one program.

    Args:
      jobs: seed -> job.
      listeners: of a seed, and whether it is the one whose steps are shown -> further arguments of `conduct`.
    """
    first, *_ = jobs.values()
    states, plans = [job.hand_over() for job in jobs.values()], [job.prepared.train.plan for job in jobs.values()]
    stack = Stack(first.devices, first.prepared.model, first.step, states, plans, first.config.accumulate)
    states.clear()
    shown = next(iter(jobs))
    with closing(stack.engine):
        runs = [
            conduct(job, seat, name=f"seed {seed}", **listeners(seed, seed == shown))
            for (seed, job), seat in zip(jobs.items(), stack.seats, strict=True)
        ]
        outcomes = in_lockstep(runs, stack.train)
    for outcome in outcomes:
        if isinstance(outcome, UserError) and not isinstance(outcome, Diverged):
            raise outcome
    return dict(zip(jobs, outcomes, strict=True))  # type: ignore[arg-type]


def _command(command: str | None, config: FineTuneConfig, seeds: Sequence[int]) -> str:
    """What does it all again."""
    if command is None:
        return f"bertjax.finetune_seeds({config!r}, {list(seeds)})"
    return f"{command} --seeds {' '.join(map(str, seeds))}"


def _check_folder(
    folder: Path, settings: Mapping[str, Any], resume: bool, overwrite: bool, allow_changed: bool
) -> None:
    """As for a single run, but a second start may name other seeds."""
    if resume:
        stored = run_folder.stored_settings(folder)
        if "seeds" not in stored:
            raise RunFolderError(f"{folder} holds the run of a single seed; choose another --out")
        settings = {**settings, "seeds": stored["seeds"]}
    run_folder.check_folder(folder, settings, resume, overwrite, allow_changed)


def read_scores(folder: Path, seeds: Sequence[int]) -> dict[int, dict[str, float]]:
    """Seed -> its metrics on test and validation rows, for those that have ended in the folder of several."""
    found = {seed: _finished(seed_folder(folder, seed)) for seed in seeds}
    return {seed: _scores_of(metrics) for seed, metrics in found.items() if metrics}


def _finished(folder: Path) -> Mapping[str, float] | None:
    """The metrics of a run that has ended."""
    path = folder / run_folder.METRICS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _scores_of(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith(_SCORES)}


def _together(runs: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    scores = flat(aggregates([_scores_of(metrics) for metrics in runs.values()]))
    return scores | {"seeds": len(runs), "train/seconds": sum(metrics["train/seconds"] for metrics in runs.values())}
