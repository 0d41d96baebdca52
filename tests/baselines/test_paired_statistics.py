"""Confidence intervals and verdicts with known results."""

import numpy as np
import pytest
from scipy import stats

from bertjax.baselines.compare.paired_statistics import Paired, bootstrap_interval, paired_difference, verdict
from bertjax.metrics.bootstrap import Interval


def test_interval_is_as_wide_as_students_t():
    """For normal values it is nearly the t-interval: the bias of few values is corrected."""
    values = np.random.default_rng(0).normal(3.0, 2.0, 40)
    low, high = bootstrap_interval(values)
    expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.05)  # a bootstrap is random


def test_interval_coverage_with_five_seeds():
    """A plain percentile bootstrap of five values covers 83% in the place of 95%."""
    rng = np.random.default_rng(1)
    hits = [bootstrap_interval(rng.normal(size=5)).contains(0.0) for _ in range(300)]
    assert 0.91 <= np.mean(hits) <= 0.99


def test_interval_is_reproducible_and_widens_with_confidence():
    values = [0.1, 0.3, 0.2, 0.5, 0.4]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    wide, narrow = bootstrap_interval(values), bootstrap_interval(values, confidence=0.5)
    assert wide.low < narrow.low < 0.3 < narrow.high < wide.high


def test_differences_are_paired_by_seed():
    """A seed moves both scores alike, so the difference remains."""
    first = np.array([0.90, 0.95, 0.80, 0.85, 0.99])
    paired = paired_difference(first, first - 0.01)
    assert paired.mean == pytest.approx(0.01)
    assert paired.interval == pytest.approx((0.01, 0.01))
    assert paired_difference([0.5], [0.4]).interval is None


@pytest.mark.parametrize(
    ("paired", "greater_is_better", "expected"),
    [
        (Paired(0.02, Interval(0.01, 0.03), 5), True, "JAX better"),
        (Paired(-0.02, Interval(-0.03, -0.01), 5), True, "PyTorch better"),
        (Paired(0.02, Interval(0.01, 0.03), 5), False, "PyTorch better"),
        (Paired(0.02, Interval(0.01, 0.03), 5), None, "JAX higher"),
        (Paired(0.02, Interval(-0.01, 0.03), 5), True, "equal within noise"),
        (Paired(0.02, Interval(0.01, 0.03), 4), True, "too few seeds to tell (4 of 5)"),
        (Paired(0.02, None, 1), True, "too few seeds to tell (1 of 5)"),
        (Paired(0.0, Interval(0.0, 0.0), 2), True, "equal"),
    ],
)
def test_verdicts(paired, greater_is_better, expected):
    assert verdict(paired, "JAX", "PyTorch", greater_is_better) == expected
