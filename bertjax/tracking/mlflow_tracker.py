"""MLflow behind the tracker protocol. Importing MLflow takes seconds, so it happens when a run connects.

Only `connect` and `start` wait for the store. Everything else is a line of the run's journal, which a thread sends on:
`{"metrics": {...}, "step": N, "time_ms": T}`, `{"dataset": {...}}`, `{"artifact": PATH}`,
`{"model": PATH, "register": NAME}`, `{"status": S, "time_ms": T}`.
"""

import logging
import os
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.errors import ConfigError, RunFolderError
from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.mlflow_sink import MlflowSink
from bertjax.tracking.mlflow_store import MlflowStore, tracking_address
from bertjax.tracking.system_metrics import SystemMetrics
from bertjax.tracking.tracker import Dataset, Status
from bertjax.tracking.uploader import Uploader

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 20.0  # with a store that is down, at the end of a run


class MlflowTracker:
    """Records a run in MLflow: where `MLFLOW_TRACKING_URI` says, else in `mlflow.db` (sqlite) in the current folder.

    A store that goes down in the middle of a run loses nothing: what was recorded stands in the journal in the run's
    folder, and is sent when the store answers again, or by the next start of the run.
    """

    def __init__(
        self,
        experiment: str,
        parent_run_id: str | None = None,
        seconds_between_sends: float = 5.0,
        patience_seconds: float = _PATIENCE_SECONDS,
    ):
        """A tracker of one run.

        Args:
          experiment: MLflow's name of what belongs together.
          parent_run_id: the run of which this is a part, such as a sweep's.
          seconds_between_sends: metrics are sent this often.
          patience_seconds: how long `finish` waits for a store that is down.
        """
        self._experiment = experiment
        self._parent_run_id = parent_run_id
        self._seconds_between_sends = seconds_between_sends
        self._patience_seconds = patience_seconds
        self._store = MlflowStore(tracking_address())
        self._journal: EventLog | None = None
        self._sender: Uploader | None = None
        self._system_metrics: SystemMetrics | None = None

    def connect(self) -> None:
        """See `Tracker.connect`."""
        self._store.connect()

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        """See `Tracker.start`.

        Raises:
          ConfigError: MLflow does not answer, or does not know the run that began in this folder.
        """
        tags = dict(tags or {})
        if "git_commit" in tags:
            tags["mlflow.source.git.commit"] = tags["git_commit"]  # where MLflow looks for it
        if self._parent_run_id is not None:
            tags["mlflow.parentRunId"] = self._parent_run_id
        self._journal = EventLog(folder / event_log.FILE)
        identity = self._journal.identity
        if "run_id" in identity:
            run_id = identity["run_id"]
            try:
                self._store.resume(run_id, params, tags)
            except ConfigError as error:
                raise ConfigError(f"{error} (the run in {folder} began in {identity['store']})") from None
            self._journal.record({"status": "RUNNING", "time_ms": _now_ms()})
        else:
            # The key comes first: a process that is killed before it learns the run's id finds the run by it.
            key = identity.get("run_key") or uuid.uuid4().hex
            self._journal.identify(run_key=key)
            run_id = self._store.begin(self._experiment, name, key, params, tags)
            self._journal.identify(run_id=run_id, store=self._store.name)
        self._sender = Uploader(self._journal, MlflowSink(self._store, run_id, folder), self._seconds_between_sends)
        self._system_metrics = SystemMetrics(self._journal)
        return run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker.log_metrics`."""
        self._started.record_metrics({key: float(value) for key, value in metrics.items()}, step, _now_ms())

    def log_dataset(self, dataset: Dataset) -> None:
        """See `Tracker.log_dataset`."""
        self._started.record({"dataset": dataset._asdict()})

    def log_artifact(self, path: Path) -> None:
        """See `Tracker.log_artifact`."""
        self._started.record({"artifact": self._stored_path(path)})

    def log_model(self, folder: Path, register: str | None = None) -> None:
        """See `Tracker.log_model`."""
        self._started.record({"model": self._stored_path(folder), "register": register})

    def finish(self, status: Status) -> None:
        """See `Tracker.finish`. Waits for a store that is down no longer than some seconds."""
        if self._sender is None or self._system_metrics is None:
            return
        self._system_metrics.stop()
        self._started.record({"status": status, "time_ms": _now_ms()})
        if not self._sender.drain(self._patience_seconds, self._store.answers):
            logger.warning(
                "tracking: %s did not take all of the run (%s); the rest is kept in %s; "
                "bertjax sync %s sends it, and so does --resume",
                self._store.name, self._sender.failure or "no answer", self._started.path,
                self._started.path.parent,
            )  # fmt: skip

    def _stored_path(self, path: Path) -> str:
        folder = self._started.path.parent
        inside = path.is_relative_to(folder)  # the folder of a run may move
        return str(path.relative_to(folder) if inside else path.absolute())

    @property
    def _started(self) -> EventLog:
        assert self._journal is not None, "start comes first"
        return self._journal


def send_rest(folder: Path) -> int:
    """Sends what the journal of a run that has ended still holds; returns how many events that were.

    Raises:
      RunFolderError: the folder has no journal of a run in MLflow.
      ConfigError: MLflow does not answer, or does not take it all.
    """
    path = folder / event_log.FILE
    records = EventLog(path) if path.is_file() else None
    if records is None or "run_id" not in records.identity:
        raise RunFolderError(f"{folder} holds no run that is recorded in MLflow (no {event_log.FILE} with one)")
    store = MlflowStore(os.environ.get("MLFLOW_TRACKING_URI") or records.identity["store"])
    store.connect()
    count = len(records.unsent(sys.maxsize).events)
    sender = Uploader(records, MlflowSink(store, records.identity["run_id"], folder), seconds_between_sends=0)
    if not sender.drain(_PATIENCE_SECONDS, store.answers):
        raise ConfigError(f"MLflow at {store.name} did not take all of {folder}: {sender.failure or 'no answer'}")
    return count


def _now_ms() -> int:
    return round(time.time() * 1000)
