"""Weighted calibration of probabilities; see `bertjax.metrics.reliability`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertjax.metrics.reliability import BINS, bin_of, squared_distances
from bertjax.metrics.weighted.row_weights import InBlocks, WeightedScores


@dataclass(frozen=True)
class CalibrationScores:
    """ECE and Brier score.

    Attributes:
      gaps: sparse [B, N] the probability minus whether it came true, in the bin of each row; one of single labels, and
        one a label where a row has several.
      distances: [N] squared distances of the probabilities from what is true.
    """

    gaps: Sequence[Any]
    distances: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> "CalibrationScores":
        """Arguments as of `reliability.reliability`."""
        if labels.ndim == 1:
            judged = [(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)]
        else:
            judged = list(zip(probabilities.T, labels.T, strict=True))
        return cls([_gaps(*pair) for pair in judged], squared_distances(probabilities, labels))

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The metrics of a block."""
        total = weights.sum(axis=0)
        errors = [np.abs(gaps @ weights).sum(axis=0) / total for gaps in self.gaps]
        return WeightedScores({"ece": np.mean(errors, axis=0), "brier": self.distances @ weights / total})


def _gaps(confidences: np.ndarray, right: np.ndarray) -> Any:
    from scipy import sparse

    places = (bin_of(confidences), np.arange(len(confidences)))
    return sparse.csr_matrix((confidences.astype(np.float64) - right, places), shape=(BINS, len(confidences)))


def weighted_calibration(probabilities: np.ndarray, labels: np.ndarray) -> InBlocks:
    """`ece` and `brier` of weighted rows; arguments as of `reliability.reliability`."""
    return InBlocks(CalibrationScores.of(probabilities, labels))
