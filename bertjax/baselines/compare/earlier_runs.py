"""The runs of earlier starts of a comparison: kept for what they were made from, or run again."""

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.runner_result import MODEL, RunResult, read_result, run_folder
from bertjax.errors import RunFolderError
from bertjax.training.run.run_folder import IfExists
from bertjax.training.settings.finetune_config import of_this_version
from bertjax.training.settings.resume_rules import Change, changes_between, listed

logger = logging.getLogger(__name__)


class Run(NamedTuple):
    """One framework with one seed."""

    framework: str
    seed: int
    keeps_model: bool

    @property
    def title(self) -> str:
        """For messages."""
        return f"{FRAMEWORKS[self.framework].title}, seed {self.seed}"


def read_kept(
    out: Path, runs: Sequence[Run], present: Mapping[str, Any], stored: Mapping[str, Any], if_exists: IfExists
) -> dict[Run, RunResult]:
    """The results of earlier starts that the comparison keeps.

    Args:
      present: the fingerprints of a run of today, whatever its framework and its seed, and `labels`.
      stored: the flat settings of the folder, for results of versions that did not say what they were made from.

    Raises:
      RunFolderError: one was made from something else, and `if_exists` is not "resume_changed".
    """
    found = {run: result for run in runs if (result := read_result(run_folder(out, run.framework, run.seed)))}
    changes = {run: _changes_of(result, present, stored) for run, result in found.items()}
    others = [run for run in found if changes[run]]
    if others and if_exists != "resume_changed":
        names = ", ".join(run_folder(out, run.framework, run.seed).name for run in others)
        raise RunFolderError(
            f"{out}: {names} {'was' if len(others) == 1 else 'were'} made from other settings or data than the present "
            f"ones: {listed(changes[others[0]])}; put them back or choose another --out, or --allow-changed runs "
            f"them again"
        )
    for run in others:
        logger.warning("%s was made from something else (%s): it runs again", run.title, listed(changes[run]))
    kept = {run: result for run, result in found.items() if not changes[run]}
    for run in [run for run in kept if run.keeps_model and FRAMEWORKS[run.framework].trains]:
        if not (run_folder(out, run.framework, run.seed) / MODEL).is_dir():
            logger.warning("%s left no model, which is wanted now: it runs again", run.title)
            del kept[run]
    return kept


def _changes_of(result: RunResult, present: Mapping[str, Any], stored: Mapping[str, Any]) -> list[Change]:
    """What a result was made from and would not be now; the arguments are those of `read_kept`."""
    made_from = of_this_version(result.made_from) if result.made_from else {**stored, "seed": result.seed}
    then = {**made_from, "labels": list(result.labels), **result.versions}
    return changes_between(
        then, {**present, "seed": result.seed, **{name: _installed(name) for name in result.versions}}
    )


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
