"""The tracker protocol: the few things a run has to say, whoever listens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """Records one run. `start` comes first, `finish` last."""

    def start(self, name: str, params: Mapping[str, Any], run_id: str | None = None) -> str:
        """Begins a run, or continues the one with this id.

        Args:
          name: for people.
          params: flat settings; recorded when the run is new.
          run_id: what an earlier `start` returned.

        Returns:
          The run's id.
        """
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Records metrics after `step` updates. May be buffered until `finish`."""
        ...

    def log_artifact(self, path: Path) -> None:
        """Copies a file or folder under its own name."""
        ...

    def finish(self, status: Status) -> None:
        """Writes what is buffered and ends the run."""
        ...


class NullTracker:
    """Records nothing."""

    def start(self, name: str, params: Mapping[str, Any], run_id: str | None = None) -> str:
        return run_id or "none"

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def log_artifact(self, path: Path) -> None:
        pass

    def finish(self, status: Status) -> None:
        pass


class MemoryTracker(NullTracker):
    """Keeps everything in lists, for notebooks and tests."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.artifacts: list[Path] = []
        self.status: Status | None = None

    def start(self, name: str, params: Mapping[str, Any], run_id: str | None = None) -> str:
        self.params = dict(params)
        return run_id or name

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.metrics.append((step, dict(metrics)))

    def log_artifact(self, path: Path) -> None:
        self.artifacts.append(path)

    def finish(self, status: Status) -> None:
        self.status = status
