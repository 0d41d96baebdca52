"""The MLflow tracker. To import MLflow takes seconds, so that happens in `connect`.

Only `connect` and `start` wait for the store. Everything else is an event in the run's log, which a thread uploads:
`{"metrics": {...}, "step": N, "time_ms": T}`, `{"dataset": {...}}`, `{"artifact": PATH}`,
`{"model": PATH, "register": NAME}`, `{"status": S, "time_ms": T}`,
`{"start": N, "params": {...}, "tags": {...}, "time_ms": T}`.

A run has one folder, and MLflow one record of it. A folder and its copy are two runs, so the copy gets a record of its
own, with the whole history and the tag `bertjax.copy_of`. It is known as a copy while the folder that it was copied
from still holds the run, see `EventLog.is_copy`. On another machine that cannot be seen. So each start writes a random
token as a tag of the run and into its own log: a folder whose log lacks the tag's token is not the one that recorded
last, and gets a run of its own.
"""

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.errors import ConfigError, RunFolderError, writing
from bertjax.report_pages.charts import Chart
from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.folder_tracker import FolderTracker, now_ms
from bertjax.tracking.mlflow_sink import MlflowSink
from bertjax.tracking.mlflow_store import RUN_KEY, MlflowStore, tracking_address
from bertjax.tracking.system_metrics import SystemMetrics
from bertjax.tracking.tracker import Status
from bertjax.tracking.uploader import Uploader

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 20.0  # with a store that is down, at the end of a run
_CLAIM = "bertjax.claim"  # tag: of the newest start
_COPY_OF = "bertjax.copy_of"  # tag: the run of whose folder this run's is a copy
_CHANGED = "bertjax.changed."  # tag, with the number of a start: the settings that it changed
_STALE = "bertjax.stale_params"  # tag: the params that are not those of the newest start; MLflow's cannot change
_NO_STALE = "none"
_PARENT = "mlflow.parentRunId"
# Tags that a copy does not take over.
_OF_ONE_RUN = ("mlflow.", RUN_KEY, _CLAIM, _COPY_OF)
_LONGEST_PARAM, _LONGEST_TAG = 6000, 5000  # MLflow's own limits, the latter of its older servers; it cuts a param too


class MlflowTracker(FolderTracker):
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
        on_metrics: Callable[[Mapping[str, float], int], None] = lambda metrics, step: None,
    ):
        """A tracker of one run.

        Args:
          experiment: MLflow's name for a group of runs.
          parent_run_id: the run under which MLflow shows this one, such as a sweep's.
          seconds_between_uploads: the time between two uploads of metrics.
          patience_seconds: how long `finish` waits for a store that is down.
          on_metrics: see `FolderTracker`.
        """
        super().__init__(on_metrics)
        self._experiment = experiment
        self._parent_run_id = parent_run_id
        self._seconds_between_uploads = seconds_between_uploads
        self._patience_seconds = patience_seconds
        self._store = MlflowStore(tracking_address())
        self._run_id: str | None = None
        self._uploader: Uploader | None = None
        self._system_metrics: SystemMetrics | None = None

    def check(self, folder: Path | None = None) -> None:
        log = None if folder is None else EventLog(folder / event_log.FILE)
        self._store.check(self._experiment, None if log is None or log.is_copy() else log.identity.get("run_id"))

    def connect(self) -> None:
        self._store.connect()

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        """Begins or continues a run, see `Tracker`.

        Raises:
          ConfigError: MLflow does not answer, or does not know the run that began in this folder.
        """
        own_tags, tags = dict(tags or {}), dict(tags or {})
        if "git_commit" in tags:
            tags["mlflow.source.git.commit"] = tags["git_commit"]  # where MLflow looks for it
        if self._parent_run_id is not None:
            tags[_PARENT] = self._parent_run_id
        self._log = log = EventLog(folder / event_log.FILE)
        is_first = log.num_starts == 0
        run_id = self._run_id = _find_or_begin(self._store, log, self._experiment, name)
        if not is_first:
            tags |= _record_start(log, self._store.find_run(run_id), params, own_tags)
            log.record({"status": "RUNNING", "time_ms": now_ms()})
        claim = uuid.uuid4().hex
        log.record_claim(claim)
        try:
            self._store.describe(run_id, params, {**tags, _CLAIM: claim})
        except ConfigError:
            if is_first:
                self._store.discard_run(run_id)
            raise
        self._uploader = Uploader(log, _sink_of(self._store, log), self._seconds_between_uploads)
        self._system_metrics = SystemMetrics(log)
        return run_id

    def log_charts(self, charts: Mapping[str, Chart], folder: Path) -> None:
        from bertjax.report_pages.png_charts import write_charts

        shutil.rmtree(folder, ignore_errors=True)
        with writing(folder, "free some space, or choose another folder"):
            folder.mkdir(parents=True)
            write_charts(charts, folder)
        self.log_artifact(folder)

    def finish(self, status: Status) -> None:
        """Ends the run; waits `patience_seconds` for a store that is down."""
        if self._uploader is None or self._system_metrics is None:
            return
        self._system_metrics.stop()
        super().finish(status)
        if not self._uploader.drain(self._patience_seconds, self._store.answers):
            logger.warning(
                "tracking: %s did not take all of the run (%s); the rest is kept in %s; "
                "bertjax sync %s sends it, and so does --resume",
                self._store.name, self._uploader.failure or "no answer", self._open_log.path,
                self._open_log.path.parent,
            )  # fmt: skip

    def adopt(self, folders: Iterable[Path]) -> None:
        for log in (EventLog(folder / event_log.FILE) for folder in folders):
            if log.is_copy():
                self._adopt(log)

    def _adopt(self, log: EventLog) -> None:
        assert self._run_id is not None, "start comes first"
        folder = log.path.parent
        _find_or_begin(self._store, log, self._experiment, folder.name, {_PARENT: self._run_id})
        uploader = Uploader(log, _sink_of(self._store, log, registers=False), seconds_between_uploads=0)
        if not uploader.drain(self._patience_seconds, self._store.answers):
            logger.warning(
                "tracking: %s did not take all of the copied run in %s; bertjax sync %s sends it",
                self._store.name, folder, folder,
            )  # fmt: skip


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
    if is_copy := log.is_copy() or _is_overtaken(store, log):
        _find_or_begin(store, log, store.experiment_of(log.identity["run_id"]), folder.name)
    count = len(log.pending()[0])
    uploader = Uploader(log, _sink_of(store, log, registers=not is_copy), seconds_between_uploads=0)
    if not uploader.drain(_PATIENCE_SECONDS, store.answers):
        raise ConfigError(f"MLflow at {store.name} did not take all of {folder}: {uploader.failure or 'no answer'}")
    return Uploaded(count, log.refused)


