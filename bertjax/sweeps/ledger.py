"""The ledger of a sweep: the one record of its trials and of how each of them ended.

    sweep.json     the settings, written first: a folder that has it holds a sweep
    trials.jsonl   one line an event of a trial: its settings, the Ray trial that runs it, how it ended
    trials/000/    the run folder of a trial
    trials/000.failure  why the trial would fail again in the same way, written by its process
    seeds/000/     the runs of the best trial's config with several seeds

Ray only schedules. A driver that is killed leaves a folder from which the next one continues: trials that have ended
report their scores again, the others resume from their own checkpoints.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from bertjax.errors import ConfigError, RunFolderError
from bertjax.storage.append_only_log import AppendOnlyLog
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.sweeps.sweep_config import Sweep, from_json, to_json

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
        try:
            return from_json(json.loads((self.folder / SWEEP).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise RunFolderError(f"{self.folder} holds no sweep (it has no {SWEEP})") from None
        except (json.JSONDecodeError, KeyError, TypeError, ConfigError) as error:
            raise RunFolderError(f"{self.folder / SWEEP} cannot be read: {error}") from None

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
        note = _failure_note(self.run_folder(number))
        return note.read_text(encoding="utf-8") if note.is_file() else None

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
            trials[event["number"]] = _applied(trials.get(event["number"]), event)
        return trials


def _applied(trial: Trial | None, event: Mapping[str, Any]) -> Trial:
    return Trial(**event) if trial is None else replace(trial, **event)


def _failure_note(run: Path) -> Path:
    return run.with_suffix(".failure")


def run_lock(run: Path) -> FileLock:
    """The lock that a process holds while it writes to a run folder.

    The process of a trial may outlive its killed driver for a while, so the next driver's process waits for the lock.
    """
    return FileLock(run.with_suffix(".lock"))
