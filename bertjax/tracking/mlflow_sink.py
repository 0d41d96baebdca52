"""Events into an MLflow run. Every kind of event is idempotent: to upload it twice is to upload it once."""

import json
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from bertjax.errors import first_line
from bertjax.tracking.event_log import Event
from bertjax.tracking.metric_names import MetricNames
from bertjax.tracking.mlflow_store import MlflowStore, chunks
from bertjax.tracking.models.model_registry import register
from bertjax.tracking.models.pyfunc import save_pyfunc
from bertjax.tracking.quiet_mlflow import quiet_mlflow
from bertjax.tracking.uploader import Refusal

logger = logging.getLogger(__name__)

T = TypeVar("T")

STARTS = "starts"  # artifacts of a run that was started several times: the settings of each start
METRIC_NAMES = "metric_names.json"  # artifact of a run: key or class -> the name that MLflow takes in its place
_METRICS_A_REQUEST = 1000  # MLflow's own limit
_LONGEST_DATASET_NAME = 500  # MLflow's own limit


class MlflowSink:
    """The sink of an `Uploader` that writes to one MLflow run."""

    def __init__(
        self,
        store: MlflowStore,
        run_id: str,
        folder: Path,
        known_metrics: Sequence[str] = (),
        registers: bool = True,
    ):
        """A sink.

        Args:
          store: connected.
          run_id: of the run.
          folder: where relative paths in events are.
          known_metrics: the keys in the run's log, in their order: they keep the names that an earlier process gave.
          registers: whether models become versions of a registered one, if the run wants that.
        """
        self._store, self._run_id, self._folder, self._registers = store, run_id, folder, registers
        self._names = MetricNames()
        self._names.add(known_metrics)
        self._stored_names: Mapping[str, str] = {}

    def __call__(self, events: Sequence[Event], may_repeat: bool) -> list[Refusal]:
        """See `Uploader`."""
        # MLflow itself would retry for minutes, and print each failure.
        if not self._store.answers():
            raise ConnectionError(self._store.no_answer)
        with quiet_mlflow():
            return self._upload(events, may_repeat)

    def _upload(self, events: Sequence[Event], may_repeat: bool) -> list[Refusal]:
        refusals: list[Refusal] = []
        for is_metrics, group in groupby(events, key=lambda event: "metrics" in event):
            if is_metrics:
                refusals += self._log_metrics(list(group), may_repeat)
                continue
            for event in group:
                refusals += [
                    Refusal(_described(event), reason, event) for _, reason in self._accepted([event], self._write)
                ]
        return refusals

    def _accepted(self, items: Sequence[T], write: Callable[[Sequence[T]], None]) -> list[tuple[T, str]]:
        """Writes items together; where the store refuses them, each half by itself, down to the items that are bad.

        Returns:
          The items that the store never takes, each with its reason.
        """
        try:
            write(items)
        except Exception as error:
            if not self._store.refuses_for_good(error, self._run_id):
                raise
            if len(items) == 1:
                return [(items[0], first_line(error))]
            middle = len(items) // 2
            return self._accepted(items[:middle], write) + self._accepted(items[middle:], write)
        return []

    def _write(self, events: Sequence[Event]) -> None:
        (event,) = events
        match event:
            case {"dataset": dataset}:
                self._log_dataset(dataset)
            case {"artifact": path}:
                self._copy(self._folder / path)
            case {"model": path, "register": name}:
                self._save_model(self._folder / path, name)
            case {"start": number, **settings}:
                self._store.client.log_dict(self._run_id, settings, f"{STARTS}/{number}.json")
            case {"status": "RUNNING"}:
                self._store.client.update_run(self._run_id, status="RUNNING")
            case {"status": status, "time_ms": time_ms}:
                self._store.client.set_terminated(self._run_id, status, time_ms)

    def _log_metrics(self, events: Sequence[Event], may_repeat: bool) -> list[Refusal]:
        from mlflow.entities import Metric

        metrics = [
            (key, Metric(name, event["metrics"][key], event["time_ms"], event["step"]))
            for event in events
            for key, name in self._names.add(event["metrics"]).items()
        ]
        if may_repeat:
            stored = {
                (name, point.step)
                for name in {metric.key for _, metric in metrics}
                for point in self._store.client.get_metric_history(self._run_id, name)
            }
            metrics = [(key, metric) for key, metric in metrics if (metric.key, metric.step) not in stored]

        def write(chunk: Sequence[tuple[str, Any]]) -> None:
            self._store.client.log_batch(self._run_id, metrics=[metric for _, metric in chunk])

        refused = [pair for chunk in chunks(metrics, _METRICS_A_REQUEST) for pair in self._accepted(chunk, write)]
        return [
            Refusal(f"metric {key!r}", reason, {"metrics": {key: metric.value}, "step": metric.step})
            for (key, metric), reason in refused
        ] + self._store_names()

    def _store_names(self) -> list[Refusal]:
        """Writes the names that MLflow has for keys which it does not take, where there are new ones."""
        names = dict(self._names.changed)
        if names == self._stored_names:
            return []

        def write(contents: Sequence[Mapping[str, str]]) -> None:
            self._store.client.log_text(
                self._run_id, json.dumps(contents[0], indent=2, ensure_ascii=True), METRIC_NAMES
            )

        refused = self._accepted([names], write)
        key, name = next(iter(names.items()))
        logger.info(
            "tracking: MLflow takes other names for %d metrics or classes, such as %r for %r; all are in %s of the run",
            len(names), name, key, METRIC_NAMES,
        )  # fmt: skip
        self._stored_names = names
        return [Refusal(METRIC_NAMES, reason, {"names": names}) for _, reason in refused]

    def _log_dataset(self, dataset: Mapping[str, Any]) -> None:
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = _dataset_source(dataset["source"])
        name = (PurePosixPath(dataset["source"]).name or dataset["source"])[:_LONGEST_DATASET_NAME]
        meta = MetaDataset(source, name=name, digest=dataset["digest"])
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
        if name is not None and self._registers:
            artifacts = self._store.client.get_run(self._run_id).info.artifact_uri
            register(self._store.client, name, self._run_id, f"{artifacts}/{path.name}")


def _dataset_source(source: str) -> Any:
    """MLflow's object for a file, an address or the name of a data set."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.sources import CodeDatasetSource, LocalArtifactDatasetSource
    from mlflow.exceptions import MlflowException

    if re.match(r"\w[\w+.-]*://", source) is None:  # MLflow takes `2026:05/train.csv` for an address
        return LocalArtifactDatasetSource(source)
    try:
        with warnings.catch_warnings(action="ignore"):  # a source that several of MLflow's classes could represent
            return resolve_dataset_source(source)
    except MlflowException:  # a store that MLflow does not know, though fsspec does
        return CodeDatasetSource({"mlflow.source.name": source})


def _described(event: Event) -> str:
    """An event that is no metrics, for messages."""
    match event:
        case {"dataset": dataset}:
            return f"data set {dataset['source']!r}"
        case {"artifact": path}:
            return f"artifact {path!r}"
        case {"model": path, "register": name}:
            return f"model {path!r}" + ("" if name is None else f", to be registered as {name!r}")
        case {"start": number}:
            return f"settings of start {number}"
        case {"status": status}:
            return f"status {status}"
        case _:
            return json.dumps(event)
