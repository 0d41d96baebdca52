"""`Report`: how a model's predictions compare with labels, in a form that console, page and tracker can show."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples


class ScoreTable(NamedTuple):
    """Scores of the parts of a report.

    Attributes:
      title: of the table.
      columns: their titles, the first one that of the parts.
      rows: (name, a number for each other column); integers are counts.
      averages: rows of averages over the others.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, Sequence[float]]]
    averages: Sequence[tuple[str, Sequence[float]]] = ()


class Confusion(NamedTuple):
    """How often each label was predicted for each other.

    Attributes:
      names: of the labels, in index order.
      counts: [L, L]; rows are true labels, columns predictions.
    """

    names: Sequence[str]
    counts: np.ndarray


WeightedMetrics = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""weights [R, N] of the rows (how often each counts, 0 for not at all) -> metric, as in `Report.metrics` -> [R], NaN
where it is undefined. Draws of a bootstrap are weights, and so is a slice."""


class Report(NamedTuple):
    """How predictions compare with labels.

    Attributes:
      summary: the rows behind the report, in words, such as "500 rows, 6 classes".
      headline: titles and values of the main metrics, the most important first.
      metrics: of all rows, by their keys without those rows: `accuracy` for `test/accuracy`; NaN where undefined.
      parts: the metrics of each part of the whole, such as a class.
      table: the scores of each part, where there are parts.
      confusion: of single labels.
      weighted: the same metrics of weighted rows; None where the task has none.
    """

    summary: str
    headline: Sequence[tuple[str, float]]
    metrics: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]] = {}
    table: ScoreTable | None = None
    confusion: Confusion | None = None
    weighted: WeightedMetrics | None = None

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics that are defined, by flat keys: `test/accuracy`; `test/class/NUM/recall` for a part of the whole."""
        values = {f"{prefix}/{key}": value for key, value in self.metrics.items()} | {
            f"{prefix}/class/{part}/{key}": value
            for part, scores in self.parts.items()
            for key, value in scores.items()
        }
        return {key: value for key, value in values.items() if not math.isnan(value)}


Evaluator = Callable[[np.ndarray, Examples, Sequence[str]], Report]
"""(scores (`Task.scores`), one entry an example or a token; the examples; the label names) -> the report."""

_FALLING = ("loss", "error", "mae", "mse", "rmse", "perplexity", "ece", "brier")  # the last word of a metric's name
_RISING = ("accuracy", "precision", "recall", "f1", "match", "rank", "pearson", "spearman", "r2")  # any of its words


def better_when(metric: str) -> Literal["max", "min"] | None:
    """Whether more or less of a metric is better, by the words of its name; None where they do not say.

    >>> better_when("test/f1_macro"), better_when("epoch/train_loss"), better_when("train/seconds")
    ('max', 'min', None)
    """
    words = metric.rpartition("/")[2].split("_")
    if words[-1] in _FALLING:
        return "min"
    return "max" if any(word in _RISING for word in words) else None
