"""Checks that all trials of a sweep have the same inputs (rows, weights) and the same computing environment.

Before a trial starts, its inputs are compared with those of earlier trials. If files have changed, the sweep ends; if
library versions or devices have changed, a resumed sweep continues only if the user allows it.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.errors import RunFolderError
from bertjax.settings import flatten
from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.worker_task import run_in_worker
from bertjax.training.run.made_from import inputs_of, other_inputs, read_made_from
from bertjax.training.run.run_folder import CONFIG, METRICS, has_checkpoint
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.resume_rules import Change, changes_between, listed

logger = logging.getLogger(__name__)


class TrialChanges(NamedTuple):
    """What a trial was made from and would not be now, and whether rows or weights are among it."""

    number: int
    changes: list[Change]
    of_inputs: bool


def check_trials(sweep: Sweep, ledger: Ledger, allow_changed: bool) -> None:
    """Checks that what the trials of earlier drivers were made from is what new ones would be made from.

    Raises:
      RunFolderError: it is not.
      UserError: the rows or the weights cannot be read.
    """
    if not any(_has_results(ledger, trial) for trial in ledger.trials()):
        return
    changes: list[TrialChanges] = run_in_worker(sweep, _find_changes, str(ledger.folder))
    if others := [trial for trial in changes if trial.of_inputs]:
        raise RunFolderError(
            f"{ledger.folder}: {_named(others)}: scores on other data are not compared; put it back, or start the "
            f"sweep again in another --out"
        )
    if changes and not allow_changed:
        raise RunFolderError(
            f"{ledger.folder}: {_named(changes)}; put it back, or --allow-changed compares them all the same"
        )
    if changes:
        logger.warning("%s; they are compared all the same", _named(changes))


def check_same_inputs(sweep: Sweep, ledger: Ledger, number: int, fingerprints: Mapping[str, Any]) -> None:
    """Checks, before a trial trains, that its rows and weights are those of the trials before it.

    Raises:
      RunFolderError: they have changed while the sweep runs.
    """
    inputs = inputs_of(fingerprints)
    config = sweep.trial_config(ledger.trials()[number].values)
    for trial in ledger.trials():
        if trial.number == number or not _has_results(ledger, trial):
            continue
        if _source_of(sweep.trial_config(trial.values)) != _source_of(config):
            continue
        if changes := changes_between(inputs_of(read_made_from(ledger.run_folder(trial.number))), inputs):
            raise RunFolderError(
                f"{ledger.folder}: something has changed since trial {trial.number}: {listed(changes)}; put it "
                f"back, and --resume continues the sweep"
            )


def _find_changes(folder: str) -> list[TrialChanges]:
    """Runs in a Ray worker process, whose devices are those of a trial."""
    from bertjax.training.run.prepared_run import prepare_run

    ledger = Ledger(Path(folder))
    sweep, present = ledger.sweep(), dict[Any, Mapping[str, Any]]()
    found = []
    for trial in ledger.trials():
        if not _has_results(ledger, trial):
            continue
        config = sweep.trial_config(trial.values).resolved()
        source = _source_of(config)
        if source not in present:
            present[source] = prepare_run(config).fingerprints
        stored, now = read_made_from(ledger.run_folder(trial.number)), {**present[source], **flatten(config)}
        if changes := changes_between(stored, now):
            found.append(TrialChanges(trial.number, changes, other_inputs(stored, now)))
    return found


def _source_of(config: FineTuneConfig) -> Any:
    """The settings by which rows and weights are found and read."""
    return config.model, config.data, config.task, config.standardize_targets


def _has_results(ledger: Ledger, trial: Trial) -> bool:
    """Whether a trial has scores that count, or a training that goes on."""
    run = ledger.run_folder(trial.number)
    kept = (run / METRICS).is_file() or has_checkpoint(run) or trial.status == "stopped"
    return kept and trial.status != "failed" and (run / CONFIG).is_file()


def _named(trials: list[TrialChanges]) -> str:
    numbers = ", ".join(str(trial.number) for trial in trials)
    subject = f"trial {numbers} was" if len(trials) == 1 else f"trials {numbers} were"
    return f"{subject} made from something else than new ones would be: {listed(trials[0].changes)}"
