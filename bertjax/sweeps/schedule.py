"""Schedulers, all of them Ray's: who ends a trial before its last epoch, or lets it go on from another's weights."""

import math
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.stopper import Stopper

from bertjax.sweeps.config import Sweep
from bertjax.sweeps.search import domain
from bertjax.sweeps.space import Choice, range_of

EPOCH = "training_iteration"  # Ray's count of reports; a trial reports once an evaluation
_PERTURBATION = (
    1.2  # population-based training draws anew, or multiplies by this or its inverse (Jaderberg et al. 2017)
)


def make_scheduler(sweep: Sweep) -> TrialScheduler:
    """The scheduler of a sweep; metric and mode come from Ray's own settings."""
    reports = reports_of_trial(sweep)
    match sweep.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                time_attr=EPOCH, max_t=reports, grace_period=min(sweep.grace_epochs, reports),
                reduction_factor=sweep.reduction_factor,
            )  # fmt: skip
        case "hyperband":
            return HyperBandScheduler(time_attr=EPOCH, max_t=reports, reduction_factor=sweep.reduction_factor)
        case "median":
            return MedianStoppingRule(time_attr=EPOCH, grace_period=sweep.grace_epochs)
        case "pbt":
            return PopulationBasedTraining(
                time_attr=EPOCH,
                perturbation_interval=sweep.grace_epochs,
                hyperparam_mutations={"values": {path: domain(d) for path, d in sweep.drawn.items()}},
                custom_explore_fn=_within(sweep),
                perturbation_factors=(_PERTURBATION, 1 / _PERTURBATION),
            )
        case _:
            return FIFOScheduler()


def reports_of_trial(sweep: Sweep) -> int:
    """How often a trial that runs to its end reports: at its evaluations."""
    return -(-sweep.base.epochs // sweep.base.evaluating.evaluate_every)


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


def _within(sweep: Sweep) -> Any:
    """Keeps what was multiplied inside of its range."""
    ranges = {path: range_of(dimension) for path, dimension in sweep.drawn.items()}
    bounds = {path: inner.examples for path, inner in ranges.items() if not isinstance(inner, Choice)}

    def clip(config: dict[str, Any]) -> dict[str, Any]:
        values = {
            path: min(max(value, bounds[path][0]), bounds[path][1]) if path in bounds else value
            for path, value in config["values"].items()
        }
        return {**config, "values": values}

    return clip
