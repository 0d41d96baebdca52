"""Several seeds of one config: a whole run each, and the mean and standard deviation of their scores.

OUT/config.json     the settings and the seeds, written first
OUT/seed-0/         the run of a seed, a run folder like any other, tracked under the run of all seeds
OUT/seed-0/diverged.txt  why a seed has no result, and would have none in another start either
OUT/metrics.json    mean and standard deviation over the seeds, written last
OUT/made_from.json  what all of these seeds were made from
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bertjax.devices.data_parallel import several_processes
from bertjax.errors import ConfigError, Diverged, RunFolderError
from bertjax.metrics.aggregate import aggregates, flat
from bertjax.settings import flatten, require
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.event_log import next_step
from bertjax.tracking.tracker import Tracker, tracked_run
from bertjax.training.loop.early_stopping import VALIDATION
from bertjax.training.loop.progress import NoProgress, Progress
from bertjax.training.multi.seed_plan import DIVERGED, finished_alike, plan_seeds
from bertjax.training.multi.stacked_seeds import train_stacked
from bertjax.training.run import run_folder
from bertjax.training.run.beginning import Beginning, held_folder
from bertjax.training.run.environment import describe_environment, with_variables
from bertjax.training.run.finetuning import train_and_evaluate
from bertjax.training.run.made_from import inputs_of, without_seed, write_made_from
from bertjax.training.run.prepared_run import PreparedRun
from bertjax.training.run.run_folder import IfExists, seed_folder
from bertjax.training.run.training_session import FineTuneResult, RunContext
from bertjax.training.settings.finetune_config import FineTuneConfig, check_seeds

logger = logging.getLogger(__name__)

_SCORES = ("test/", f"{VALIDATION}/")
_BOUNDS = "test/interval/"  # of one seed's scores, of which there is no mean


@dataclass(frozen=True)
class SeedsResult:
    """The results of several seeds.

    Attributes:
      folder: of all seeds, with a folder of each run, `seed-0` and so on.
      runs: seed -> the metrics of its run, in the order in which the seeds were given.
      failures: seed -> the error that ended its run.
      metrics: flat, such as `test/accuracy_mean` and `test/accuracy_sd`; the content of `metrics.json`.
      run_id: the tracker's id of the run that has the others under it.
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
        """The model of one seed."""
        return seed_folder(self.folder, seed) / run_folder.MODEL


def finetune_seeds(
    config: FineTuneConfig,
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    stack: bool = False,
    if_exists: IfExists = "error",
    command: str | None = None,
    new_tracker: Callable[[str | None], Tracker] | None = None,
    new_progress: Callable[[], Progress] = NoProgress,
    should_stop: Callable[[], bool] = lambda: False,
) -> SeedsResult:
    """Fine-tunes with several seeds, and reports mean and standard deviation of every score.

    The seeds train one after the other, or stacked in one program, to the same numbers but for rounding. A seed whose
    training diverges, or which stops early, leaves the others as they are.

    Args:
      config: the settings of every run; the seed is replaced.
      seeds: distinct seeds.
      out: folder of the runs; default: a new one under `runs/`.
      stack: train all seeds in one program: their states are in the devices' memory together.
      if_exists: as for `finetune`; "resume" keeps the runs in `out` that have ended, continues the one that has not,
        and runs the seeds that are missing. A seed that diverged would do so again: only "resume_changed" tries it.
        "resume_changed" continues the runs that were made from other settings, too, ended or not, and begins those of
        other rows or weights again: there is no mean of runs that were made from different things.
      command: the command that does the same, without its seeds, for the records.
      new_tracker: id of the parent run, if any -> a tracker; default: MLflow.
      new_progress: makes what shows the steps of a run.
      should_stop: see `finetune`.

    Raises:
      ConfigError: the stacked seeds do not fit in the devices' memory.
      UserError: what `finetune` raises; nothing has been written then, unless a later seed has a mistake of its own.
      Diverged: every seed did.
      Interrupted: `should_stop` returned True; "resume" continues.
    """
    config = config.resolved()
    require(len(seeds) > 0, "seeds must be one or more", list(seeds))
    check_seeds(seeds)
    if several_processes():
        raise ConfigError("several processes share one run, and several seeds are several; start each seed by itself")
    folder = Path(out) if out is not None else run_folder.default_folder(config)
    with held_folder(folder):
        return _finetune_seeds(config, seeds, folder, stack, if_exists, command, new_tracker, new_progress, should_stop)


