"""Metrics of an order, from one sort and cumulated weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Scores of what is positive and what is not, in falling order, cut before and after each group of equal scores
    that has something positive in it: nothing else moves the curves.

    Attributes:
      pieces: sparse [2 G + 1, N] the rows between the cuts.
      positives: sparse [G, N] the positive ones of each group.
    """

    pieces: Any
    positives: Any

    @classmethod
    def of(cls, is_positive: np.ndarray, scores: np.ndarray, row_of: np.ndarray, rows: int) -> "Ranking":
        """Sorts [M] entries.

        Args:
          is_positive: [M].
          scores: [M], finite.
          row_of: [M] the row of each.
          rows: N.
        """
        from scipy import sparse

        order = np.argsort(-scores, kind="stable")
        ranked, positive, row_of = scores[order], is_positive[order], row_of[order]
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        counts = np.add.reduceat(positive.astype(np.int64), starts)
        has_some = counts > 0
        ends = np.append(starts[1:], len(order))
        cuts = np.stack([starts[has_some], ends[has_some]], axis=1).ravel()
        pieces = (np.ones(len(order)), row_of, np.concatenate([[0], cuts, [len(order)]]))
        members = (np.ones(int(counts.sum())), row_of[positive], np.append(0, np.cumsum(counts[has_some])))
        return cls(
            sparse.csr_matrix(pieces, shape=(len(cuts) + 1, rows)),
            sparse.csr_matrix(members, shape=(len(cuts) // 2, rows)),
        )

    def areas(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ROC-AUC and average precision of each weighting, [r]; NaN without a positive, ROC-AUC also without another.

        Args:
          weights: [N, r].
        """
        passed = np.cumsum(self.pieces @ weights, axis=0)
        before, reached, total = passed[:-1:2], passed[1::2], passed[-1]
        positive = self.positives @ weights
        found = np.cumsum(positive, axis=0)
        num_positive = positive.sum(axis=0)
        num_negative = total - num_positive
        negative_before = before - (found - positive)
        tied = reached - before - positive
        outranked = (positive * (num_negative - negative_before - tied / 2)).sum(axis=0)
        precision = np.divide(found, reached, out=np.zeros_like(found), where=reached > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return outranked / (num_positive * num_negative), (positive * precision).sum(axis=0) / num_positive


def weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[N, r] the rank of each row among all, equal values sharing the mean of theirs, where a row counts as many times
    as its weight says.

    Args:
      values: [N].
      weights: [N, r].
    """
    from bertjax.metrics.weighted.label_counts import indicator

    distinct, group = np.unique(values, return_inverse=True)
    of_group = indicator(group, np.arange(len(values)), len(distinct), len(values)) @ weights
    ranks: np.ndarray = (np.cumsum(of_group, axis=0) - of_group + (of_group + 1) / 2)[group]
    return ranks
