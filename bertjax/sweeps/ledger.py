"""The ledger of a sweep: its folder's one truth about which trials there are and what became of them.

    sweep.json     the settings, written first: a folder that has it holds a sweep
    trials.jsonl   one line an event of a trial: what it was given, which of Ray's trials runs it, how it ended
    trials/000/    the run of a trial, a run folder like any other
    seeds/000/     the same config with several seeds, where it was the best

Ray only schedules. A driver that is killed leaves a folder from which the next one goes on: trials that ended tell
their scores again, the others continue from their own checkpoints.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bertjax.errors import RunFolderError
from bertjax.sweeps.config import Sweep, from_json, to_json

SWEEP, TRIALS, FOLDERS, SEEDS = "sweep.json", "trials.jsonl", "trials", "seeds"
SCHEDULER = "scheduler"  # what Ray writes; of no use to anybody else

Status = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Trial:
    """What the ledger has of a trial.

    Attributes:
      number: from 0, in the order they were drawn.
      drawn: what the searcher gave, conditions not yet applied.
      values: settings by dotted path.
      ray_id: of Ray's trial that runs it, or ran it last.
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
    """The ledger in a folder; every change is in the file before this returns."""

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self, sweep: Sweep) -> None:
        """Begins the sweep of a folder, or continues it with what may change."""
        self.folder.mkdir(parents=True, exist_ok=True)
        scratch = self.folder / f".{SWEEP}.tmp"
        scratch.write_text(json.dumps(to_json(sweep), indent=2) + "\n", encoding="utf-8")
        scratch.replace(self.folder / SWEEP)

    def sweep(self) -> Sweep:
        """The settings.

        Raises:
          RunFolderError: the folder holds no sweep.
        """
        try:
            return from_json(json.loads((self.folder / SWEEP).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise RunFolderError(f"{self.folder} holds no sweep (it has no {SWEEP})") from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise RunFolderError(f"{self.folder / SWEEP} cannot be read: {error}") from None

    def trials(self) -> list[Trial]:
        """Every trial, by number. Half a line that a killed driver left counts for nothing."""
        trials: dict[int, Trial] = {}
        path = self.folder / TRIALS
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
            if not line.endswith("\n"):
                break
            event = json.loads(line)
            number = event["number"]
            trials[number] = replace(trials[number], **event) if number in trials else Trial(**event)
        return [trials[number] for number in sorted(trials)]

    def record(self, number: int, **facts: Any) -> None:
        """Adds what is new about a trial."""
        path = self.folder / TRIALS
        if path.exists():
            whole = path.read_bytes()
            os.truncate(path, whole.rfind(b"\n") + 1)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"number": number, **facts}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def trial_of(self, ray_id: str) -> Trial:
        """The trial that one of Ray's runs."""
        return next(trial for trial in self.trials() if trial.ray_id == ray_id)

    def run_folder(self, number: int) -> Path:
        """Where the run of a trial stands."""
        return self.folder / FOLDERS / f"{number:03d}"

    def seeds_folder(self, number: int) -> Path:
        """Where the config of a trial is run with several seeds."""
        return self.folder / SEEDS / f"{number:03d}"
