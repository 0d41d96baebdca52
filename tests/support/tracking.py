"""What runs recorded: in MLflow's database, in a run's event log, in trackers that keep all in memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from bertjax.tracking.tracker import MemoryTracker


def runs_of(folder: Path, database: str = "mlflow.db") -> tuple[MlflowClient, list[Any]]:
    """A client of the MLflow database in a folder, and all runs of its experiment `bertjax`."""
    client = MlflowClient(f"sqlite:///{folder}/{database}")
    return client, client.search_runs([client.get_experiment_by_name("bertjax").experiment_id])


def logged_losses(folder: Path) -> list[tuple[int, float]]:
    """(step, training loss) of a run's event log, in the order of recording."""
    lines = map(json.loads, (folder / "tracking.jsonl").read_text().splitlines())
    return [
        (line["step"], line["metrics"]["train/loss"])
        for line in lines
        if "train/grad_norm" in line.get("metrics", {})
    ]  # fmt: skip


class Trackers(list[tuple[str | None, MemoryTracker]]):
    """A `new_tracker` that keeps (parent run, tracker) of every run."""

    def __call__(self, parent: str | None) -> MemoryTracker:
        tracker = MemoryTracker()
        self.append((parent, tracker))
        return tracker


def stop_after(steps: int) -> Callable[[], bool]:
    """A `should_stop` that says yes from its call number `steps` on."""
    calls = iter(range(1, 10_000))
    return lambda: next(calls) >= steps
