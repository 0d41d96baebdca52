"""Precision, recall and F1 from weighted counts: by label and averaged, with scikit-learn's definitions."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.metrics.weighted.row_weights import ratio

Average = Literal["micro", "macro", "weighted"]


class LabelScores(NamedTuple):
    """How often labels occur, [L, r] each.

    Attributes:
      hits: predicted rightly.
      true: among the labels.
      predicted: among the predictions.
    """

    hits: np.ndarray
    true: np.ndarray
    predicted: np.ndarray

    def by_label(self) -> dict[str, np.ndarray]:
        """Precision, recall and F1 of each label, [L, r] each; 0 where there is nothing to divide by."""
        return {
            "precision": ratio(self.hits, self.predicted),
            "recall": ratio(self.hits, self.true),
            "f1": ratio(2 * self.hits, self.true + self.predicted),
        }

    def averaged(self, average: Average, suffix: str = "") -> dict[str, np.ndarray]:
        """An average of each of them over the labels that occur, [r]; the keys end in the suffix."""
        if average == "micro":
            whole = LabelScores(*(counts.sum(axis=0) for counts in self))
            return {f"{key}{suffix}": value for key, value in whole.by_label().items()}
        shares = self.true if average == "weighted" else (self.true + self.predicted > 0).astype(float)
        return {
            f"{key}{suffix}": ratio((values * shares).sum(axis=0), shares.sum(axis=0))
            for key, values in self.by_label().items()
        }

    def parts(self, names: Any) -> dict[str, dict[str, np.ndarray]]:
        """The scores of each label by its name."""
        by_label = self.by_label()
        return {name: {key: values[i] for key, values in by_label.items()} for i, name in enumerate(names)}


@dataclass(frozen=True)
class LabelCounts:
    """How often each row has each label, sparse [L, N] each; see `LabelScores`."""

    hits: Any
    true: Any
    predicted: Any

    @classmethod
    def of(
        cls, labels: np.ndarray, predictions: np.ndarray, count: int, row_of: np.ndarray | None = None, rows: int = 0
    ) -> "LabelCounts":
        """Of single labels.

        Args:
          labels: [M] indices.
          predictions: [M] indices; one that is not from 0 to below `count` is no label's.
          count: L.
          row_of: [M] the row of each; None where each row has one.
          rows: N, with `row_of`.
        """
        row_of, rows = (np.arange(len(labels)), len(labels)) if row_of is None else (row_of, rows)
        is_hit = labels == predictions
        sides = (labels[is_hit], row_of[is_hit]), (labels, row_of), (predictions, row_of)
        return cls(*(indicator(indices, rows_of, count, rows) for indices, rows_of in sides))

    def __call__(self, weights: np.ndarray) -> LabelScores:
        """The counts of a block."""
        return LabelScores(self.hits @ weights, self.true @ weights, self.predicted @ weights)


def indicator(labels: np.ndarray, row_of: np.ndarray, count: int, rows: int) -> Any:
    """Sparse [count, rows]: how often each row has each label; others than 0 to below `count` are left out."""
    from scipy import sparse

    known = (labels >= 0) & (labels < count)
    ones = np.ones(int(known.sum()))
    return sparse.csr_matrix((ones, (labels[known], row_of[known])), shape=(count, rows))
