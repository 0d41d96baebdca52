"""The journal of a tracked run: a file that takes every event at once, and from which the store is fed.

A step appends a line and goes on; whoever sends reads the lines behind the last acknowledged one. What a killed process
recorded is in the file, so the next one sends it, and a step that a resumed run repeats is recognised.

Each line is a JSON object: an event of `bertjax.tracking.mlflow_tracker`; or `{"sent": N}`, by which the store has all
events in the first N bytes; or `{"identity": {...}}`, which run of which store this is.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Event = Mapping[str, Any]


FILE = "tracking.jsonl"  # in the folder of a run


def events(path: Path) -> Iterator[Event]:
    """Everything that the journal in a file has, while another process may be adding to it."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


class Unsent(NamedTuple):
    """Events that the store lacks.

    Attributes:
      events: in the order they were recorded.
      end: what to acknowledge once the store has them.
    """

    events: list[Event]
    end: int


class EventLog:
    """An append-only file of events; any number of threads of one process may use it."""

    def __init__(self, path: Path):
        """Opens the journal, or starts one where there is none. Half a line that a killed process left is cut off."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        path.touch()
        self._lock = threading.Lock()
        self._sent = 0
        self._last_steps: dict[str, int] = {}
        self.identity: dict[str, str] = {}
        self._size = 0
        for line in self._lines(0):
            self._take(json.loads(line))
            self._size += len(line)
        os.truncate(path, self._size)

    def identify(self, **facts: str) -> None:
        """Records which run of which store this is the journal of; `identity` has all such facts."""
        self._append({"identity": facts})

    def record(self, event: Event) -> None:
        """Appends an event."""
        self._append(event)

    def record_metrics(self, metrics: Mapping[str, float], step: int, time_ms: int) -> None:
        """Appends metrics; those that the journal already has for this step or a later one are left out.

        A resumed run repeats the steps since its checkpoint: to the same numbers, but a store would show them twice.
        """
        new = {key: value for key, value in metrics.items() if step > self.last_step(key)}
        if new:
            self._append({"metrics": new, "step": step, "time_ms": time_ms})

    def last_step(self, key: str) -> int:
        """The step of the newest value of a metric, -1 where there is none."""
        return self._last_steps.get(key, -1)

    def unsent(self, limit: int) -> Unsent:
        """The first events that were not acknowledged, `limit` of them at most."""
        events: list[Event] = []
        end = self._sent
        for line in self._lines(self._sent):
            if len(events) == limit:
                break
            entry = json.loads(line)
            end += len(line)
            if not ("sent" in entry or "identity" in entry):
                events.append(entry)
        return Unsent(events, end)

    def acknowledge(self, end: int) -> None:
        """Records that the store has everything up to `end`."""
        self._append({"sent": end})

    def _append(self, entry: Event) -> None:
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            with self.path.open("ab", buffering=0) as file:
                file.write(line)
            self._size += len(line)
            self._take(entry)

    def _take(self, entry: Event) -> None:
        """Brings what is kept in memory up to date with a line of the file."""
        self._sent = max(self._sent, entry.get("sent", 0))
        self.identity |= entry.get("identity", {})
        for key in entry.get("metrics", {}):
            self._last_steps[key] = max(entry["step"], self.last_step(key))

    def _lines(self, start: int) -> Iterator[bytes]:
        """The whole lines from a position on; the file is read as far as it goes now."""
        with self.path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line
