"""An MLflow store: a tracking server, or a database that MLflow opens itself."""

import http.client
import os
import re
import socket
import sqlite3
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bertjax.errors import ConfigError, first_line
from bertjax.settings import nearest
from bertjax.storage.plain_path import is_plain
from bertjax.tracking.quiet_mlflow import quiet_mlflow

_ANSWER_SECONDS = 5.0
_PARAMS_A_REQUEST = 100  # MLflow's own limit
RUN_KEY = "bertjax.run_key"
_ACTIVE = "active"  # stage of an experiment or a run that was not deleted
_FINISHED = "attributes.status = 'FINISHED'"
# HTTP statuses of requests that can never succeed; a login may be renewed, and a run may be restored.
_FINAL_STATUSES = (400, 413, 414, 422, 431)


def tracking_address() -> str:
    """The address in `MLFLOW_TRACKING_URI`, else a database in the current folder."""
    # Absolute: MLflow caches stores by address, so a relative one would keep pointing at an earlier current folder.
    return os.environ.get("MLFLOW_TRACKING_URI") or _database_address(Path.cwd() / "mlflow.db")


def _database_address(file: Path) -> str:
    """The address of a database in a file, as SQLAlchemy reads it: `%` and `?` in the path are no part of its syntax.

    Raises:
      ConfigError: this version of SQLAlchemy has no way to write the path.
    """
    if is_plain(file):
        return f"sqlite:///{file}"
    from sqlalchemy.engine import URL, make_url

    try:
        # With the driver's name: MLflow would take what follows `sqlite:///` for a path as it is, and make its folder.
        address = URL.create("sqlite+pysqlite", database=str(file)).render_as_string()
        if make_url(address).database == str(file):
            return address
    except UnicodeEncodeError:  # bytes that are no text
        pass
    raise ConfigError(f"MLflow cannot open {file}: SQLAlchemy has no address for such a path; work in another folder")


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
        return re.sub(r"(?<=://)[^/?#]*@", "", self.address, count=1)

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
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._open_file()
            with self._refusals(), self._made_at_once():
                self.client = MlflowClient(tracking_uri=self.address)
                self.client.search_experiments(max_results=1)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise ConfigError(
                f"MLflow cannot open {self.name}: {first_line(error)}; set MLFLOW_TRACKING_URI to another address"
            ) from None

    def connect_to_existing(self) -> None:
        """Opens a store to read what is in it.

        Raises:
          ConfigError: as `connect`, or it is a database that is not there.
        """
        if (file := self._database_file) is not None and not file.exists():
            raise ConfigError(
                f"there is no MLflow database {file}; set MLFLOW_TRACKING_URI to the store that the runs are in, or "
                f"work in their folder"
            )
        self.connect()

    @property
    def no_answer(self) -> str:
        """The message for a store that does not answer."""
        return f"MLflow at {self.name} does not answer"

    def answers(self) -> bool:
        """Whether a server answers at the address; true for a database in a file."""
        try:
            parts = urlsplit(self.address)
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
        except (OSError, ValueError, http.client.HTTPException):  # the latter for a port that is no number
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
        if (file := self._database_file) is not None and not file.exists():
            return
        self.connect()
        with self._refusals():
            if run_id is None:
                self._find_experiment(experiment)
            else:
                self._find_run(run_id)

    def find_or_create_run(self, experiment: str, name: str, key: str) -> str:
        """The id of the run with this key; created where there is none.

        Args:
          experiment: MLflow's name of the experiment, created where there is none.
          name: of a new run.
          key: unique, stored as a tag.

        Raises:
          ConfigError: MLflow refuses, or the experiment was deleted.
        """
        with self._refusals():
            existing = self._find_experiment(experiment)
            experiment_id = existing.experiment_id if existing else self._create_experiment(experiment)
            runs = self.client.search_runs([experiment_id], f"tags.`{RUN_KEY}` = '{key}'")
            run = runs[0] if runs else self.client.create_run(experiment_id, run_name=name, tags={RUN_KEY: key})
            return str(run.info.run_id)

    def discard_run(self, run_id: str) -> None:
        """Deletes a run that could not begin, or it would be shown as running for ever; silent where that fails."""
        with suppress(Exception):
            self.client.delete_run(run_id)

    def find_run(self, run_id: str) -> Any:
        """MLflow's record of a run.

        Raises:
          ConfigError: MLflow does not know the run, or it was deleted.
        """
        with self._refusals():
            return self._find_run(run_id)

    def finished_runs(self, experiment: str) -> list[Any]:
        """MLflow's records of the runs of an experiment that ended well, the oldest first.

        Args:
          experiment: MLflow's name of it.

        Raises:
          ConfigError: there is no such experiment, or it was deleted.
        """
        with self._refusals():
            found = self._find_experiment(experiment)
            if found is None:
                names = [each.name for each in self.client.search_experiments()]
                raise ConfigError(
                    f"MLflow at {self.name} has no experiment {experiment!r}; {nearest(experiment, names)}"
                )
            runs: list[Any] = []
            token = None
            while True:
                page = self.client.search_runs(
                    [found.experiment_id], _FINISHED, order_by=["attributes.start_time"], page_token=token
                )
                runs += page
                if not (token := page.token):
                    return runs

    def has_artifact(self, run_id: str, path: str) -> bool:
        """Whether a run has an artifact of this name, a file or a folder.

        Raises:
          ConfigError: MLflow refuses.
        """
        with self._refusals():
            return any(item.path == path for item in self.client.list_artifacts(run_id))

    def experiment_of(self, run_id: str) -> str:
        """The name of a run's experiment; errors as `find_run`."""
        with self._refusals():
            return str(self.client.get_experiment(self._find_run(run_id).info.experiment_id).name)

    def describe(self, run_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Adds the missing params and all tags to a run; a param that is there cannot change.

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

    def _create_experiment(self, name: str) -> str:
        """Makes an experiment, whose artifacts a database keeps in `mlruns` of the current folder."""
        folder = Path.cwd()
        # MLflow decodes that path as if it were an address.
        is_decoded = urllib.request.url2pathname(str(folder)) != str(folder)
        location = (folder / "mlruns" / uuid.uuid4().hex).as_uri() if self._database_file and is_decoded else None
        return str(self.client.create_experiment(name, artifact_location=location))

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
    def _database_file(self) -> Path | None:
        """The file of a store that is a database in a file."""
        from sqlalchemy.engine import make_url

        if re.match(r"sqlite(\+\w+)?:///", self.address) is None:
            return None
        database = make_url(self.address).database
        return None if database in (None, "", ":memory:") else Path(database)

    def _open_file(self) -> None:
        """Opens the file of a database, where MLflow itself would try again for minutes.

        Raises:
          sqlite3.Error: it is no database, or cannot be read or made.
        """
        file = self._database_file
        if file is not None and file.parent.is_dir():  # MLflow makes a folder that is missing
            with closing(sqlite3.connect(file)) as database:
                database.execute("PRAGMA schema_version")

    def _describe(self, run: Any, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        new = [Param(key, str(value)) for key, value in params.items() if key not in run.data.params]
        for chunk in chunks(new, _PARAMS_A_REQUEST):
            self.client.log_batch(run.info.run_id, params=chunk)
        self.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @contextmanager
    def _made_at_once(self) -> Iterator[None]:
        """Has a new database file reach the disk once, when it is complete: MLflow makes its tables by some hundred
        changes, and sqlite would wait for the disk after each."""
        file = self._database_file
        if file is None or (file.exists() and file.stat().st_size):
            yield
            return
        from sqlalchemy import event
        from sqlalchemy.pool import Pool

        opened: list[sqlite3.Connection] = []

        def connected(connection: Any, _: Any) -> None:
            if isinstance(connection, sqlite3.Connection):
                connection.execute("PRAGMA synchronous = OFF")
                opened.append(connection)

        event.listen(Pool, "connect", connected)
        try:
            yield
        finally:
            event.remove(Pool, "connect", connected)
            for connection in opened:
                with suppress(sqlite3.ProgrammingError):  # it is closed
                    connection.execute("PRAGMA synchronous = FULL")
        with file.open("rb") as written:
            os.fsync(written.fileno())

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            with quiet_mlflow():
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
