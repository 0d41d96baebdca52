"""The `Tracker` protocol, trackers without a store, and the context that ends a run's record with its status."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from bertjax.data.table import Side
from bertjax.errors import Stopped
from bertjax.report_pages.charts import Chart

Status = Literal["FINISHED", "FAILED", "KILLED"]
Tracking = Literal["mlflow", "none"]
"""Where runs are recorded: in MLflow, or in their folders only."""


class Dataset(NamedTuple):
    """The rows of one side of a run's data.

    Attributes:
      side: training, validation or test.
      source: the file or address that they were read from.
      digest: a hash of their content, at most 36 characters.
      num_rows: their number.
    """

    side: Side
    source: str
    digest: str
    num_rows: int


class Tracker(Protocol):
    """Records one run: first `connect`, then `start`, last `finish`. Subclasses inherit calls that record nothing."""

    def check(self, folder: Path | None = None) -> None:
        """Checks, before the data is read and without writing anything, that a run can be recorded.

        Args:
          folder: of the run, where it may have begun already.

        Raises:
          ConfigError: the store does not answer, or would refuse the run.
        """
        return

    def connect(self) -> None:
        """Checks within seconds that the store answers; a run writes nothing before that.

        Raises:
          ConfigError: it does not answer.
        """
        return

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        """Begins a run, or continues the one that began in this folder.

        Args:
          name: the title of the run.
          params: flat settings.
          folder: of the run; the tracker keeps its own files there.
          tags: further facts about the run, such as its commit and its machine.

        Returns:
          The run's id.
        """
        ...

    def adopt(self, folders: Iterable[Path]) -> None:
        """Records the runs below this one as runs of their own, where their folders were copied with this one's.

        Call it after `start`; folders that are no copy, or hold no run, stay as they are.
        """
        return

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Records metrics after `step` updates; steps come in order, and one that was recorded before is ignored.

        Returns at once; the metrics survive a killed process.
        """
        return

    def log_dataset(self, dataset: Dataset) -> None:
        """Records the source and the digest of rows."""
        return

    def log_artifact(self, path: Path) -> None:
        """Copies a file or folder under its own name; it must not change until `finish`."""
        return

    def log_charts(self, charts: Mapping[str, Chart], folder: Path) -> None:
        """Draws charts as PNG files into a folder, which is replaced, and records it.

        Args:
          charts: by the names of their files.
          folder: of the pictures; it must not change until `finish`.
        """
        return

    def log_model(self, folder: Path, register: str | None = None) -> None:
        """Records a model folder, so that it can be loaded from the store.

        Args:
          folder: a model folder, see `bertjax.save_pretrained`; it must not change until `finish`.
          register: the name in the store's model registry under which it becomes a new version.
        """
        return

    def finish(self, status: Status) -> None:
        """Ends the run once everything is recorded; does nothing before `start`."""
        return


class NullTracker(Tracker):
    """Records nothing."""

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        return "none"


class MemoryTracker(NullTracker):
    """Keeps all records in memory, for notebooks and tests.

    Attributes:
      params: settings of the run by dotted path.
      tags: of the run.
      metrics: step and the metrics that were logged with it, in the order of the calls.
      datasets: what the rows were.
      artifacts: files of the run.
      charts: by the names of their pictures.
      models: folder of a model, and the name under which it was to be registered.
      status: how the run ended; None before that.
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.datasets: list[Dataset] = []
        self.artifacts: list[Path] = []
        self.charts: dict[str, Chart] = {}
        self.models: list[tuple[Path, str | None]] = []
        self.status: Status | None = None

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        self.params, self.tags = dict(params), dict(tags or {})
        return name

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.metrics.append((step, dict(metrics)))

    def log_dataset(self, dataset: Dataset) -> None:
        self.datasets.append(dataset)

    def log_artifact(self, path: Path) -> None:
        self.artifacts.append(path)

    def log_charts(self, charts: Mapping[str, Chart], folder: Path) -> None:
        self.charts |= charts

    def log_model(self, folder: Path, register: str | None = None) -> None:
        self.models.append((folder, register))

    def finish(self, status: Status) -> None:
        self.status = status


@dataclass
class TrackedRun:
    """A connected tracker, and the status of its run when the block ends without an error."""

    tracker: Tracker
    status: Status = "FINISHED"


@contextmanager
def tracked_run(tracker: Tracker) -> Iterator[TrackedRun]:
    """Connects a tracker, and finishes it: KILLED when the work was stopped, FAILED after any other error.

    Raises:
      ConfigError: the tracker's store cannot be reached.
    """
    run = TrackedRun(tracker)
    try:
        tracker.connect()
        yield run
    except (Stopped, KeyboardInterrupt):
        run.status = "KILLED"
        raise
    except BaseException:
        run.status = "FAILED"
        raise
    finally:
        tracker.finish(run.status)