def _find_or_begin(
    store: MlflowStore, log: EventLog, experiment: str, name: str, tags: Mapping[str, str] | None = None
) -> str:
    """The id of the run that a log belongs to, begun where there is none; a copy's has the settings of its origin.

    Args:
      experiment, name: of a run to begin.
      tags: further ones of such a run.

    Raises:
      ConfigError: MLflow refuses, does not know the run, or it was deleted.
    """
    folder = log.path.parent
    if log.is_copy() or _is_overtaken(store, log):
        logger.info(
            "tracking: %s is a copy of the folder of MLflow's run %s; it is recorded as a run of its own",
            folder, log.identity.get("run_id"),
        )  # fmt: skip
        log.record_copy()
    if "run_id" not in log.identity:
        # The key comes first: a process that is killed before it receives the run's id finds the run by it.
        log.record_identity(run_key=log.identity.get("run_key") or uuid.uuid4().hex, folder=str(folder.resolve()))
        run_id = store.find_or_create_run(experiment, name, log.identity["run_key"])
        if log.copy_of is not None:
            params, origin_tags = _settings_of(store, log.copy_of)
            store.describe(run_id, params, {**origin_tags, **(tags or {}), _COPY_OF: log.copy_of})
        log.record_identity(run_id=run_id, store=store.name)
    elif log.identity.get("folder") != str(folder.resolve()):
        log.record_identity(folder=str(folder.resolve()))
    return log.identity["run_id"]


def _is_overtaken(store: MlflowStore, log: EventLog) -> bool:
    """Whether another folder has gone on in the run of a log."""
    if "run_id" not in log.identity:
        return False
    try:
        claim = store.find_run(log.identity["run_id"]).data.tags.get(_CLAIM)
    except ConfigError as error:
        raise ConfigError(f"{error} (the run in {log.path.parent} began in {log.identity['store']})") from None
    return claim is not None and claim not in log.claims


def _settings_of(store: MlflowStore, run_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """The params and the tags of a run, those of MLflow and of its identity left out; none where it is gone."""
    try:
        data = store.find_run(run_id).data
    except ConfigError:
        return {}, {}
    return dict(data.params), {key: value for key, value in data.tags.items() if not key.startswith(_OF_ONE_RUN)}


def _record_start(log: EventLog, run: Any, params: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, str]:
    """Records the settings of a start that is not the first, and returns tags that say what they change.

    Args:
      run: MLflow's record, as the start before left it.
      params, tags: of this start.
    """
    number, shown, tags_before = log.num_starts + 1, run.data.params, run.data.tags
    present = {key: str(value)[:_LONGEST_PARAM] for key, value in params.items()}
    before = {**shown, **log.settings}
    if shown and not log.settings:  # the start before this one, whose tags go now
        kept = {key: tags_before[key] for key in tags if key in tags_before}
        log.record({"start": number - 1, "params": shown, "tags": kept, "time_ms": run.info.start_time})
    log.record({"start": number, "params": present, "tags": dict(tags), "time_ms": now_ms()})
    changed = [f"{key}: {before[key]} -> {value}" for key, value in present.items() if before.get(key, value) != value]
    stale = [f"{key} is {value}" for key, value in present.items() if shown.get(key, value) != value]
    if changed:
        logger.info("tracking: MLflow's params stay those of the first start; the tag %s has the present ones", _STALE)
    return {
        **({f"{_CHANGED}{number}": "; ".join(changed)[:_LONGEST_TAG]} if changed else {}),
        **({_STALE: "; ".join(stale)[:_LONGEST_TAG] or _NO_STALE} if stale or _STALE in tags_before else {}),
    }


def _sink_of(store: MlflowStore, log: EventLog, registers: bool = True) -> MlflowSink:
    return MlflowSink(store, log.identity["run_id"], log.path.parent, log.metrics, registers)
