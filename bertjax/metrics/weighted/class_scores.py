"""Weighted metrics of one label a row, or of several; see `bertjax.metrics.classification_report`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bertjax.metrics.weighted.label_counts import LabelCounts, LabelScores
from bertjax.metrics.weighted.rankings import Ranking
from bertjax.metrics.weighted.row_weights import RowMeans, WeightedScores


@dataclass(frozen=True)
class ClassScores:
    """One label a row.

    Attributes:
      labels, predictions: [N] indices.
      names: of the labels, in index order.
      probabilities: [N, L]; None where there are only predictions.
      row_values: metric -> [N], for metrics that are means.
    """

    labels: np.ndarray
    predictions: np.ndarray
    names: Sequence[str]
    probabilities: np.ndarray | None
    row_values: Mapping[str, np.ndarray]

    @cached_property
    def _counts(self) -> LabelCounts:
        return LabelCounts.of(self.labels, self.predictions, len(self.names))

    @cached_property
    def _rankings(self) -> Sequence[Ranking | None]:
        assert self.probabilities is not None
        return [ranking_of(self.labels == i, column) for i, column in enumerate(self.probabilities.T)]

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The metrics of a block."""
        counts, total = self._counts(weights), weights.sum(axis=0)
        parts = counts.parts(self.names)
        means = RowMeans(self.row_values)(weights).metrics
        metrics = {
            "accuracy": counts.hits.sum(axis=0) / total,
            **counts.averaged("weighted", "_weighted"),
            **counts.averaged("macro", "_macro"),
            **_agreement(counts, total),
            **means,
        }
        if self.probabilities is not None:
            areas = areas_by_label(self._rankings, weights)
            metrics |= class_areas(areas, counts.true)
            for part, of_label in zip(parts.values(), zip(*areas.values(), strict=True), strict=True):
                part |= dict(zip(areas, of_label, strict=True))
        return WeightedScores(metrics, parts)


def _agreement(counts: LabelScores, total: np.ndarray) -> dict[str, np.ndarray]:
    hits, both = counts.hits.sum(axis=0), (counts.true * counts.predicted).sum(axis=0)
    spread = np.prod([total**2 - (side**2).sum(axis=0) for side in (counts.true, counts.predicted)], axis=0)
    occurs = counts.true > 0
    recalls = counts.by_label()["recall"]
    return {
        "balanced_accuracy": (recalls * occurs).sum(axis=0) / occurs.sum(axis=0),
        "mcc": np.where(spread > 0, (hits * total - both) / np.sqrt(spread), 0),
        "kappa": 1 - (total - hits) / (total - both / total),
    }


def ranking_of(is_positive: np.ndarray, scores: np.ndarray, row_of: np.ndarray | None = None) -> Ranking | None:
    """The order of rows, or of several entries a row; None where scores are not finite.

    Args:
      is_positive, scores: [M].
      row_of: [M]; None where each row is one entry.
    """
    if not np.isfinite(scores).all():
        return None
    row_of = np.arange(len(scores)) if row_of is None else row_of
    return Ranking.of(is_positive, scores, row_of, int(row_of[-1]) + 1)


def areas_by_label(rankings: Sequence[Ranking | None], weights: np.ndarray) -> dict[str, np.ndarray]:
    """ROC-AUC and average precision of each label, [L, r] each."""
    undefined = np.full((2, weights.shape[1]), np.nan)
    areas = [undefined if ranking is None else ranking.areas(weights) for ranking in rankings]
    roc, precision = (np.stack(of_labels) for of_labels in zip(*areas, strict=True))
    return {"roc_auc": roc, "pr_auc": precision}


def class_areas(areas: Mapping[str, np.ndarray], counts: np.ndarray) -> dict[str, np.ndarray]:
    """The areas of a report of single labels: of two classes those of the second, of more the averages over the classes
    that have one.

    Args:
      areas: `roc_auc` and `pr_auc` of each class, [L, ...]; NaN for none.
      counts: [L, ...] rows of each class.
    """
    if len(counts) == 2:
        return {key: values[1] for key, values in areas.items()}
    shares = {"macro": np.ones_like(counts), "weighted": counts}
    return {
        f"{key}_{average}": mean_of_defined(values, share)
        for key, values in areas.items()
        for average, share in shares.items()
    }


def mean_of_defined(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The weighted mean over the first axis of the values that are no NaN; NaN where there are none."""
    shares = np.where(np.isnan(values), 0, shares)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: np.ndarray = (np.nan_to_num(values) * shares).sum(axis=0) / shares.sum(axis=0)
    return mean


@dataclass(frozen=True)
class LabelSetScores:
    """Several labels a row.

    Attributes:
      labels, predictions: [N, L] booleans.
      names: of the labels, in index order.
      logits: [N, L]; None where there are only predictions.
      row_values: metric -> [N], for metrics that are means.
    """

    labels: np.ndarray
    predictions: np.ndarray
    names: Sequence[str]
    logits: np.ndarray | None
    row_values: Mapping[str, np.ndarray]

    @cached_property
    def _counts(self) -> LabelCounts:
        sides = (self.labels & self.predictions, self.labels, self.predictions)
        return LabelCounts(*(side.T.astype(np.float64) for side in sides))

    @cached_property
    def _rankings(self) -> tuple[Sequence[Ranking | None], Ranking | None]:
        """Of each label, and of all together."""
        assert self.logits is not None
        by_label = [ranking_of(*columns) for columns in zip(self.labels.T, self.logits.T, strict=True)]
        row_of = np.repeat(np.arange(len(self.labels)), len(self.names))
        return by_label, ranking_of(self.labels.ravel(), self.logits.ravel(), row_of)

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The metrics of a block."""
        counts = self._counts(weights)
        parts = counts.parts(self.names)
        means = dict(RowMeans(self.row_values)(weights).metrics)
        metrics = {
            "subset_accuracy": means.pop("subset_accuracy"),
            **counts.averaged("micro", "_micro"),
            # Unlike single labels, all of them are in the average.
            **{f"{key}_macro": values.mean(axis=0) for key, values in counts.by_label().items()},
            **means,
        }
        if self.logits is not None:
            by_label, together = self._rankings
            areas, whole = areas_by_label(by_label, weights), areas_by_label([together], weights)
            for key, values in areas.items():
                metrics |= {
                    f"{key}_micro": whole[key][0],
                    f"{key}_macro": mean_of_defined(values, np.ones_like(values)),
                }
                for part, of_label in zip(parts.values(), values, strict=True):
                    part[key] = of_label
        return WeightedScores(metrics, parts)
