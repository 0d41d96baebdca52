"""Runs in an MLflow store: a tracking server, or a database that MLflow opens itself."""

import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bertjax.errors import ConfigError

_ANSWER_SECONDS = 5.0
_PARAMS_A_REQUEST = 100  # MLflow's own limit
_RUN_KEY = "bertjax.run_key"


def tracking_address() -> str:
    """Where `MLFLOW_TRACKING_URI` says, else a database in the current folder."""
    # Absolute: MLflow keeps a store by its address, so a relative one would go on pointing at an earlier folder.
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


class MlflowStore:
    """A store by its address, such as `http://127.0.0.1:5000` or `sqlite:////data/mlflow.db`.

    Attributes:
      client: MLflow's own, once `connect` has returned.
    """

    def __init__(self, address: str):
        self.address = address
        self.client: Any = None

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
                f"{self.silence}; start it, or set MLFLOW_TRACKING_URI to one that does "
                f"(unset, a run is recorded in mlflow.db in the current folder)"
            )
        # We retry ourselves, so MLflow need not do so for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            self.client = MlflowClient(tracking_uri=self.address)
            self.client.search_experiments(max_results=1)
        except MlflowException as error:
            raise self._refusal(error) from None

    @property
    def silence(self) -> str:
        """What there is to say when it does not answer."""
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
            found = self.client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else self.client.create_experiment(experiment)
            runs = self.client.search_runs([experiment_id], f"tags.`{_RUN_KEY}` = '{key}'")
            run = runs[0] if runs else self.client.create_run(experiment_id, run_name=name, tags={_RUN_KEY: key})
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
            self._describe(self.client.get_run(run_id), params, tags)
        except MlflowException as error:
            raise self._refusal(error) from None

    def _describe(self, run: Any, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        new = [Param(key, str(value)) for key, value in params.items() if key not in run.data.params]
        for some in chunks(new, _PARAMS_A_REQUEST):
            self.client.log_batch(run.info.run_id, params=some)
        self.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _refusal(self, error: Exception) -> ConfigError:
        return ConfigError(f"MLflow at {self.name} refuses: {str(error).splitlines()[0]}")


def chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """The items, at most `size` at a time."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))
