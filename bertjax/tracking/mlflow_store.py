"""Runs in an MLflow store: a tracking server, or a database that MLflow opens itself."""

import logging
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bertjax.errors import ConfigError
from bertjax.tracking.journal import Event

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0
_METRICS_A_REQUEST = 1000  # MLflow's own limits
_PARAMS_A_REQUEST = 100
_RUN_KEY = "bertjax.run_key"


class MlflowStore:
    """A store by its address, such as `http://127.0.0.1:5000` or `sqlite:////data/mlflow.db`."""

    def __init__(self, address: str):
        self.address = address
        self._client: Any = None

    @property
    def name(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self.address)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else self.address

    def connect(self) -> None:
        """Opens the store; a database that is not there is made.

        Raises:
          ConfigError: nobody answers, or MLflow refuses.
        """
        if not self.answers():
            raise ConfigError(
                f"{self._silence}; start it, or set MLFLOW_TRACKING_URI to one that does "
                f"(unset, a run is recorded in mlflow.db in the current folder)"
            )
        # We retry ourselves, so MLflow need not do so for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            self._client = MlflowClient(tracking_uri=self.address)
            self._client.search_experiments(max_results=1)
        except MlflowException as error:
            raise self._refusal(error) from None

    @property
    def _silence(self) -> str:
        return f"MLflow at {self.name} does not answer"

    def answers(self) -> bool:
        """Whether somebody is at the address; a database in a file always is."""
        parts = urlsplit(self.address)
        try:
            if parts.scheme in ("http", "https"):
                with urllib.request.urlopen(f"{self.name.rstrip('/')}/health", timeout=_ANSWER_SECONDS):
                    pass
            elif parts.hostname and parts.port:
                with socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_SECONDS):
                    pass
        except urllib.error.HTTPError:
            return True  # not every gateway lets this question through
        except urllib.error.URLError as error:
            return isinstance(error.reason, ssl.SSLError)  # MLflow has settings of its own for certificates
        except (OSError, ValueError):
            return False
        return True

    def begin(
        self,
        experiment: str,
        name: str,
        key: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        """The id of the run that `key` stands for, which is made unless it is there; it has these params and tags then.

        Raises:
          ConfigError: MLflow refuses.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else self._client.create_experiment(experiment)
            runs = self._client.search_runs([experiment_id], f"tags.`{_RUN_KEY}` = '{key}'")
            run = runs[0] if runs else self._client.create_run(experiment_id, run_name=name, tags={_RUN_KEY: key})
            self._describe(run, params, tags)
        except MlflowException as error:
            raise self._refusal(error) from None
        return run.info.run_id

    def resume(self, run_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Finds a run, and adds the params that it lacks.

        Raises:
          ConfigError: MLflow does not know the run.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._describe(self._client.get_run(run_id), params, tags)
        except MlflowException as error:
            raise self._refusal(error) from None

    def _describe(self, run: Any, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        new = [Param(key, str(value)) for key, value in params.items() if key not in run.data.params]
        for some in _chunks(new, _PARAMS_A_REQUEST):
            self._client.log_batch(run.info.run_id, params=some)
        self._client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _refusal(self, error: Exception) -> ConfigError:
        return ConfigError(f"MLflow at {self.name} refuses: {str(error).splitlines()[0]}")

    def deliver(self, run_id: str, folder: Path, events: Sequence[Event], unsure: bool) -> None:
        """Puts events of a journal into a run; see `Sender`. Relative paths are of `folder`."""
        # MLflow itself would try for minutes, and say so on the terminal each time.
        if not self.answers():
            raise ConnectionError(self._silence)
        handlers: Mapping[str, Callable[[Event], None]] = {
            "artifact": lambda event: self._copy(run_id, folder / event["artifact"]),
            "status": lambda event: self._set_status(run_id, event["status"], event["time_ms"]),
        }
        for is_metrics, group in groupby(events, key=lambda event: "metrics" in event):
            if is_metrics:
                self._log_metrics(run_id, list(group), unsure)
                continue
            for event in group:
                next(handle for kind, handle in handlers.items() if kind in event)(event)

    def _log_metrics(self, run_id: str, events: Sequence[Event], unsure: bool) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_metric_name(key), value, event["time_ms"], event["step"])
            for event in events
            for key, value in event["metrics"].items()
        ]
        if unsure:
            there = {
                (key, point.step)
                for key in {metric.key for metric in metrics}
                for point in self._client.get_metric_history(run_id, key)
            }
            metrics = [metric for metric in metrics if (metric.key, metric.step) not in there]
        for some in _chunks(metrics, _METRICS_A_REQUEST):
            self._client.log_batch(run_id, metrics=some)

    def _set_status(self, run_id: str, status: str, time_ms: int) -> None:
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status, time_ms)

    def _copy(self, run_id: str, path: Path) -> None:
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), artifact_path=path.name)
        elif path.exists():
            self._client.log_artifact(run_id, str(path))
        else:
            logger.warning("tracking: %s is gone, so it is not recorded", path)


def _metric_name(key: str) -> str:
    """The key with the characters that MLflow refuses (a class may be called `C++`) replaced."""
    return re.sub(r"[^\w./:\- ]", "_", key)


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
