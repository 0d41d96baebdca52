"""Correlations and errors of weighted numbers; see `bertjax.metrics.regression_report`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertjax.metrics.weighted.rankings import weighted_ranks
from bertjax.metrics.weighted.row_weights import WeightedScores


@dataclass(frozen=True)
class DistanceScores:
    """Right and predicted numbers.

    Attributes:
      labels, predictions: [N, L] float64.
      names: of the columns; each is a part where there are several.
    """

    labels: np.ndarray
    predictions: np.ndarray
    names: Sequence[str]

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The distances of a block, means over the columns."""
        columns = zip(self.names, self.labels.T, self.predictions.T, strict=True)
        parts = {name: _distances(labels, predictions, weights) for name, labels, predictions in columns}
        means = {key: np.mean([scores[key] for scores in parts.values()], axis=0) for key in parts[self.names[0]]}
        return WeightedScores(means, parts if len(parts) > 1 else {})


def _distances(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    total = weights.sum(axis=0)
    errors = predictions - labels
    squared = errors**2 @ weights
    ranks = weighted_ranks(labels, weights), weighted_ranks(predictions, weights)
    varies = _varies(labels, weights)
    correlated = varies & _varies(predictions, weights)
    off_mean = labels[:, None] - labels @ weights / total
    return {
        "pearson": np.where(correlated, _correlation(labels[:, None], predictions[:, None], weights), 0),
        "spearman": np.where(correlated, _correlation(*ranks, weights), 0),
        "mse": squared / total,
        "mae": np.abs(errors) @ weights / total,
        "r2": np.where(varies, 1 - squared / (weights * off_mean**2).sum(axis=0), 0),
    }


def _varies(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[r] whether the rows that count have different values."""
    counts = weights > 0
    low, high = (np.where(counts, values[:, None], end) for end in (np.inf, -np.inf))
    return low.min(axis=0) < high.max(axis=0)


def _correlation(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[r] the correlation of [N, r] or [N, 1] numbers."""
    total = weights.sum(axis=0)
    first, second = (side - (side * weights).sum(axis=0) / total for side in (first, second))
    weighted = weights * first
    squares = (weighted * first).sum(axis=0) * (weights * second**2).sum(axis=0)
    return np.clip((weighted * second).sum(axis=0) / np.sqrt(squares), -1, 1)
