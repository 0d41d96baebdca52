"""The event log of a tracked run: every event is written to a file at once, and uploaded to the store from there.

Training appends a line and continues; the uploader reads the lines that the store has not confirmed. A process that is
killed loses no event: the next one uploads the rest, and recognises the steps that a resumed run repeats.

Each line is a JSON object: an event of `bertjax.tracking.mlflow_tracker`; or `{"sent": N}`, the store has all events in
the first N bytes; or `{"refused": EVENT, "record": NAME, "reason": R}`, the store never takes this part of them; or
`{"identity": {...}}`, which run of which store this is.
"""

import threading
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from bertjax.storage.append_only_log import AppendOnlyLog
from bertjax.storage.append_only_log import Entry as Event

FILE = "tracking.jsonl"  # in a run folder
_FACTS = {"sent", "refused", "identity"}  # keys of lines that are no events


class EventLog:
    """The event log in a file; the threads of one process may share it.

    Attributes:
      path: of the file.
      identity: which run of which store this is; empty before `record_identity`.
      status: of the newest status event; None before the first.
      refused: record -> the reason for which the store never takes it.
    """

    def __init__(self, path: Path):
        """Reads the log in a file, or begins one."""
        self.path = path
        self.identity: dict[str, str] = {}
        self.status: str | None = None
        self.refused: dict[str, str] = {}
        self._log = AppendOnlyLog(path)
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._last_steps: dict[str, int] = {}
        for entry in self._log.entries():
            self._apply(entry)

    def record(self, event: Event) -> None:
        """Appends an event."""
        with self._lock:
            self._log.append(event)
            self._apply(event)

    def record_identity(self, **identity: str) -> None:
        """Adds to the facts in `identity`."""
        self.record({"identity": identity})

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
        self.identity |= entry.get("identity", {})
        self.status = entry.get("status", self.status)
        if "refused" in entry:
            self.refused[entry["record"]] = entry["reason"]
        for name in entry.get("metrics", {}):
            self._last_steps[name] = max(entry["step"], self.last_step(name))


def next_step(folder: Path, least: int) -> int:
    """The step for numbers that sum up the runs below a folder: above those of the sums of earlier starts."""
    log = EventLog(folder / FILE)
    return max(least, *(log.last_step(metric) + 1 for metric in log.metrics), 0)
