"""Decides for each of several seeds whether to keep its earlier result, to resume its run, or to start it.

A mean is over runs with the same fingerprints: settings, rows, weights and the others. Earlier results with other
fingerprints are refused, or made again where the caller allows that.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertjax.errors import RunFolderError
from bertjax.stage_progress import UNSHOWN, StageProgress
from bertjax.storage.small_files import read_text
from bertjax.training.run.made_from import of_last_start, other_inputs, read_made_from
from bertjax.training.run.prepared_run import PreparedRun, prepare_run
from bertjax.training.run.run_folder import (
    CONFIG,
    METRICS,
    RESUMES,
    IfExists,
    has_checkpoint,
    read_metrics,
    seed_folder,
)
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.resume_rules import Change, changes_between, listed

logger = logging.getLogger(__name__)

DIVERGED = "diverged.txt"


@dataclass
class SeedPlan:
    """The seeds of a start.

    Attributes:
      config: of every run, but for the seed.
      folder: of all of them.
      fingerprints: of every run, but for the seed.
      finished: seed -> the metrics of an earlier start, which are kept.
      diverged: seed -> how it did in an earlier start, and would do again.
      missing: seed -> how its run begins.
      progress: shows how runs are prepared.
    """

    config: FineTuneConfig
    folder: Path
    fingerprints: Mapping[str, Any]
    finished: dict[int, Mapping[str, float]] = field(default_factory=dict)
    diverged: dict[int, str] = field(default_factory=dict)
    missing: dict[int, IfExists] = field(default_factory=dict)
    progress: StageProgress = UNSHOWN
    _prepared: dict[int, PreparedRun] = field(default_factory=dict)

    def prepare(self, seed: int) -> PreparedRun:
        """The run of a missing seed.

        Raises:
          RunFolderError: it would be made from something else, as files have changed while other seeds trained.
          UserError: what `prepare_run` raises.
        """
        run = self._prepared.pop(seed, None) or _prepare(
            self.config, self.folder, seed, self.missing[seed], self.progress
        )
        if changes := changes_between({**self.fingerprints, "seed": seed}, run.fingerprints):
            raise RunFolderError(
                f"{self.folder}: something has changed since the seeds began: {listed(changes)}; put it back, and "
                f"--resume continues with seed {seed}"
            )
        return run


def plan_seeds(
    config: FineTuneConfig,
    folder: Path,
    seeds: Sequence[int],
    if_exists: IfExists,
    progress: StageProgress = UNSHOWN,
) -> SeedPlan:
    """Decides what becomes of each seed; writes nothing. Other arguments are those of `finetune_seeds`.

    Raises:
      RunFolderError: a seed was made from something else, and `if_exists` does not allow it.
      UserError: what `prepare_run` raises for the first run.
    """
    ended = _read_ends(folder, seeds) if if_exists in RESUMES else {}  # a damaged file is told before rows are read
    first = _first_to_run(folder, seeds, if_exists)
    if first is None:
        run = prepare_run(config, progress=progress)
    else:
        run = _prepare(config, folder, first, _policy(folder, first, if_exists), progress)
    plan = SeedPlan(
        config, folder, run.fingerprints, progress=progress, _prepared={} if first is None else {first: run}
    )
    del run  # or its state would be in memory beside that of the next
    if if_exists not in RESUMES:
        plan.missing.update(dict.fromkeys(seeds, if_exists))
        return plan
    changes = {seed: _changes(seed_folder(folder, seed), {**plan.fingerprints, "seed": seed}) for seed in seeds}
    others = [seed for seed in seeds if changes[seed]]
    if others and if_exists == "resume":
        raise RunFolderError(
            f"{folder}: {_named(others)} made from other settings or data than the present ones: "
            f"{listed(changes[others[0]])}; put them back or choose another --out, or --allow-changed makes every "
            f"seed from the present ones"
        )
    for seed in seeds:
        own = seed_folder(folder, seed)
        metrics, cause = ended[seed]
        if metrics is not None and not changes[seed]:
            plan.finished[seed] = metrics
        elif if_exists == "resume" and cause is not None:
            plan.diverged[seed] = cause
            logger.warning("seed %d diverged in an earlier start and is not tried again: %s", seed, cause)
        elif changes[seed]:
            # Half of a training on other rows would be neither the one seed nor the other.
            again = other_inputs(read_made_from(own), plan.fingerprints) or not has_checkpoint(own)
            if not again:
                _prepare(
                    config, folder, seed, if_exists, progress
                )  # a change that no run can make is told before one trains
            plan.missing[seed] = "overwrite" if again else if_exists
            what = "begins again" if again else "goes on with the present settings"
            logger.warning("seed %d was made from something else (%s): it %s", seed, listed(changes[seed]), what)
        else:
            plan.missing[seed] = _policy(folder, seed, if_exists)
    return plan


def finished_alike(folder: Path, seeds: Sequence[int]) -> dict[int, Mapping[str, float]]:
    """Seed -> its metrics, for those that have ended and were made from what the last start of all is made from."""
    if not (folder / CONFIG).is_file():
        return {}
    present = {key: value for key, value in of_last_start(folder).items() if key not in ("seed", "seeds")}
    ended = {seed: metrics for seed in seeds if (metrics := _finished(seed_folder(folder, seed))) is not None}

    def is_alike(seed: int) -> bool:
        stored = read_made_from(seed_folder(folder, seed))
        return not changes_between({key: value for key, value in stored.items() if key in present}, present)

    return {seed: metrics for seed, metrics in ended.items() if is_alike(seed)}


def _read_ends(folder: Path, seeds: Sequence[int]) -> dict[int, tuple[Mapping[str, float] | None, str | None]]:
    """Seed -> its metrics if it has ended, and how it diverged if it did."""
    folders = {seed: seed_folder(folder, seed) for seed in seeds}
    remedy = "remove it, and --resume tries the seed again"
    return {seed: (_finished(own), read_text(own / DIVERGED, remedy)) for seed, own in folders.items()}


def _first_to_run(folder: Path, seeds: Sequence[int], if_exists: IfExists) -> int | None:
    """The first seed without a result, which is trained in any case; None where only fingerprints can tell."""
    for seed in seeds:
        own, policy = seed_folder(folder, seed), _policy(folder, seed, if_exists)
        has_ended = (own / METRICS).is_file() or (own / DIVERGED).is_file()
        if if_exists not in RESUMES or (policy != "resume_changed" and not has_ended):
            return seed
    return None


def _policy(folder: Path, seed: int, if_exists: IfExists) -> IfExists:
    """How the run of a seed begins where nothing that it was made from has changed."""
    # An overwritten run goes with the folder around it.
    return "error" if if_exists in RESUMES and not (seed_folder(folder, seed) / CONFIG).exists() else if_exists


def _prepare(
    config: FineTuneConfig, folder: Path, seed: int, if_exists: IfExists, progress: StageProgress
) -> PreparedRun:
    return prepare_run(replace(config, seed=seed), seed_folder(folder, seed), if_exists, progress)


def _changes(own: Path, present: Mapping[str, Any]) -> list[Change]:
    """What the run of a seed was made from and would not be now; nothing where it has nothing to keep."""
    keeps = (own / METRICS).is_file() or (own / DIVERGED).is_file() or has_checkpoint(own)
    return changes_between(read_made_from(own), present) if keeps and (own / CONFIG).is_file() else []


def _finished(own: Path) -> Mapping[str, float] | None:
    """The metrics of a run that has ended; None where it has not."""
    metrics = read_metrics(own)
    if metrics is not None and "train/seconds" not in metrics:
        raise RunFolderError(f"{own / METRICS} has no train/seconds; move it away and --resume the runs")
    return metrics


def _named(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]} was" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))} were"
