"""`Report`: the evaluation of a model's predictions, as data that the console, the page and the tracker can show."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

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


T = TypeVar("T")


class WeightedMetrics(Protocol):
    """The metrics of weighted rows. Draws of a bootstrap are weights, and so is a slice."""

    def __call__(self, weights: np.ndarray, parts: bool = False) -> Mapping[str, np.ndarray]:
        """The metrics under each weighting.

        Args:
          weights: [R, N] how often each row counts, 0 for not at all. The rows are those of the table (a text may be
            several examples), predicted as they were.
          parts: also those of each part, such as `class/NUM/recall`.

        Returns:
          Metric, as in `Report.metrics` -> [R], NaN where it is undefined: all are, where no row counts.
        """


class HeadlineScore(NamedTuple):
    """A main metric.

    Attributes:
      title: in words.
      value: of all rows.
      key: in `Report.metrics`; None for a number that is beside them, such as chance.
    """

    title: str
    value: float
    key: str | None


class Report(NamedTuple):
    """How predictions compare with labels.

    Attributes:
      summary: the rows behind the report, in words, such as "500 rows, 6 classes".
      headline: the main metrics, the most important first.
      metrics: of all rows, by their keys without those rows: `accuracy` for `test/accuracy`; NaN where undefined.
      parts: the metrics of each part of the whole, such as a class.
      table: the scores of each part, where there are parts.
      confusion: of single labels.
      weighted: the same metrics of weighted rows; None where the evaluator gives none.
    """

    summary: str
    headline: Sequence[HeadlineScore]
    metrics: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]] = {}
    table: ScoreTable | None = None
    confusion: Confusion | None = None
    weighted: WeightedMetrics | None = None

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics that are defined, by flat keys: `test/accuracy`; `test/class/NUM/recall` for a part of the whole."""
        values = with_parts(self.metrics, self.parts)
        return {f"{prefix}/{key}": value for key, value in values.items() if not math.isnan(value)}


def with_parts(metrics: Mapping[str, T], parts: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Metrics of the whole and of its parts under one kind of keys.

    >>> with_parts({"f1": 0.5}, {"NUM": {"f1": 0.7}})
    {'f1': 0.5, 'class/NUM/f1': 0.7}
    """
    of_parts = {f"class/{part}/{key}": value for part, scores in parts.items() for key, value in scores.items()}
    return {**metrics, **of_parts}


Evaluator = Callable[[np.ndarray, Examples, Sequence[str]], Report]
"""(scores (`Task.scores`), one entry an example or a token; the examples; the label names) -> the report."""

_OF_PART = re.compile(r"(^|/)(class|slice|interval)/")


def is_of_whole(metric: str) -> bool:
    """Whether a flat key is that of a metric of all rows, and not of a part of them, or a bound of an interval.

    >>> is_of_whole("test/accuracy"), is_of_whole("test/class/NUM/f1"), is_of_whole("test/interval/accuracy_low")
    (True, False, False)
    """
    return _OF_PART.search(metric) is None


_FALLING = ("loss", "error", "mae", "mse", "rmse", "perplexity", "ece", "brier")  # the last word of a metric's name
_RISING = (  # any of its words
    "accuracy", "precision", "recall", "f1", "match", "rank", "pearson", "spearman", "r2", "auc",
    "mcc", "kappa", "lrap",
)  # fmt: skip


def better_when(metric: str) -> Literal["max", "min"] | None:
    """Whether more or less of a metric is better, by the words of its name; None where they do not say.

    >>> better_when("test/f1_macro"), better_when("epoch/train_loss"), better_when("train/seconds")
    ('max', 'min', None)
    >>> better_when("test/roc_auc_macro"), better_when("test/log_loss"), better_when("test/kappa")
    ('max', 'min', 'max')
    >>> better_when("validation/best_f1"), better_when("validation/best_f1_threshold")
    ('max', None)
    """
    words = metric.rpartition("/")[2].split("_")
    if words[-1] == "threshold":
        return None
    if words[-1] in _FALLING:
        return "min"
    return "max" if any(word in _RISING for word in words) else None
