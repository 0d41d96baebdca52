"""The tracker protocol: what a run records, independent of the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from bertjax.data.table import Side

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Dataset(NamedTuple):
    """Rows that a run uses.

    Attributes:
      side: what for.
      source: where they came from, a file or an address.
      digest: of their content, 36 characters at most.
      num_rows: how many.
    """

    side: Side
    source: str
    digest: str
    num_rows: int


class Tracker(Protocol):
    """Records one run. `connect` comes first, then `start`, and `finish` last."""

    def connect(self) -> None:
        """Checks within seconds that the store can be reached; nothing is written on this machine before.

        Raises:
          ConfigError: it cannot.
        """
        ...

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        """Begins a run, or continues the one that began in this folder.

        Args:
          name: for people.
          params: flat settings.
          folder: of the run; what the tracker must remember of it stands there.
          tags: what else there is to know about the run: its commit, its machine.

        Returns:
          The run's id.
        """
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Records metrics after `step` updates, in order; a step that was recorded before is left out.

        Returns at once. What it was given survives the process.
        """
        ...

    def log_dataset(self, dataset: Dataset) -> None:
        """Records the source and the digest of the rows of one side."""
        ...

    def log_artifact(self, path: Path) -> None:
        """Copies a file or folder under its own name; it must stay as it is until `finish`."""
        ...

    def log_model(self, folder: Path, register: str | None = None) -> None:
        """Records a model folder, so that it can be run from there.

        Args:
          folder: what `bertjax.Predictor.load` reads; it must stay as it is until `finish`.
          register: the name in the tracker's registry of models under which it becomes a new version.
        """
        ...

    def finish(self, status: Status) -> None:
        """Waits until everything is recorded, and ends the run; a run that was never started needs no end."""
        ...


class NullTracker:
    """Records nothing."""

    def connect(self) -> None:
        pass

    def start(self, name: str, params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None) -> str:
        return "none"

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def log_dataset(self, dataset: Dataset) -> None:
        pass

    def log_artifact(self, path: Path) -> None:
        pass

    def log_model(self, folder: Path, register: str | None = None) -> None:
        pass

    def finish(self, status: Status) -> None:
        pass


class MemoryTracker(NullTracker):
    """Keeps everything in lists, for notebooks and tests."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.datasets: list[Dataset] = []
        self.artifacts: list[Path] = []
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

    def log_model(self, folder: Path, register: str | None = None) -> None:
        self.models.append((folder, register))

    def finish(self, status: Status) -> None:
        self.status = status
