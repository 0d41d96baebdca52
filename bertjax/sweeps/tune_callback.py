"""The Ray Tune callback that keeps the ledger and the log up to date."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from bertjax.errors import RunFolderError
from bertjax.stage_progress import Advance
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.results.sweep_results import settings_line
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import COST, METRIC, SCORE, WORST_COST, cause_of
from bertjax.training.run.run_folder import METRICS

logger = logging.getLogger(__name__)


class TuneCallback(Callback):
    """Records in the ledger how trials end, and logs a line an event; Ray calls the methods by these names.

    Attributes:
      refusal: why a trial was refused though not for its settings, which the next driver may run; None where none was.
    """

    def __init__(self, sweep: Sweep, ledger: Ledger, advance: Advance = lambda trials: None):
        self._sweep, self._ledger, self._advance = sweep, ledger, advance
        self.refusal: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Ray writes the callback to its folder, from where nothing reads it; a bar cannot be written."""
        return {**vars(self), "_advance": None}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """A trial has reported an evaluation; one that ended under an earlier driver reports it again."""
        record = self._ledger.trial_of(trial.trial_id)
        if record.status == "running" and result[COST] < WORST_COST:
            epoch = result["training_iteration"] * self._sweep.base.evaluation.evaluate_every
            logger.info(
                "trial %d, epoch %d of %d: %s %.4f  (%s)",
                record.number, epoch, self._sweep.base.epochs, result[METRIC], result[SCORE],
                settings_line(record.values),
            )  # fmt: skip

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has crashed and is restarted."""
        record, cause = self._ledger.trial_of(trial.trial_id), describe_failure(trial)
        self._ledger.record(record.number, cause=cause)
        logger.warning("trial %d: %s; it is restarted", record.number, cause)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has crashed for the last time."""
        if isinstance(error := _error_of(trial), RunFolderError):
            self.refusal = self.refusal or str(error)
            return
        record, cause = self._ledger.trial_of(trial.trial_id), describe_failure(trial)
        self._ledger.record(record.number, status="failed", cause=cause)
        self._advance(1)
        logger.warning("trial %d failed: %s", record.number, cause)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has run to its end, or a scheduler has ended it."""
        record = self._ledger.trial_of(trial.trial_id)
        if record.status != "running":
            return
        self._advance(1)
        cause = self._ledger.final_failure(record.number)
        if cause is not None:
            self._ledger.record(record.number, status="failed", cause=cause)
            logger.warning("trial %d failed: %s  (%s)", record.number, cause, settings_line(record.values))
        elif (self._ledger.run_folder(record.number) / METRICS).exists():
            self._ledger.record(record.number, status="finished", cause="")
        else:
            self._ledger.record(record.number, status="stopped", cause=f"ended early by {self._sweep.scheduler}")


def describe_failure(trial: Any) -> str:
    """Why a Ray trial crashed, in one line."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    error = _pickled_error(trial)
    if error is None:
        return "it ended without a reason"
    cause = _cause(error)
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(error, OutOfMemoryError) or isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"out of memory: {text}"
    return "its process was killed or crashed" if isinstance(error, RayActorError) else cause_of(cause)


def _error_of(trial: Any) -> BaseException | None:
    """What the process of a Ray trial raised, as far as Ray knows it."""
    error = _pickled_error(trial)
    return None if error is None else _cause(error)


def _pickled_error(trial: Any) -> BaseException | None:
    from ray import cloudpickle

    path = trial.pickled_error_file  # Ray's copy of the exception
    return cloudpickle.loads(Path(path).read_bytes()) if path is not None and Path(path).exists() else None


def _cause(error: BaseException) -> BaseException:
    from ray.exceptions import RayTaskError

    return error.cause if isinstance(error, RayTaskError) else error
