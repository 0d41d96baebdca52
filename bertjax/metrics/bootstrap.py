"""The percentile bootstrap over rows (Efron and Tibshirani 1993, section 13.3). A resample is drawn as weights: how
often each row is in it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.metrics.reports import WeightedMetrics

_CELLS = 2**20  # rows times draws of a block
_FEWEST_ROWS = 2  # one row says nothing of how rows differ


class Interval(NamedTuple):
    """A confidence interval; NaN where there is none."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether a value is in the interval, bounds included."""
        return self.low <= value <= self.high


UNDEFINED = Interval(np.nan, np.nan)


def bootstrap_weights(num_rows: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks [r, N] of draws: how often each row is in a sample of N with replacement, the same for the same seed."""
    rng = np.random.default_rng(seed)
    size = max(1, _CELLS // num_rows)
    for first in range(0, draws, size):
        count = min(size, draws - first)
        drawn = rng.integers(0, num_rows, (count, num_rows)) + np.arange(count)[:, None] * num_rows
        yield np.bincount(drawn.ravel(), minlength=count * num_rows).reshape(count, num_rows)


def bootstrap_intervals(
    weighted: WeightedMetrics, num_rows: int, draws: int, confidence: float, seed: int
) -> dict[str, Interval]:
    """The interval of every metric, those of parts too (`class/NUM/recall`).

    Args:
      weighted: the metrics of weighted rows.
      num_rows: N.
      draws: how many samples of rows.
      confidence: share of the draws that an interval covers.
      seed: of the draws.
    """
    if num_rows < _FEWEST_ROWS:
        return dict.fromkeys(weighted(np.ones((1, num_rows)), True), UNDEFINED)
    blocks = [weighted(block, True) for block in bootstrap_weights(num_rows, draws, seed)]
    return intervals_of(blocks, confidence)


def intervals_of(blocks: Sequence[Mapping[str, np.ndarray]], confidence: float) -> dict[str, Interval]:
    """The interval of each metric from its values in all draws, in blocks.

    A metric that more than 1 - confidence of the draws leave undefined has none: what the others say is not enough.
    """
    drawn = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    return {key: _interval(values, confidence) for key, values in drawn.items()}


def _interval(values: np.ndarray, confidence: float) -> Interval:
    defined = values[~np.isnan(values)]
    if len(defined) < confidence * len(values) or not len(defined):
        return UNDEFINED
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(float(low), float(high))


def verdict_of(difference: Interval, first: str, second: str, greater_is_better: bool | None) -> str:
    """In words, what the interval of a difference, first minus second, says.

    Args:
      difference: the interval.
      first, second: the names of the sides.
      greater_is_better: None where nobody knows; it says which one is higher then.

    >>> verdict_of(Interval(0.01, 0.02), "A", "B", greater_is_better=False)
    'B better'
    >>> verdict_of(Interval(-0.01, 0.02), "A", "B", greater_is_better=True)
    'equal within noise'
    """
    if np.isnan(difference.low):
        return "undefined"
    if difference == Interval(0.0, 0.0):
        return "equal"
    if difference.contains(0.0):
        return "equal within noise"
    is_first_higher = difference.low > 0
    if greater_is_better is None:
        return f"{first if is_first_higher else second} higher"
    return f"{first if is_first_higher == greater_is_better else second} better"
