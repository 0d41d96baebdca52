"""Fallback: replaces predictions below a confidence threshold by a fallback label, and its effect on the metrics.

A row whose highest probability is below the threshold gets the fallback instead of the likeliest class. Where the
fallback is a class (`other`), that is a prediction of this class. Where it is none (`uncertain`), it is a wrong answer
that belongs to no class: the row lowers the recall of its own class, and no average counts the fallback as a class.
Averages are over the classes that occur among labels or answers, as everywhere in bertjax:
`sklearn.metrics.f1_score(labels, answers, labels=those, average=..., zero_division=0)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from bertjax.metrics.classification_report import scores_by_label
from bertjax.metrics.reports import HeadlineScore, Report
from bertjax.metrics.weighted.label_counts import LabelCounts
from bertjax.metrics.weighted.row_weights import InBlocks, Together, WeightedScores

_EQUAL = 1e-12  # two sums of the same fractions, in whatever order


class Threshold(NamedTuple):
    """A fitted threshold.

    Attributes:
      value: the least probability of a label that stays; None where no threshold is better than none.
      f1_macro: with it.
      plain_f1_macro: without one.
      kept: the share of rows that keep their label.
    """

    value: float | None
    f1_macro: float
    plain_f1_macro: float
    kept: float

    def advice(self, rows: str) -> str:
        """What the threshold does to its rows, such as "these rows", and the flag that uses it, in words."""
        if self.value is None:
            return f"no threshold has a higher macro F1 than none ({self.plain_f1_macro:.4f}) on {rows}"
        return (
            f"a threshold of {self.value:g} raises macro F1 from {self.plain_f1_macro:.4f} to {self.f1_macro:.4f} on "
            f"{rows} and keeps {self.kept:.1%} of the labels; use it: --threshold {self.value!r} of bertjax evaluate "
            f"(on other rows), predict and serve"
        )


class Sweep(NamedTuple):
    """What becomes of rows when the k surest of them keep their label, for every k.

    Attributes:
      confidences: [N] highest probability of each row, descending.
      right: [N + 1] how many of the first k labels are right.
      f1_macro: [N + 1] of all rows, the others having the fallback.
    """

    confidences: np.ndarray
    right: np.ndarray
    f1_macro: np.ndarray

    def kept(self, thresholds: np.ndarray) -> np.ndarray:
        """[R] how many rows keep their label under each of [R] thresholds."""
        return np.searchsorted(-self.confidences, -thresholds, side="right")


def sweep_thresholds(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], fallback: str) -> Sweep:
    """Every way to split the rows between two probabilities, in O(N log N + N L); arguments as in `fit_threshold`."""
    confidences = probabilities.max(axis=1)
    order = np.argsort(-confidences, kind="stable")
    predicted, true = probabilities.argmax(axis=1)[order], labels[order]
    kept = np.arange(len(true) + 1)
    total, present = np.zeros(len(kept)), np.zeros(len(kept), int)
    for index, name in enumerate(names):
        is_true, is_predicted = true == index, predicted == index
        answers, hits = _counts(is_predicted), _counts(is_predicted & is_true)
        support = int(is_true.sum())
        if name == fallback:
            answers, hits = answers + len(true) - kept, hits + support - _counts(is_true)
        occurrences = answers + support
        total += 2 * hits / np.maximum(occurrences, 1)
        present += occurrences > 0
    return Sweep(confidences[order], _counts(predicted == true), total / present)


def _counts(of: np.ndarray) -> np.ndarray:
    """[N + 1] how many of the first k are true."""
    return np.concatenate([[0], np.cumsum(of)])


def fit_threshold(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], fallback: str) -> Threshold:
    """The threshold with the highest macro F1; of several, the lowest.

    The threshold lies well between two probabilities, so that no rounding of a model's output moves a row to the other
    side, and has few digits.

    Args:
      probabilities: [N, L], of rows that the model was not trained on, N > 0.
      labels: [N] true label indices.
      names: of the classes, in index order.
      fallback: the label below the threshold.
    """
    sweep = sweep_thresholds(probabilities, labels, names, fallback)
    confidences, f1_macro, count = sweep.confidences, sweep.f1_macro[1:], len(labels)
    is_split = np.append(confidences[:-1] > confidences[1:], True)
    best = np.flatnonzero(is_split & (f1_macro >= f1_macro[is_split].max() - _EQUAL))[-1]
    is_helpful = best < count - 1
    return Threshold(
        value=round_between(float(confidences[best + 1]), float(confidences[best])) if is_helpful else None,
        f1_macro=float(f1_macro[best]),
        plain_f1_macro=float(f1_macro[-1]),
        kept=float((best + 1) / count),
    )


def with_fallback(probabilities: np.ndarray, threshold: float, names: Sequence[str], fallback: str) -> np.ndarray:
    """[N] indices of the labels that a threshold leaves; `len(names)` stands for a fallback that is no class.

    Args:
      probabilities: [N, L].
      threshold: the least probability of a label that stays.
      names: of the classes, in index order.
      fallback: the label below the threshold.
    """
    index = names.index(fallback) if fallback in names else len(names)
    return np.where(probabilities.max(axis=1) < threshold, index, probabilities.argmax(axis=1))


def report_fallback(
    report: Report, probabilities: np.ndarray, labels: np.ndarray, threshold: float, names: Sequence[str], fallback: str
) -> Report:
    """A report of single labels with the metrics under a threshold beside the plain ones, under `fallback/`.

    Args:
      report: of the model's own labels.
      probabilities: [N, L], as in the report.
      labels: [N] true label indices.
      threshold: the least probability of a label that stays.
      names: of the classes, in index order.
      fallback: the label below the threshold.
    """
    answers = with_fallback(probabilities, threshold, names, fallback)
    _, (weighted, macro) = scores_by_label(labels, answers, names, ("weighted", "macro"))
    is_kept = probabilities.max(axis=1) >= threshold
    kept = float(is_kept.mean())
    metrics = {
        "threshold": threshold,
        "kept_share": kept,
        "accuracy": float((answers == labels).mean()),
        **weighted.metrics("_weighted"),
        **macro.metrics("_macro"),
    }
    weighted_metrics = InBlocks(FallbackScores(labels, answers, is_kept, len(names)))
    assert report.table is not None, "single labels have a table"
    assert report.weighted is not None, "and metrics of weighted rows"
    averages = [("weighted, with fallback", weighted), ("macro, with fallback", macro)]
    return report._replace(
        summary=f"{report.summary}; {kept:.1%} keep their label, the others, below {threshold:g}, are {fallback!r}",
        headline=[
            *report.headline,
            HeadlineScore("F1, weighted, with fallback", weighted.f1, "fallback/f1_weighted"),
            HeadlineScore("F1, macro, with fallback", macro.f1, "fallback/f1_macro"),
            HeadlineScore("labels kept", kept, "fallback/kept_share"),
        ],
        metrics={**report.metrics, **{f"fallback/{key}": value for key, value in metrics.items()}},
        table=report.table._replace(averages=[*report.table.averages, *averages]),
        weighted=Together({"": report.weighted, "fallback/": weighted_metrics}),
    )


@dataclass(frozen=True)
class FallbackScores:
    """The metrics under a threshold, of weighted rows.

    Attributes:
      labels: [N] true label indices.
      answers: [N] as `with_fallback` gives them.
      is_kept: [N] whether a row keeps its label.
      num_labels: L.
    """

    labels: np.ndarray
    answers: np.ndarray
    is_kept: np.ndarray
    num_labels: int

    @cached_property
    def _counts(self) -> LabelCounts:
        return LabelCounts.of(self.labels, self.answers, self.num_labels)

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The metrics of a block."""
        counts, total = self._counts(weights), weights.sum(axis=0)
        return WeightedScores({
            "kept_share": self.is_kept.astype(np.float64) @ weights / total,
            "accuracy": counts.hits.sum(axis=0) / total,
            **counts.averaged("weighted", "_weighted"),
            **counts.averaged("macro", "_macro"),
        })  # fmt: skip


def round_between(low: float, high: float) -> float:
    """The number with the fewest digits in the middle half between two others.

    >>> round_between(0.51, 0.58), round_between(0.8, 0.97), round_between(0.5, 0.50001)
    (0.54, 0.9, 0.500005)
    """
    middle, quarter = (low + high) / 2, (high - low) / 4
    rounded = (round(middle, digits) for digits in range(1, 18))
    return next((number for number in rounded if abs(number - middle) <= quarter), middle)
