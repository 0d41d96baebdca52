"""The MLflow tracker. To import MLflow takes seconds, so that happens in `connect`.

Only `connect` and `start` wait for the store. Everything else is an event in the run's log, which a thread uploads:
`{"metrics": {...}, "step": N, "time_ms": T}`, `{"dataset": {...}}`, `{"artifact": PATH}`,
`{"model": PATH, "register": NAME}`, `{"status": S, "time_ms": T}`.
"""

import logging
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.errors import ConfigError, RunFolderError
from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.mlflow_sink import MlflowSink
from bertjax.tracking.mlflow_store import MlflowStore, tracking_address
from bertjax.tracking.system_metrics import SystemMetrics
from bertjax.tracking.tracker import Dataset, Status, Tracker
from bertjax.tracking.uploader import Uploader

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 20.0  # with a store that is down, at the end of a run


class MlflowTracker(Tracker):
    """Records a run in the store at `MLFLOW_TRACKING_URI`, else in `mlflow.db` (sqlite) in the current folder.

    A store that goes down during a run loses nothing: all events are in the log in the run folder, and are uploaded
    when the store answers again, or by the next start of the run.
    """

    def __init__(
        self,
        experiment: str,
        parent_run_id: str | None = None,
        seconds_between_uploads: float = 5.0,
        patience_seconds: float = _PATIENCE_SECONDS,
    ):
        """A tracker of one run.

        Args:
          experiment: MLflow's name for a group of runs.
          parent_run_id: the run under which MLflow shows this one, such as a sweep's.
          seconds_between_uploads: the time between two uploads of metrics.
          patience_seconds: how long `finish` waits for a store that is down.
        """
        self._experiment = experiment
        self._parent_run_id = parent_run_id
        self._seconds_between_uploads = seconds_between_uploads
        self._patience_seconds = patience_seconds
        self._store = MlflowStore(tracking_address())
        self._log: EventLog | None = None
        self._uploader: Uploader | None = None
        self._system_metrics: SystemMetrics | None = None

    def check(self, folder: Path | None = None) -> None:
        identity = {} if folder is None else EventLog(folder / event_log.FILE).identity
        self._store.check(self._experiment, identity.get("run_id"))

    def connect(self) -> None:
        self._store.connect()

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        """Begins or continues a run, see `Tracker`.

        Raises:
          ConfigError: MLflow does not answer, or does not know the run that began in this folder.
        """
        tags = dict(tags or {})
        if "git_commit" in tags:
            tags["mlflow.source.git.commit"] = tags["git_commit"]  # where MLflow looks for it
        if self._parent_run_id is not None:
            tags["mlflow.parentRunId"] = self._parent_run_id
        self._log = log = EventLog(folder / event_log.FILE)
        if "run_id" in log.identity:
            run_id = log.identity["run_id"]
            try:
                self._store.update_run(run_id, params, tags)
            except ConfigError as error:
                raise ConfigError(f"{error} (the run in {folder} began in {log.identity['store']})") from None
            log.record({"status": "RUNNING", "time_ms": _now_ms()})
        else:
            # The key comes first: a process that is killed before it receives the run's id finds the run by it.
            key = log.identity.get("run_key") or uuid.uuid4().hex
            log.record_identity(run_key=key)
            run_id = self._store.find_or_create_run(self._experiment, name, key, params, tags)
            log.record_identity(run_id=run_id, store=self._store.name)
        sink = MlflowSink(self._store, run_id, folder, log.metrics)
        self._uploader = Uploader(log, sink, self._seconds_between_uploads)
        self._system_metrics = SystemMetrics(log)
        return run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._open_log.record_metrics({key: float(value) for key, value in metrics.items()}, step, _now_ms())

    def log_dataset(self, dataset: Dataset) -> None:
        self._open_log.record({"dataset": dataset._asdict()})

    def log_artifact(self, path: Path) -> None:
        self._open_log.record({"artifact": self._stored_path(path)})

    def log_model(self, folder: Path, register: str | None = None) -> None:
        self._open_log.record({"model": self._stored_path(folder), "register": register})

    def finish(self, status: Status) -> None:
        """Ends the run; waits `patience_seconds` for a store that is down."""
        if self._uploader is None or self._system_metrics is None:
            return
        self._system_metrics.stop()
        self._open_log.record({"status": status, "time_ms": _now_ms()})
        if not self._uploader.drain(self._patience_seconds, self._store.answers):
            logger.warning(
                "tracking: %s did not take all of the run (%s); the rest is kept in %s; "
                "bertjax sync %s sends it, and so does --resume",
                self._store.name, self._uploader.failure or "no answer", self._open_log.path,
                self._open_log.path.parent,
            )  # fmt: skip

    def _stored_path(self, path: Path) -> str:
        folder = self._open_log.path.parent
        is_inside = path.is_relative_to(folder)  # stored as a relative path, because a run folder may move
        return str(path.relative_to(folder) if is_inside else path.absolute())

    @property
    def _open_log(self) -> EventLog:
        assert self._log is not None, "start comes first"
        return self._log


class Uploaded(NamedTuple):
    """What an upload has done.

    Attributes:
      events: how many the store had not confirmed before.
      refused: record -> the reason for which the store never takes it, of the whole run.
    """

    events: int
    refused: Mapping[str, str]


def upload_pending(folder: Path) -> Uploaded:
    """Uploads the events of a run that has ended which its store has not confirmed.

    The store is the one that `MLFLOW_TRACKING_URI` names, else the one that the run began in.

    Raises:
      RunFolderError: the folder has no event log of an MLflow run.
      ConfigError: MLflow does not answer, or does not accept all events.
    """
    log = EventLog(folder / event_log.FILE)
    if "run_id" not in log.identity:
        raise RunFolderError(f"{folder} holds no run that is recorded in MLflow (no {event_log.FILE} with one)")
    store = MlflowStore(os.environ.get("MLFLOW_TRACKING_URI") or log.identity["store"])
    store.connect()
    count = len(log.pending()[0])
    sink = MlflowSink(store, log.identity["run_id"], folder, log.metrics)
    uploader = Uploader(log, sink, seconds_between_uploads=0)
    if not uploader.drain(_PATIENCE_SECONDS, store.answers):
        raise ConfigError(f"MLflow at {store.name} did not take all of {folder}: {uploader.failure or 'no answer'}")
    return Uploaded(count, log.refused)


def _now_ms() -> int:
    return round(time.time() * 1000)
