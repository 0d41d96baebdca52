"""The event log of a tracked run: every event is written to a file at once, and uploaded to the store from there.

Training appends a line and continues; the uploader reads the lines that the store has not confirmed. A process that is
killed loses no event: the next one uploads the rest, and recognises the steps that a resumed run repeats.

Each line is a JSON object: an event of `bertjax.tracking.mlflow_tracker`; or `{"sent": N}`, the store has all events in
the first N bytes; or `{"refused": EVENT, "record": NAME, "reason": R}`, the store never takes this part of them; or
`{"identity": {...}}`, which run of which store this is, in which folder; or `{"claim": C}`, a start of the run, which
the store knows as C; or `{"copy_of": RUN_ID}`, this is a copy of that run's folder, and what precedes its history.
"""

import threading
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from bertjax.errors import RunFolderError
from bertjax.storage.append_only_log import AppendOnlyLog
from bertjax.storage.append_only_log import Entry as Event

FILE = "tracking.jsonl"  # in a run folder
_FACTS = {"sent", "refused", "identity", "claim", "copy_of"}  # keys of lines that are no events


class EventLog:
    """The event log in a file; the threads of one process may share it.

    Attributes:
      path: of the file.
      identity: which run of which store this is; empty before `record_identity`.
      claims: of the starts of the run.
      copy_of: the run of whose folder this is a copy, once `record_copy` has said so; None where it has no id.
      num_starts: how often the run was started, in this folder and in those that it is a copy of.
      settings: of the newest start, where it was not the first.
      status: of the newest status event; None before the first.
      refused: record -> the reason for which the store never takes it.
    """

    def __init__(self, path: Path):
        """Reads the log in a file, or begins one.

        Raises:
          RunFolderError: the file is damaged.
        """
        self.path = path
        self.identity: dict[str, str] = {}
        self.claims: set[str] = set()
        self.copy_of: str | None = None
        self.num_starts = 0
        self.settings: dict[str, str] = {}
        self.status: str | None = None
        self.refused: dict[str, str] = {}
        self._log = AppendOnlyLog(path)
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._last_steps: dict[str, int] = {}
        for entry in self._log.entries():
            try:
                self._apply(entry)
            except (KeyError, TypeError, ValueError) as error:
                raise RunFolderError(
                    f"{path} has a line that is no event of a run ({type(error).__name__}: {error}): {dict(entry)}; "
                    f"restore the file, or remove that line"
                ) from None

    def record(self, event: Event) -> None:
        """Appends an event."""
        with self._lock:
            self._log.append(event)
            self._apply(event)

    def record_identity(self, **identity: str) -> None:
        """Adds to the facts in `identity`."""
        self.record({"identity": identity})

    def record_claim(self, claim: str) -> None:
        """Adds to `claims`."""
        self.record({"claim": claim})

    def record_copy(self) -> None:
        """Makes the log that of a new run without an identity, which has all events and none of them sent."""
        self.record({"copy_of": self.identity.get("run_id")})

    def is_copy(self) -> bool:
        """Whether the run is still in the folder where it was last started, and that is another one.

        A run whose folder was moved, or brought back from a backup, is in this folder only.
        """
        original = Path(self.identity.get("folder", self.path.parent)) / FILE
        try:
            if not original.is_file() or original.samefile(self.path):
                return False
            return EventLog(original).identity.get("run_key") == self.identity["run_key"]
        except (OSError, ValueError):  # what is there cannot be read, and is no run that could go on
            return False

    def record_refusal(self, record: str, reason: str, event: Event) -> None:
        """Sets an event aside that the store never takes."""
        self.record({"refused": event, "record": record, "reason": reason})

    def record_metrics(self, metrics: Mapping[str, float], step: int, time_ms: int) -> None:
        """Appends metrics, except those that the log has for this step or a later one.

        A resumed run repeats the steps since its checkpoint: with the same numbers, but a store would show them twice.
        """
        new = {name: value for name, value in metrics.items() if step > self.last_step(name)}
        if new:
            self.record({"metrics": new, "step": step, "time_ms": time_ms})

    @property
    def metrics(self) -> list[str]:
        """The name of each metric, in the order of its first value."""
        return list(self._last_steps)

    def last_step(self, metric: str) -> int:
        """The step of the newest value of a metric, -1 where there is none."""
        return self._last_steps.get(metric, -1)

    def pending(self, limit: int | None = None) -> tuple[list[Event], int]:
        """The oldest events that the store has not confirmed, at most `limit`, and the offset for `mark_sent`."""
        start = self._sent_bytes
        lines = ((entry, end) for entry, end in self._log.lines(start) if not entry.keys() & _FACTS)
        pending = list(islice(lines, limit))
        return [entry for entry, _ in pending], pending[-1][1] if pending else start

    def mark_sent(self, end: int) -> None:
        """Records that the store has all events before an offset."""
        self.record({"sent": end})

    def _apply(self, entry: Event) -> None:
        """Updates the state in memory with a line of the file."""
        self._sent_bytes = max(self._sent_bytes, entry.get("sent", 0))
        if "copy_of" in entry:
            self.copy_of, self.identity = entry["copy_of"], {}
            self.claims, self.refused, self._sent_bytes = set(), {}, 0
        if "claim" in entry:
            self.claims.add(entry["claim"])
        self.identity |= entry.get("identity", {})
        if entry.get("status") == "RUNNING" or (self.num_starts == 0 and "run_id" in self.identity):
            self.num_starts += 1
        if "start" in entry:
            self.settings = dict(entry["params"])
        self.status = entry.get("status", self.status)
        if "refused" in entry:
            self.refused[entry["record"]] = entry["reason"]
        for name in entry.get("metrics", {}):
            self._last_steps[name] = max(entry["step"], self.last_step(name))


def next_step(folder: Path, least: int) -> int:
    """The step for numbers that sum up the runs below a folder: above those of the sums of earlier starts."""
    log = EventLog(folder / FILE)
    return max(least, *(log.last_step(metric) + 1 for metric in log.metrics), 0)
