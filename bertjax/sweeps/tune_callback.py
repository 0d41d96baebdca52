"""Watching a sweep: what Ray says of its trials goes into the ledger, and a line of it to whoever reads the log."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from bertjax.errors import UserError
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.results.sweep_results import settings_line
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import told_so_far
from bertjax.training.loop.fit import Diverged
from bertjax.training.run.run_folder import METRICS

logger = logging.getLogger(__name__)


class Watch(Callback):
    """Keeps the ledger up to date; its methods are called by Ray, by these names."""

    def __init__(self, sweep: Sweep, ledger: Ledger):
        self._sweep, self._ledger = sweep, ledger

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """A trial has been evaluated; one that had ended before tells it again, which is no news."""
        known = self._ledger.trial_of(trial.trial_id)
        if known.status == "running":
            told = told_so_far(self._ledger.run_folder(known.number), self._sweep.goal)
            row = next(row for step, row in told if step == result["step"])
            metric = self._sweep.goal.metric_of(row) or ""
            logger.info(
                "trial %d, epoch %d of %d: %s %.4f  (%s)",
                known.number, result["training_iteration"] * self._sweep.base.evaluation.evaluate_every,
                self._sweep.base.epochs, metric, row[metric], settings_line(known.values),
            )  # fmt: skip

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has crashed and is taken up again."""
        known = self._ledger.trial_of(trial.trial_id)
        cause = cause_of(trial)
        self._ledger.record(known.number, cause=cause)
        logger.warning("trial %d: %s; it is taken up again", known.number, cause)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has crashed for good."""
        known = self._ledger.trial_of(trial.trial_id)
        cause = cause_of(trial)
        self._ledger.record(known.number, status="failed", cause=cause)
        logger.warning("trial %d failed: %s", known.number, cause)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has come to its end, or a scheduler has ended it."""
        known = self._ledger.trial_of(trial.trial_id)
        if known.status != "running":
            return
        if (self._ledger.run_folder(known.number) / METRICS).exists():
            self._ledger.record(known.number, status="finished", cause="")
        else:
            self._ledger.record(known.number, status="stopped", cause=f"ended early by {self._sweep.scheduler}")


def cause_of(trial: Any) -> str:
    """Why one of Ray's trials crashed, in a line."""
    from ray import cloudpickle
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    path = trial.pickled_error_file  # where Ray keeps what the trial raised last
    if path is None or not Path(path).exists():
        return "it ended without a reason"
    error = cloudpickle.loads(Path(path).read_bytes())
    cause = error.cause if isinstance(error, RayTaskError) else error
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(error, OutOfMemoryError) or isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"out of memory: {text}"
    if isinstance(cause, Diverged):
        return f"diverged: {text}"
    if isinstance(error, RayActorError):
        return "its process was killed or crashed"
    return text if isinstance(cause, UserError) else f"{type(cause).__name__}: {text}"
