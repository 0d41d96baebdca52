"""The tracker that records a run in its folder and nowhere else, and the part of MLflow's tracker that does so."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.tracker import Dataset, Status, Tracker


class FolderTracker(Tracker):
    """Records a run in the event log of its folder, `tracking.jsonl`."""

    def __init__(self, on_metrics: Callable[[Mapping[str, float], int], None] = lambda metrics, step: None):
        """A tracker of one run.

        Args:
          on_metrics: (metrics, step) -> None; called once they are recorded.
        """
        self._on_metrics = on_metrics
        self._log: EventLog | None = None

    def check(self, folder: Path | None = None) -> None:
        """Reads the event log of a run that has begun.

        Raises:
          RunFolderError: it is damaged.
        """
        if folder is not None:
            EventLog(folder / event_log.FILE)

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        """Begins or continues a run, see `Tracker`; its id is the folder's name."""
        self._log = EventLog(folder / event_log.FILE)
        self._log.record({"status": "RUNNING", "time_ms": now_ms()})
        return folder.name

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._open_log.record_metrics({key: float(value) for key, value in metrics.items()}, step, now_ms())
        self._on_metrics(metrics, step)

    def log_dataset(self, dataset: Dataset) -> None:
        self._open_log.record({"dataset": dataset._asdict()})

    def log_artifact(self, path: Path) -> None:
        self._open_log.record({"artifact": self._stored_path(path)})

    def log_model(self, folder: Path, register: str | None = None) -> None:
        self._open_log.record({"model": self._stored_path(folder), "register": register})

    def finish(self, status: Status) -> None:
        if self._log is not None:
            self._open_log.record({"status": status, "time_ms": now_ms()})

    def _stored_path(self, path: Path) -> str:
        folder = self._open_log.path.parent
        is_inside = path.is_relative_to(folder)  # stored as a relative path, because a run folder may move
        return str(path.relative_to(folder) if is_inside else path.absolute())

    @property
    def _open_log(self) -> EventLog:
        assert self._log is not None, "start comes first"
        return self._log


def now_ms() -> int:
    """The time of an event."""
    return round(time.time() * 1000)
