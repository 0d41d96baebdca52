"""An MLflow store: a tracking server, or a database that MLflow opens itself."""

import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bertjax.errors import ConfigError, first_line

_ANSWER_SECONDS = 5.0
_PARAMS_A_REQUEST = 100  # MLflow's own limit
_RUN_KEY = "bertjax.run_key"
_ACTIVE = "active"  # stage of an experiment or a run that was not deleted
# HTTP statuses of requests that can never succeed; a login may be renewed, and a run may be restored.
_FINAL_STATUSES = (400, 413, 414, 422, 431)


def tracking_address() -> str:
    """The address in `MLFLOW_TRACKING_URI`, else a database in the current folder."""
    # Absolute: MLflow caches stores by address, so a relative one would keep pointing at an earlier current folder.
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


class MlflowStore:
    """A store by its address, such as `http://127.0.0.1:5000` or `sqlite:////data/mlflow.db`.

    Attributes:
      address: with user and password, if any.
      client: MLflow's own client, once `connect` has returned.
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
        """Opens the store; a missing database is created.

        Raises:
          ConfigError: the store does not answer, or MLflow refuses.
        """
        if not self.answers():
            raise ConfigError(
                f"{self.no_answer}; start it, or set MLFLOW_TRACKING_URI to one that does "
                f"(unset, a run is recorded in mlflow.db in the current folder)"
            )
        # The uploader retries, so MLflow need not do so for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient

        with self._refusals():
            self.client = MlflowClient(tracking_uri=self.address)
            self.client.search_experiments(max_results=1)

    @property
    def no_answer(self) -> str:
        """The message for a store that does not answer."""
        return f"MLflow at {self.name} does not answer"

    def answers(self) -> bool:
        """Whether a server answers at the address; true for a database in a file."""
        parts = urlsplit(self.address)
        try:
            if parts.scheme in ("http", "https"):
                with urllib.request.urlopen(f"{self.name.rstrip('/')}/health", timeout=_ANSWER_SECONDS):
                    pass
            elif parts.hostname and parts.port:
                with socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_SECONDS):
                    pass
        except urllib.error.HTTPError:
            return True  # some gateways reject this request
        except urllib.error.URLError as error:
            return isinstance(error.reason, ssl.SSLError)  # MLflow has settings of its own for certificates
        except (OSError, ValueError):
            return False
        return True

    def check(self, experiment: str, run_id: str | None = None) -> None:
        """Checks that a run can be recorded, before hours are spent on it; a database that is missing stays so.

        Args:
          experiment: MLflow's name of the experiment, for a new run.
          run_id: of a run to continue.

        Raises:
          ConfigError: the store does not answer, or the experiment or the run was deleted.
        """
        if self._is_missing_database:
            return
        self.connect()
        with self._refusals():
            if run_id is None:
                self._find_experiment(experiment)
            else:
                self._find_run(run_id)

    def find_or_create_run(
        self, experiment: str, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """The id of the run with this key, with missing params and all tags added; created where there is none.

        Args:
          experiment: MLflow's name of the experiment, created where there is none.
          name: of a new run.
          key: unique, stored as a tag.

        Raises:
          ConfigError: MLflow refuses, or the experiment was deleted.
        """
        with self._refusals():
            existing = self._find_experiment(experiment)
            experiment_id = existing.experiment_id if existing else self.client.create_experiment(experiment)
            runs = self.client.search_runs([experiment_id], f"tags.`{_RUN_KEY}` = '{key}'")
            run = runs[0] if runs else self.client.create_run(experiment_id, run_name=name, tags={_RUN_KEY: key})
            try:
                self._describe(run, params, tags)
            except Exception:
                if not runs:  # or it would be shown as running for ever
                    with suppress(Exception):
                        self.client.delete_run(run.info.run_id)
                raise
            return run.info.run_id

    def update_run(self, run_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Adds the missing params and all tags to a run.

        Raises:
          ConfigError: MLflow does not know the run, or it was deleted.
        """
        with self._refusals():
            self._describe(self._find_run(run_id), params, tags)

    def refuses_for_good(self, error: Exception, run_id: str) -> bool:
        """Whether a request to a run that ended with this error would always do so.

        That is a question of the request. A store that is down, a login that has run out and a run that was deleted can
        all be mended, and the request be repeated.
        """
        from mlflow.exceptions import MlflowException
        from requests.exceptions import HTTPError

        match error:
            case MlflowException():
                is_final = error.get_http_status_code() in _FINAL_STATUSES
            case HTTPError():  # of an upload
                is_final = error.response is not None and error.response.status_code in _FINAL_STATUSES
            case OSError():
                is_final = False
            case _:
                is_final = isinstance(error, ValueError | TypeError | LookupError)
        return is_final and self.client.get_run(run_id).info.lifecycle_stage == _ACTIVE

    def _find_experiment(self, name: str) -> Any:
        """An experiment, None where there is none."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            _check_experiment(experiment)
        return experiment

    def _find_run(self, run_id: str) -> Any:
        """A run that is there and was not deleted."""
        run = self.client.get_run(run_id)
        _check_experiment(self.client.get_experiment(run.info.experiment_id))
        if run.info.lifecycle_stage != _ACTIVE:
            raise ConfigError(
                f"MLflow's run {run_id} was deleted; `mlflow runs restore --run-id {run_id}` brings it back"
            )
        return run

    @property
    def _is_missing_database(self) -> bool:
        """Whether the store is a database in a file that does not exist."""
        parts = urlsplit(self.address)
        return parts.scheme == "sqlite" and len(parts.path) > 1 and not Path(parts.path[1:]).exists()

    def _describe(self, run: Any, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        new = [Param(key, str(value)) for key, value in params.items() if key not in run.data.params]
        for chunk in chunks(new, _PARAMS_A_REQUEST):
            self.client.log_batch(run.info.run_id, params=chunk)
        self.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            raise ConfigError(f"MLflow at {self.name} refuses: {first_line(error)}") from None


def _check_experiment(experiment: Any) -> None:
    if experiment.lifecycle_stage != _ACTIVE:
        raise ConfigError(
            f"MLflow's experiment {experiment.name!r} was deleted; `mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}` brings it back, or give another --experiment"
        )


def chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most `size` items."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))