def _finetune_seeds(
    config: FineTuneConfig,
    seeds: Sequence[int],
    folder: Path,
    stack: bool,
    if_exists: IfExists,
    command: str | None,
    new_tracker: Callable[[str | None], Tracker] | None,
    new_progress: Callable[[], Progress],
    should_stop: Callable[[], bool],
) -> SeedsResult:
    """`finetune_seeds` in a folder that the caller holds."""
    settings = flatten(config) | {"seeds": list(seeds)}
    del settings["seed"]
    resumes = if_exists in run_folder.RESUMES
    _check_folder(folder, settings, if_exists)

    new_tracker = partial(tracker_of, config.tracking, config.experiment) if new_tracker is None else new_tracker
    tracker = new_tracker(None)
    tracker.check(folder if resumes else None)
    if resumes:
        run_folder.earlier_starts(folder)  # reports a damaged file before a seed trains

    # Checks every seed, and prepares those that are stacked, before anything is written.
    plan = plan_seeds(config, folder, seeds, if_exists, new_progress())
    stacked = {seed: plan.prepare(seed) for seed in plan.missing} if stack else {}
    with Beginning(folder, resumes) as beginning, tracked_run(tracker) as tracked:
        call = f"bertjax.finetune_seeds({config!r}, {list(seeds)})"
        command_of_all = with_variables(f"{command} --seeds {' '.join(map(str, seeds))}" if command else call)
        environment = describe_environment() | {"command": command_of_all} | inputs_of(plan.fingerprints)
        beginning.open(partial(run_folder.write_start, folder, settings, environment))
        parent = tracked.tracker.start(folder.name, settings, folder, environment | {"bertjax.kind": "seeds"})
        tracked.tracker.adopt(seed_folder(folder, seed) for seed in seeds)

        def context(seed: int, progress: Progress, name: str = "") -> RunContext:
            repeat = f"{command} --seed {seed}" if command else None
            return RunContext(repeat, new_tracker(parent), progress, should_stop, name, beginning.commit)

        def run(seed: int) -> FineTuneResult:
            logger.info("seed %d, number %d of %d", seed, seeds.index(seed) + 1, len(seeds))
            with held_folder(seed_folder(folder, seed)):
                return train_and_evaluate(plan.prepare(seed), context(seed, new_progress()))

        if stacked:
            shown = next(iter(stacked))
            contexts = [
                context(seed, new_progress() if seed == shown else NoProgress(), f"seed {seed}") for seed in stacked
            ]
            outcomes = _side_by_side(stacked, contexts)
        else:
            outcomes = _one_by_one(list(plan.missing), run)
        beginning.commit()  # where every seed had ended before
        failures = plan.diverged | _recorded_divergences(folder, outcomes)
        ended = plan.finished | {seed: run.metrics for seed, run in outcomes.items() if isinstance(run, FineTuneResult)}
        if not ended:
            raise Diverged(f"every seed diverged; the first: {next(iter(failures.values()))}")
        runs = {seed: ended[seed] for seed in seeds if seed in ended}
        metrics = _mean_metrics(runs)
        _record(folder, list(runs), metrics, plan.fingerprints, tracked.tracker)
        if failures:
            tracked.status = "FAILED"
    return SeedsResult(folder, runs, failures, metrics, parent)


def _record(
    folder: Path,
    seeds: Sequence[int],
    metrics: Mapping[str, float],
    fingerprints: Mapping[str, Any],
    tracker: Tracker,
) -> None:
    """Writes the metrics of all seeds and what they were made from, and tracks them."""
    write_json(folder / run_folder.METRICS, metrics)
    write_made_from(folder, without_seed(fingerprints) | {"seeds": list(seeds)})
    tracker.log_metrics(metrics, next_step(folder, len(seeds)))
    for name in (run_folder.CONFIG, run_folder.METRICS):
        tracker.log_artifact(folder / name)


def _mean_metrics(runs: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """The flat metrics of several runs by seed."""
    scores = aggregates([_scores_of(metrics) for metrics in runs.values()])
    return flat(scores) | {"seeds": len(runs), "train/seconds": sum(run["train/seconds"] for run in runs.values())}


def _one_by_one(seeds: Sequence[int], run: Callable[[int], FineTuneResult]) -> dict[int, FineTuneResult | Diverged]:
    """Seed -> the result of its run, or how it diverged."""
    outcomes: dict[int, FineTuneResult | Diverged] = {}
    for seed in seeds:
        try:
            outcomes[seed] = run(seed)
        except Diverged as error:
            logger.warning("seed %d: %s", seed, error)
            outcomes[seed] = error
    return outcomes


def _side_by_side(
    runs: Mapping[int, PreparedRun], contexts: Sequence[RunContext]
) -> dict[int, FineTuneResult | Diverged]:
    """Seed -> the result of its run, or how it diverged, for the prepared runs of seeds that are stacked."""
    with ExitStack() as held:
        for run in runs.values():
            held.enter_context(held_folder(run.folder))
        return dict(zip(runs, train_stacked(list(runs.values()), contexts), strict=True))


def _recorded_divergences(folder: Path, outcomes: Mapping[int, FineTuneResult | Diverged]) -> dict[int, str]:
    """Seed -> how it diverged, after a note of that in the folder of its run."""
    diverged = {seed: str(outcome) for seed, outcome in outcomes.items() if isinstance(outcome, Diverged)}
    for seed in outcomes:
        note = seed_folder(folder, seed) / DIVERGED
        if seed in diverged:
            write_text(note, diverged[seed])
        else:
            note.unlink(missing_ok=True)
    return diverged


def _check_folder(folder: Path, settings: Mapping[str, Any], if_exists: IfExists) -> None:
    """As for a single run, but a resumed folder may get other seeds."""
    if if_exists in run_folder.RESUMES:
        stored = run_folder.stored_settings(folder)
        if "seeds" not in stored:
            raise RunFolderError(f"{folder} holds the run of a single seed; choose another --out")
        settings = {**settings, "seeds": stored["seeds"]}
    run_folder.check_folder(folder, settings, if_exists)


def read_scores(folder: Path, seeds: Sequence[int]) -> dict[int, dict[str, float]]:
    """Seed -> its metrics on test and validation rows, for the seeds in a folder of several that have ended.

    A seed that the last start of all is about to make anew has none.
    """
    return {seed: _scores_of(metrics) for seed, metrics in finished_alike(folder, seeds).items()}


def _scores_of(metrics: Mapping[str, float]) -> dict[str, float]:
    scores = {name: value for name, value in metrics.items() if name.startswith(_SCORES)}
    return {name: value for name, value in scores.items() if not name.startswith(_BOUNDS)}
