"""Paired differences of two frameworks over seeds: mean, confidence interval, verdict in words."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from bertjax.metrics.bootstrap import Interval, verdict_of

CONFIDENCE = 0.95
FEWEST_SEEDS = 5  # with fewer, chance alone gives all differences one sign more often than in 5% of cases

_RESAMPLES = 20_000
_SEED = 0  # of the bootstrap


class Paired(NamedTuple):
    """The differences of two frameworks on the same seeds.

    Attributes:
      mean: of the differences, first minus second.
      interval: of that mean; None for a single seed.
      seeds: number of seeds.
    """

    mean: float
    interval: Interval | None
    seeds: int


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Paired:
    """The mean difference of two lists of scores of the same length, with one entry a seed."""
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    interval = bootstrap_interval(differences) if len(differences) > 1 else None
    return Paired(float(differences.mean()), interval, len(differences))


def bootstrap_interval(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the mean of two values or more: expanded percentile bootstrap, Hesterberg (2015, section 5.3).

    The plain bootstrap of few values is too narrow: its variance is divided by n, and its tails are normal. The
    expanded one cuts off smaller tails, which correspond to Student's t with n - 1 degrees of freedom.

    >>> bootstrap_interval([1.0, 1.0, 1.0])
    Interval(low=1.0, high=1.0)
    """
    sample = np.asarray(values, np.float64)
    count = len(sample)
    quantile = stats.t.ppf((1 + confidence) / 2, count - 1)
    tail = float(stats.norm.cdf(-math.sqrt(count / (count - 1)) * quantile))
    means = np.random.default_rng(_SEED).choice(sample, (_RESAMPLES, count)).mean(axis=1)
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(low), float(high))


def verdict(paired: Paired, first: str, second: str, greater_is_better: bool | None = True) -> str:
    """In words, which framework is better; which one is higher, where `greater_is_better` is None.

    >>> verdict(Paired(0.01, Interval(0.004, 0.015), 5), "JAX", "PyTorch")
    'JAX better'
    >>> verdict(Paired(0.01, Interval(-0.002, 0.015), 5), "JAX", "PyTorch")
    'equal within noise'
    >>> verdict(Paired(0.01, Interval(0.01, 0.01), 2), "JAX", "PyTorch")
    'too few seeds to tell (2 of 5)'
    """
    is_equal = paired.interval == Interval(0.0, 0.0)
    if paired.interval is None or (paired.seeds < FEWEST_SEEDS and not is_equal):
        return f"too few seeds to tell ({paired.seeds} of {FEWEST_SEEDS})"
    return verdict_of(paired.interval, first, second, greater_is_better)
