"""How far numbers are from those that are right: of regression, and of the likeness of two texts.

SciPy and scikit-learn are imported in the functions that use them.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.evaluation.reports import ScoreTable

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


class RegressionReport(NamedTuple):
    """How predicted numbers compare with right ones.

    Attributes:
      mean: over the columns.
      by_column: label column -> its distances.
      rows: that were evaluated.
      first: the distance that matters most.
    """

    mean: Distances
    by_column: dict[str, Distances]
    rows: int
    first: str = "mse"
    confusion: None = None

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/mse`, `test/spearman`, and by column where there are several."""
        metrics = {f"{prefix}/{key}": value for key, value in self.mean._asdict().items()}
        if len(self.by_column) > 1:
            for name, distances in self.by_column.items():
                metrics |= {f"{prefix}/class/{name}/{key}": value for key, value in distances._asdict().items()}
        return metrics

    @property
    def summary(self) -> str:
        """The rows behind the report, in words."""
        return f"{self.rows} rows, {', '.join(self.by_column)}"

    @property
    def headline(self) -> list[tuple[str, float]]:
        """The main metrics, the most important first."""
        keys = dict.fromkeys((self.first, "mse", "pearson", "spearman"))
        return [(_COLUMNS[key], getattr(self.mean, key)) for key in keys]

    @property
    def table(self) -> ScoreTable:
        """Distances by column."""
        averages = [("mean", self.mean)] if len(self.by_column) > 1 else []
        return ScoreTable("By column", ("column", *_COLUMNS.values()), list(self.by_column.items()), averages)


def regression_report(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> RegressionReport:
    """Compares numbers.

    Args:
      labels: [N, L] right numbers.
      predictions: [N, L] predicted ones.
      names: of the columns.
    """
    by_column = {
        name: _distances(labels[:, i].astype(np.float64), predictions[:, i].astype(np.float64))
        for i, name in enumerate(names)
    }
    mean = Distances(*(float(np.mean(values)) for values in zip(*by_column.values(), strict=True)))
    return RegressionReport(mean, by_column, len(labels))


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
