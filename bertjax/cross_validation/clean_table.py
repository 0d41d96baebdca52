"""A training table without the rows whose labels are doubtful."""

from pathlib import Path
from typing import Any

import numpy as np

from bertjax.cross_validation.training_issues import TrainingIssues
from bertjax.eda.write_table import write_cleaned
from bertjax.evaluation.label_issues.doubtful_rows import doubtful_labels
from bertjax.evaluation.label_issues.find_issues import LabelIssues


def suspects(issues: LabelIssues, share: float | None) -> np.ndarray:
    """[k] the places of the rows to leave out: those with a label that confident learning takes for wrong, or the most
    doubtful share of all rows that were judged."""
    if share is None:
        return issues.rows_of(issues.doubts.issues())
    ranked = issues.rows_of(issues.doubts.ranking())
    return ranked[: round(share * len(ranked))]


def write_without_suspects(path: Path, found: TrainingIssues, share: float | None) -> int:
    """Writes the table without its suspects, and beside it what was left out and why; returns how many rows were.

    Args:
      path: its suffix says the format.
      found: the table and its label issues.
      share: of the rows to leave out; None: what confident learning takes for wrong.

    Raises:
      DataError: a format that cannot hold these cells.
      DiskError: the operating system refuses.
    """
    rows = suspects(found.issues, share)
    kept = np.setdiff1d(np.arange(len(found.frame)), rows)
    write_cleaned(path, found.table, found.frame, kept, _records(found.issues, rows))
    return len(rows)


def _records(issues: LabelIssues, rows: np.ndarray) -> list[dict[str, Any]]:
    """Each row with its most doubtful label, in the order of the table."""
    ranking = issues.doubts.ranking()
    of_ranking, first = np.unique(issues.items.rows[ranking], return_index=True)
    chosen = ranking[first[np.isin(of_ranking, rows)]]
    return [
        {"row": doubt.row, "reason": "label_issue", "explanation": doubt.why, **doubt.record()}
        for doubt in doubtful_labels(issues.items, issues.doubts, chosen, issues.texts)
    ]
