"""Chooses the tracker of a run by the setting `tracking`."""

from collections.abc import Callable, Mapping

from bertjax.tracking.folder_tracker import FolderTracker
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.tracker import Tracker, Tracking


def tracker_of(
    tracking: Tracking,
    experiment: str,
    parent_run_id: str | None = None,
    on_metrics: Callable[[Mapping[str, float], int], None] = lambda metrics, step: None,
) -> Tracker:
    """A new tracker of one run.

    Args:
      tracking: "mlflow", or "none": the run is recorded in its folder only.
      experiment: MLflow's name for a group of runs.
      parent_run_id: the run under which MLflow shows this one.
      on_metrics: (metrics, step) -> None; called once they are recorded.
    """
    if tracking == "none":
        return FolderTracker(on_metrics)
    return MlflowTracker(experiment, parent_run_id, on_metrics=on_metrics)
