"""What earlier starts left of several seeds: results that are kept, runs that go on, runs that begin again.

A mean is one of seeds that were made from the same: settings, rows, weights, and whatever else is a fingerprint of a
run. What was made from something else is refused; where that is allowed, it becomes what its seed would be now.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.errors import RunFolderError
from bertjax.training.run.made_from import of_last_start, other_inputs, read_made_from
from bertjax.training.run.prepared_run import PreparedRun
from bertjax.training.run.run_folder import (
    CONFIG,
    METRICS,
    RESUMES,
    IfExists,
    changed,
    has_checkpoint,
    seed_folder,
)

logger = logging.getLogger(__name__)

DIVERGED = "diverged.txt"


class EarlierSeeds(NamedTuple):
    """What is left of earlier starts.

    Attributes:
      finished: seed -> its metrics, which are kept.
      diverged: seed -> how it did, and would do again.
      missing: seed -> how its run begins.
    """

    finished: Mapping[int, Mapping[str, float]]
    diverged: Mapping[int, str]
    missing: Mapping[int, IfExists]


def read_earlier(folder: Path, seeds: Sequence[int], present: Mapping[str, Any], if_exists: IfExists) -> EarlierSeeds:
    """Decides what becomes of each seed.

    Args:
      folder: of all seeds.
      present: the fingerprints of a run of today, whatever its seed.
      if_exists: see `finetune_seeds`.

    Raises:
      RunFolderError: a seed was made from something else, and `if_exists` does not allow it.
    """
    if if_exists not in RESUMES:
        return EarlierSeeds({}, {}, dict.fromkeys(seeds, if_exists))
    changes = {seed: _changes(seed_folder(folder, seed), {**present, "seed": seed}) for seed in seeds}
    others = [seed for seed in seeds if changes[seed]]
    if others and if_exists == "resume":
        raise RunFolderError(
            f"{folder}: {_named(others)} made from other settings or data than the present ones: "
            f"{'; '.join(changes[others[0]])}; put them back or choose another --out, or --allow-changed makes every "
            f"seed from the present ones"
        )
    finished: dict[int, Mapping[str, float]] = {}
    diverged: dict[int, str] = {}
    missing: dict[int, IfExists] = {}
    for seed in seeds:
        own = seed_folder(folder, seed)
        metrics = finished_metrics(own)
        if metrics is not None and not changes[seed]:
            finished[seed] = metrics
        elif if_exists == "resume" and (own / DIVERGED).is_file():
            diverged[seed] = (own / DIVERGED).read_text(encoding="utf-8")
            logger.warning("seed %d diverged in an earlier start and is not tried again: %s", seed, diverged[seed])
        else:
            missing[seed] = policy = _policy(own, if_exists)
            if changes[seed]:
                # Half of a training on other rows would be neither the one seed nor the other.
                again = other_inputs(read_made_from(own), present) or not has_checkpoint(own)
                missing[seed] = "overwrite" if again else policy
                what = "it begins again" if again else "it goes on with the present settings"
                logger.warning("seed %d was made from something else (%s): %s", seed, "; ".join(changes[seed]), what)
    return EarlierSeeds(finished, diverged, missing)


def first_to_prepare(folder: Path, seeds: Sequence[int], if_exists: IfExists) -> tuple[int, IfExists] | None:
    """A seed that is run in any case, and how its run begins; None where that hangs on what the seeds were made from."""
    for seed in seeds:
        own = seed_folder(folder, seed)
        policy, keeps = _policy(own, if_exists), (own / METRICS).is_file() or (own / DIVERGED).is_file()
        if policy != "resume_changed" and not (policy == "resume" and keeps):
            return seed, policy
    return None


def check_alike(folder: Path, present: Mapping[str, Any], runs: Mapping[int, PreparedRun]) -> None:
    """Checks that runs are made from what all seeds are made from: files may change while other seeds train.

    Raises:
      RunFolderError: one is not.
    """
    for seed, run in runs.items():
        if changes := changed({**present, "seed": seed}, run.fingerprints):
            raise RunFolderError(
                f"{folder}: something has changed since the seeds began: {'; '.join(changes)}; put it back, and "
                f"--resume continues with seed {seed}"
            )


def finished_alike(folder: Path, seeds: Sequence[int]) -> dict[int, Mapping[str, float]]:
    """Seed -> its metrics, for those that have ended and were made from what the last start of all is made from."""
    if not (folder / CONFIG).is_file():
        return {}
    present = {key: value for key, value in of_last_start(folder).items() if key != "seeds"}
    ended = {seed: metrics for seed in seeds if (metrics := finished_metrics(seed_folder(folder, seed))) is not None}

    def is_alike(seed: int) -> bool:
        stored = read_made_from(seed_folder(folder, seed))
        return not changed({key: value for key, value in stored.items() if key in present}, present)

    return {seed: metrics for seed, metrics in ended.items() if is_alike(seed)}


def finished_metrics(own: Path) -> Mapping[str, float] | None:
    """The metrics of a run that has ended; None where it has not."""
    path = own / METRICS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _policy(own: Path, if_exists: IfExists) -> IfExists:
    """How the run of a seed begins where nothing that it was made from has changed."""
    # An overwritten run goes with the folder around it.
    return "error" if if_exists in RESUMES and not (own / CONFIG).exists() else if_exists


def _changes(own: Path, present: Mapping[str, Any]) -> list[str]:
    """What the run of a seed was made from and would not be now; nothing where it has nothing to keep."""
    keeps = (own / METRICS).is_file() or (own / DIVERGED).is_file() or has_checkpoint(own)
    return changed(read_made_from(own), present) if keeps and (own / CONFIG).is_file() else []


def _named(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]} was" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))} were"
