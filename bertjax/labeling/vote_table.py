"""Statistics of labelling functions: coverage, overlaps, conflicts, and accuracy where labels are known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.labeling.apply_functions import ABSTAINS, Votes


class FunctionStatistics(NamedTuple):
    """One labelling function. Shares are of all rows.

    Attributes:
      name: of the function.
      labels: classes that it votes for.
      coverage: share of the rows where it votes.
      overlap: share where it votes and another function does.
      conflict: share where it votes and another function votes for another class.
      faults: rows where it raised, or returned no label.
      labelled: rows of a labelled set where it votes; None without such a set.
      accuracy: share of these where it is right; None where there are none.
    """

    name: str
    labels: tuple[str, ...]
    coverage: float
    overlap: float
    conflict: float
    faults: int
    labelled: int | None = None
    accuracy: float | None = None


def function_statistics(
    votes: Votes, labelled: Votes | None = None, truth: Sequence[str] = ()
) -> list[FunctionStatistics]:
    """The statistics of each function.

    Args:
      votes: of the functions on the table to label.
      labelled: of the same functions on a labelled set.
      truth: the label of each row of that set, which may be no class of the votes.
    """
    hard = votes.hard
    votes_here = hard != ABSTAINS  # [N, F]
    per_row = votes_here.sum(axis=1)
    agreeing = sum((hard == k).sum(axis=1)[:, None] * (hard == k) for k in range(len(votes.labels)))  # [N, F]
    columns = zip(
        votes.functions,
        hard.T,
        votes_here.mean(axis=0).tolist(),
        (votes_here & (per_row[:, None] > 1)).mean(axis=0).tolist(),
        (votes_here & (agreeing < per_row[:, None])).mean(axis=0).tolist(),
        votes.faults,
        strict=True,
    )
    rows = [
        FunctionStatistics(name, tuple(votes.labels[k] for k in np.unique(of_function) if k != ABSTAINS), *shares)
        for name, of_function, *shares in columns
    ]
    if labelled is None:
        return rows
    index = {label: k for k, label in enumerate(votes.labels)}
    true = np.array([index.get(label, ABSTAINS - 1) for label in truth])
    voting = labelled.hard != ABSTAINS
    right = voting & (labelled.hard == true[:, None])
    return [
        row._replace(labelled=count, accuracy=hits / count if count else None)
        for row, count, hits in zip(rows, voting.sum(axis=0).tolist(), right.sum(axis=0).tolist(), strict=True)
    ]
