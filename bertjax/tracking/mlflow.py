"""MLflow behind the tracker protocol. Importing MLflow takes seconds, so it happens when a run starts."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.errors import ConfigError
from bertjax.tracking.tracker import Status

_METRICS_A_REQUEST = 1000  # MLflow's own limit
_SECONDS_BETWEEN_WRITES = 10.0


class MlflowTracker:
    """Records a run in MLflow: where `MLFLOW_TRACKING_URI` says, else in `mlflow.db` (sqlite) in the current folder.

    Metrics are sent in batches, so that a step never waits for the store.
    """

    def __init__(self, experiment: str):
        self._experiment = experiment
        self._client: Any = None
        self._run_id = ""
        self._pending: list[Any] = []
        self._last_write = time.monotonic()

    def start(self, name: str, params: Mapping[str, Any], run_id: str | None = None) -> str:
        """See `Tracker.start`.

        Raises:
          ConfigError: MLflow does not answer, or does not know the run.
        """
        # Connecting must fail fast; MLflow's own default is to try for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        try:
            self._client = MlflowClient(tracking_uri=_tracking_uri())
            if run_id is not None:
                self._client.get_run(run_id)
                self._client.update_run(run_id, status="RUNNING")
            else:
                run_id = self._client.create_run(self._experiment_id(), run_name=name).info.run_id
                self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        except MlflowException as error:
            raise ConfigError(f"MLflow at {_tracking_uri()} refuses: {str(error).splitlines()[0]}") from None
        self._run_id = run_id
        return run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._pending += [Metric(key, float(value), now, step) for key, value in metrics.items()]
        if time.monotonic() - self._last_write > _SECONDS_BETWEEN_WRITES:
            self._write()

    def log_artifact(self, path: Path) -> None:
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), artifact_path=path.name)
        else:
            self._client.log_artifact(self._run_id, str(path))

    def finish(self, status: Status) -> None:
        self._write()
        self._client.set_terminated(self._run_id, status=status)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        return found.experiment_id if found else self._client.create_experiment(self._experiment)

    def _write(self) -> None:
        while self._pending:
            head, self._pending = self._pending[:_METRICS_A_REQUEST], self._pending[_METRICS_A_REQUEST:]
            self._client.log_batch(self._run_id, metrics=head)
        self._last_write = time.monotonic()


def _tracking_uri() -> str:
    # Absolute: MLflow keeps a store by its address, so a relative one would go on pointing at an earlier folder.
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
