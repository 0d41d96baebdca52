"""Schedulers: who ends a trial before its last epoch, which are Ray's, and that of a population, which ends none."""

import math
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.stopper import Stopper

from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.pbt.population import Population
from bertjax.sweeps.sweep_config import Sweep

REPORTS = "training_iteration"  # Ray's count of them


def make_scheduler(sweep: Sweep, ledger: Ledger) -> TrialScheduler:
    """The scheduler of a sweep; metric and mode come from Ray's own settings."""
    reports, factor = sweep.reports, sweep.reduction_factor
    grace = min(sweep.evaluations_in(sweep.grace_epochs), reports)
    match sweep.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(REPORTS, max_t=reports, grace_period=grace, reduction_factor=factor)
        case "hyperband":
            return HyperBandScheduler(REPORTS, max_t=reports, reduction_factor=factor)
        case "median":
            return MedianStoppingRule(REPORTS, grace_period=grace)
        case "pbt":
            return Population(sweep, ledger, REPORTS)
        case _:
            return FIFOScheduler()


class EpochBudget(Stopper):
    """Ends the sweep when its trials have trained so many epochs together; never, where there is no such number."""

    def __init__(self, max_epochs: int | None, epochs_of_report: int):
        self._left = math.inf if max_epochs is None else max_epochs
        self._epochs_of_report = epochs_of_report

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._left -= self._epochs_of_report
        return self._left <= 0

    def stop_all(self) -> bool:
        return self._left <= 0
