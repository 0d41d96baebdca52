"""The ledger of a sweep: its folder's one truth about which trials there are and what became of them.

    sweep.json     the settings, written first: a folder that has it holds a sweep
    trials.jsonl   one line an event of a trial: what it was given, which of Ray's trials runs it, how it ended; or one
                   for all trials of a population: which of them go on from another, and with which values
    trials/000/    the run of a trial, a run folder like any other
    seeds/000/     the same config with several seeds, where it was the best

Ray only schedules. A driver that is killed leaves a folder from which the next one goes on: trials that ended tell
their scores again, the others continue from their own checkpoints.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bertjax.errors import RunFolderError
from bertjax.sweeps.sweep_config import Sweep, from_json, to_json

SWEEP, TRIALS, FOLDERS, SEEDS = "sweep.json", "trials.jsonl", "trials", "seeds"
SCHEDULER = "scheduler"  # what Ray writes; of no use to anybody else

Status = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Exploit:
    """That a trial of a population gave up its own weights for another's.

    Attributes:
      evaluation: after which, counted from 1.
      step: of that evaluation; the trial goes on from the donor's state after it.
      donor: number of the trial whose weights these are.
    """

    evaluation: int
    step: int
    donor: int


@dataclass(frozen=True)
class Trial:
    """What the ledger has of a trial.

    Attributes:
      number: from 0, in the order they were drawn.
      drawn: what the searcher gave, conditions not yet applied.
      values: settings by dotted path, as they are now.
      ray_id: of Ray's trial that runs it, or ran it last.
      status: "running" until it has ended.
      cause: why it failed or was stopped.
      exploits: in order.
    """

    number: int
    drawn: Mapping[str, Any]
    values: Mapping[str, Any]
    ray_id: str = ""
    status: Status = "running"
    cause: str = ""
    exploits: tuple[Exploit, ...] = ()

    @property
    def since(self) -> int:
        """The step up to which what was measured is of weights that the trial has given up."""
        return self.exploits[-1].step if self.exploits else 0

    @property
    def origin(self) -> str:
        """Which trials it went on from, and after which steps, for people."""
        return ", ".join(f"{exploit.donor} (step {exploit.step})" for exploit in self.exploits)


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
        for event in self._events():
            for change in event.get("exploits", ()):
                trial = trials[change["number"]]
                exploit = Exploit(event["settled"], change["step"], change["donor"])
                trials[trial.number] = replace(trial, values=change["values"], exploits=(*trial.exploits, exploit))
            if "number" in event:
                number = event["number"]
                trials[number] = replace(trials[number], **event) if number in trials else Trial(**event)
        return [trials[number] for number in sorted(trials)]

    def settled(self) -> int:
        """The last evaluation after which a population was judged; 0 before the first."""
        return max((event["settled"] for event in self._events() if "settled" in event), default=0)

    def record(self, number: int, **facts: Any) -> None:
        """Adds what is new about a trial."""
        self._append({"number": number, **facts})

    def settle(self, evaluation: int, exploits: Mapping[int, tuple[Exploit, Mapping[str, Any]]]) -> None:
        """Adds what became of a population after an evaluation: all of it in one line, so all or nothing.

        Args:
          evaluation: which.
          exploits: the number of a trial -> from whom it goes on, and with which values.
        """
        changes = [
            {"number": number, "donor": exploit.donor, "step": exploit.step, "values": dict(values)}
            for number, (exploit, values) in exploits.items()
        ]
        self._append({"settled": evaluation, "exploits": changes})

    def _events(self) -> Iterator[dict[str, Any]]:
        path = self.folder / TRIALS
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
            if not line.endswith("\n"):
                return
            yield json.loads(line)

    def _append(self, event: Mapping[str, Any]) -> None:
        path = self.folder / TRIALS
        if path.exists():
            whole = path.read_bytes()
            os.truncate(path, whole.rfind(b"\n") + 1)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
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
