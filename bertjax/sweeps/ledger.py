"""The ledger of a sweep: the one record of its trials and of how each of them ended.

    sweep.json     the settings, written first: a folder that has it holds a sweep
    trials.jsonl   one line an event of a trial: its settings, the Ray trial that runs it, how it ended
    trials/000/    the run folder of a trial
    trials/000.failure  why the trial would fail again in the same way, written by its process
    seeds/000/     the runs of the best trial's config with several seeds

Ray only schedules. A driver that is killed leaves a folder from which the next one continues: trials that have ended
report their scores again, the others resume from their own checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bertjax.errors import RunFolderError
from bertjax.storage.append_only_log import AppendOnlyLog
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.storage.small_files import read_object, read_text
from bertjax.sweeps.sweep_config import Sweep, from_json, to_json
from bertjax.tracking import event_log

SWEEP, TRIALS, FOLDERS, SEEDS = "sweep.json", "trials.jsonl", "trials", "seeds"
SCHEDULER = "scheduler"  # Ray's own files, removed when the sweep ends

Status = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Trial:
    """The ledger's record of a trial.

    Attributes:
      number: from 0, in the order of creation.
      drawn: the searcher's values, conditions not yet applied.
      values: settings by dotted path, conditions applied.
      ray_id: the Ray trial that runs it, or ran it last.
      status: "running" until it has ended.
      cause: why it failed or was stopped.
    """

    number: int
    drawn: Mapping[str, Any]
    values: Mapping[str, Any]
    ray_id: str = ""
    status: Status = "running"
    cause: str = ""


class Ledger:
    """The ledger in a folder.

    The driver is its only writer. It reads the file once and keeps the trials in memory; every change is in the file
    before `record` returns. Other processes see the trials as of their first look.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._log = AppendOnlyLog(folder / TRIALS, fsync=True)

    def open(self, sweep: Sweep) -> None:
        """Begins a sweep in the folder, or continues the one there with settings that may have changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SWEEP, to_json(sweep))

    def sweep(self) -> Sweep:
        """Reads the settings.

        Raises:
          RunFolderError: the folder holds no sweep, or one that this version cannot run.
        """
        remedy = "restore it, or start the sweep again in another --out"
        stored = read_object(self.folder / SWEEP, remedy)
        if stored is None:
            raise RunFolderError(f"{self.folder} holds no sweep (it has no {SWEEP})")
        try:
            return from_json(stored)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunFolderError(f"{self.folder / SWEEP} cannot be read: {error}; {remedy}") from None

    def trials(self) -> list[Trial]:
        """Every trial, by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    def trial_of(self, ray_id: str) -> Trial:
        """The trial that a Ray trial runs."""
        return next(trial for trial in self._trials.values() if trial.ray_id == ray_id)

    def record(self, number: int, **changes: Any) -> None:
        """Changes fields of a trial, or adds the trial."""
        event = {"number": number, **changes}
        trial = _applied(self._trials.get(number), event)
        self._log.append(event)
        self._trials[number] = trial

    def run_folder(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / FOLDERS / f"{number:03d}"

    def final_failure(self, number: int) -> str | None:
        """Why a trial ended in a way that starting it again would repeat; None where it did not."""
        return read_text(_failure_note(self.run_folder(number)), "remove it, and --resume tries the trial again")

    def write_final_failure(self, number: int, cause: str) -> None:
        """Called by the process of a trial."""
        write_text(_failure_note(self.run_folder(number)), cause)

    def seeds_folder(self, number: int) -> Path:
        """The folder in which the config of a trial is run with several seeds."""
        return self.folder / SEEDS / f"{number:03d}"

    @cached_property
    def _trials(self) -> dict[int, Trial]:
        trials: dict[int, Trial] = {}
        for event in self._log.entries():
            try:
                trials[event["number"]] = _applied(trials.get(event["number"]), event)
            except (KeyError, TypeError) as error:
                raise RunFolderError(
                    f"{self._log.path} has a line that is no event of a trial ({error}): {dict(event)}; remove it"
                ) from None
        return trials


def _applied(trial: Trial | None, event: Mapping[str, Any]) -> Trial:
    return Trial(**event) if trial is None else replace(trial, **event)


def belongs_to_sweep(name: str) -> bool:
    """Whether an entry of a sweep's folder is part of the sweep as it begins; all else there is the user's."""
    return name in (SWEEP, TRIALS, FOLDERS, SEEDS, SCHEDULER, event_log.FILE, f".{SWEEP}.tmp")


def _failure_note(run: Path) -> Path:
    return run.with_suffix(".failure")
