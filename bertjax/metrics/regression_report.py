"""Regression metrics: errors and correlations of predicted numbers, also of text similarities.

SciPy and scikit-learn are imported in the functions that use them.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.metrics.reports import HeadlineScore, Report, ScoreTable
from bertjax.metrics.weighted.distances import DistanceScores
from bertjax.metrics.weighted.row_weights import InBlocks

_COLUMNS = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R2",
}


class Distances(NamedTuple):
    """How predicted numbers compare with right ones.

    Attributes:
      pearson, spearman: correlations; 0 where one side is constant and there is none.
      mse, mae: mean squared and mean absolute error.
      r2: share of the variance that is explained; 0 where there is none to explain.
    """

    pearson: float
    spearman: float
    mse: float
    mae: float
    r2: float


def regression_report(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], first: str = "mse") -> Report:
    """Compares numbers; the metrics are means over the columns, each of which is a part where there are several.

    Args:
      labels: [N, L] right numbers.
      predictions: [N, L] predicted ones.
      names: of the columns.
      first: the distance that matters most.
    """
    labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
    by_column = {name: _distances(labels[:, i], predictions[:, i]) for i, name in enumerate(names)}
    mean = Distances(*(float(np.mean(values)) for values in zip(*by_column.values(), strict=True)))
    several = len(by_column) > 1
    averages = [("mean", mean)] if several else []
    return Report(
        summary=f"{len(labels)} rows, {', '.join(by_column)}",
        headline=[
            HeadlineScore(_COLUMNS[key], getattr(mean, key), key)
            for key in dict.fromkeys((first, "mse", "pearson", "spearman"))
        ],
        metrics=mean._asdict(),
        parts={name: distances._asdict() for name, distances in by_column.items()} if several else {},
        table=ScoreTable("By column", ("column", *_COLUMNS.values()), list(by_column.items()), averages),
        weighted=InBlocks(DistanceScores(labels, predictions, names)),
    )


def _distances(labels: np.ndarray, predictions: np.ndarray) -> Distances:
    from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    correlated = len(labels) > 1 and np.ptp(labels) > 0 and np.ptp(predictions) > 0
    with warnings.catch_warnings():
        # A column that is constant but for rounding has no correlation worth a warning.
        warnings.simplefilter("ignore", ConstantInputWarning)
        return Distances(
            pearson=float(pearsonr(labels, predictions).statistic) if correlated else 0.0,
            spearman=float(spearmanr(labels, predictions).statistic) if correlated else 0.0,
            mse=float(mean_squared_error(labels, predictions)),
            mae=float(mean_absolute_error(labels, predictions)),
            r2=float(r2_score(labels, predictions)) if len(labels) > 1 and np.ptp(labels) > 0 else 0.0,
        )
