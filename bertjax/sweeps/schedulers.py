"""Schedulers, which are Ray's, and the budget in epochs that ends a whole sweep."""

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

from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import COST, WORST_COST

_EVALUATIONS = "training_iteration"  # Ray's count of a trial's reports


def make_scheduler(sweep: Sweep) -> TrialScheduler:
    """The scheduler of a sweep; metric and mode come from Ray's own settings."""
    total, factor = sweep.evaluations_per_trial, sweep.reduction_factor
    grace = min(sweep.evaluations_in(sweep.grace_epochs), total)
    match sweep.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(_EVALUATIONS, max_t=total, grace_period=grace, reduction_factor=factor)
        case "hyperband":
            return HyperBandScheduler(_EVALUATIONS, max_t=total, reduction_factor=factor)
        case "median":
            return MedianStoppingRule(_EVALUATIONS, grace_period=grace)
        case _:
            return FIFOScheduler()


class MaxEpochsStopper(Stopper):
    """Ends a sweep when its trials together have trained a number of epochs; never where that is None."""

    def __init__(self, max_epochs: int | None, epochs_per_evaluation: int):
        self._epochs_left = math.inf if max_epochs is None else max_epochs
        self._epochs_per_evaluation = epochs_per_evaluation

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if result[COST] < WORST_COST:
            self._epochs_left -= self._epochs_per_evaluation
        return self._epochs_left <= 0

    def stop_all(self) -> bool:
        return self._epochs_left <= 0
