"""Events into an MLflow run. Every kind of event is idempotent: to upload it twice is to upload it once."""

import json
import logging
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from bertjax.tracking.event_log import Event
from bertjax.tracking.mlflow_store import MlflowStore, chunks
from bertjax.tracking.model_registry import register
from bertjax.tracking.pyfunc import save_pyfunc

logger = logging.getLogger(__name__)

_METRICS_A_REQUEST = 1000  # MLflow's own limit


class MlflowSink:
    """The sink of an `Uploader` that writes to one MLflow run."""

    def __init__(self, store: MlflowStore, run_id: str, folder: Path):
        """A sink; relative paths in events are below `folder`."""
        self._store, self._run_id, self._folder = store, run_id, folder

    def __call__(self, events: Sequence[Event], may_repeat: bool) -> None:
        """See `Uploader`."""
        # MLflow itself would retry for minutes, and print each failure.
        if not self._store.answers():
            raise ConnectionError(self._store.no_answer)
        for is_metrics, group in groupby(events, key=lambda event: "metrics" in event):
            if is_metrics:
                self._log_metrics(list(group), may_repeat)
                continue
            for event in group:
                self._write(event)

    def _write(self, event: Event) -> None:
        match event:
            case {"dataset": dataset}:
                self._log_dataset(dataset)
            case {"artifact": path}:
                self._copy(self._folder / path)
            case {"model": path, "register": name}:
                self._save_model(self._folder / path, name)
            case {"status": "RUNNING"}:
                self._store.client.update_run(self._run_id, status="RUNNING")
            case {"status": status, "time_ms": time_ms}:
                self._store.client.set_terminated(self._run_id, status, time_ms)

    def _log_metrics(self, events: Sequence[Event], may_repeat: bool) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_metric_name(key), value, event["time_ms"], event["step"])
            for event in events
            for key, value in event["metrics"].items()
        ]
        if may_repeat:
            stored = {
                (key, point.step)
                for key in {metric.key for metric in metrics}
                for point in self._store.client.get_metric_history(self._run_id, key)
            }
            metrics = [metric for metric in metrics if (metric.key, metric.step) not in stored]
        for chunk in chunks(metrics, _METRICS_A_REQUEST):
            self._store.client.log_batch(self._run_id, metrics=chunk)

    def _log_dataset(self, dataset: Mapping[str, Any]) -> None:
        from mlflow.data.dataset_source_registry import resolve_dataset_source
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import Dataset, DatasetInput, InputTag

        with warnings.catch_warnings(action="ignore"):  # a source that several of MLflow's classes could represent
            source = resolve_dataset_source(dataset["source"])
        meta = MetaDataset(
            source, name=PurePosixPath(dataset["source"]).name or dataset["source"], digest=dataset["digest"]
        )
        entity = Dataset(**{**meta.to_dict(), "profile": json.dumps({"num_rows": dataset["num_rows"]})})
        tags = [InputTag("mlflow.data.context", dataset["side"])]
        self._store.client.log_inputs(self._run_id, [DatasetInput(entity, tags)])

    def _copy(self, path: Path) -> None:
        if path.is_dir():
            self._store.client.log_artifacts(self._run_id, str(path), artifact_path=path.name)
        elif path.exists():
            self._store.client.log_artifact(self._run_id, str(path))
        else:
            logger.warning("tracking: %s is gone, so it is not recorded", path)

    def _save_model(self, path: Path, name: str | None) -> None:
        """Uploads an MLflow model where the task has predictions, else the plain folder; registers it under a name."""
        with tempfile.TemporaryDirectory() as scratch:
            runnable = Path(scratch) / path.name
            self._copy(runnable if path.is_dir() and save_pyfunc(path, runnable) else path)
        if name is not None:
            artifacts = self._store.client.get_run(self._run_id).info.artifact_uri
            register(self._store.client, name, self._run_id, f"{artifacts}/{path.name}")


def _metric_name(key: str) -> str:
    """The key with the characters that MLflow refuses (a class may be called `C++`) replaced."""
    return re.sub(r"[^\w./:\- ]", "_", key)
