"""Classification metrics, by class and averaged, with scikit-learn's definitions: of one label a row, or of several.

scikit-learn takes a second to import; it is imported in the functions that use it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.metrics.reports import Confusion, Report, ScoreTable


class Scores(NamedTuple):
    """Precision, recall and F1 of a class or an average; a class without any prediction has precision 0."""

    precision: float
    recall: float
    f1: float
    support: int

    def metrics(self, suffix: str = "") -> dict[str, float]:
        """The three by their keys, such as `f1_macro` with the suffix `_macro`."""
        return {f"precision{suffix}": self.precision, f"recall{suffix}": self.recall, f"f1{suffix}": self.f1}


def classification_report(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> Report:
    """Compares predictions with labels.

    Args:
      labels: [N] true label indices.
      predictions: [N] predicted label indices.
      names: of the labels, in index order; averages are over those that occur among labels or predictions.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix

    by_class, (weighted, macro) = scores_by_label(labels, predictions, names, ("weighted", "macro"))
    accuracy = float(accuracy_score(labels, predictions))
    return Report(
        summary=f"{len(labels)} rows, {len(names)} classes",
        headline=[("accuracy", accuracy), ("F1, weighted", weighted.f1), ("F1, macro", macro.f1)],
        metrics={"accuracy": accuracy, **weighted.metrics("_weighted"), **macro.metrics("_macro")},
        parts={name: scores.metrics() for name, scores in by_class.items()},
        table=scores_table("class", by_class, {"weighted": weighted, "macro": macro}),
        confusion=Confusion(tuple(names), confusion_matrix(labels, predictions, labels=range(len(names)))),
    )


def multi_label_report(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> Report:
    """Compares several labels a row with those predicted.

    Args:
      labels: [N, L] which labels each row has.
      predictions: [N, L] which it is predicted to have.
      names: of the labels, in index order.
    """
    labels, predictions = labels.astype(bool), predictions.astype(bool)
    by_label, (micro, macro) = scores_by_label(labels, predictions, names, ("micro", "macro"))
    subset_accuracy = float((labels == predictions).all(axis=1).mean())
    return Report(
        summary=f"{len(labels)} rows, {len(names)} labels",
        headline=[
            ("F1, micro", micro.f1),
            ("F1, macro", macro.f1),
            ("rows with all labels right", subset_accuracy),
        ],
        metrics={"subset_accuracy": subset_accuracy, **micro.metrics("_micro"), **macro.metrics("_macro")},
        parts={name: scores.metrics() for name, scores in by_label.items()},
        table=scores_table("label", by_label, {"micro": micro, "macro": macro}),
    )


def scores_by_label(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], averages: Sequence[str]
) -> tuple[dict[str, Scores], list[Scores]]:
    """The scores of each label, and scikit-learn's averages of those names; indices that do not occur are in none.

    Args:
      labels: [N] indices, or [N, L] booleans.
      predictions: of the same shape; an index beyond the names is an answer of no class, which is in no average.
      names: of the labels, in index order.
      averages: such as "macro".
    """
    from sklearn.metrics import precision_recall_fscore_support

    indices = range(len(names))
    if labels.ndim == 1:
        present: Sequence[int] | np.ndarray = np.intersect1d(np.union1d(labels, predictions), indices)
    else:
        present = indices
        # Beside a column that is not counted: of a column alone, scikit-learn judges the rows without the label too.
        labels, predictions = (np.pad(columns, ((0, 0), (0, 1))) for columns in (labels, predictions))

    def measured(restricted_to: Any, average: str | None = None) -> Any:
        return precision_recall_fscore_support(
            labels, predictions, labels=restricted_to, average=average, zero_division=0
        )

    by_label = {
        name: Scores(float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(names, *measured(indices), strict=True)
    }
    total = sum(scores.support for scores in by_label.values())
    means = [measured(present, kind)[:3] for kind in averages]
    return by_label, [Scores(float(precision), float(recall), float(f1), total) for precision, recall, f1 in means]


def scores_table(
    part: str, parts: Mapping[str, Scores], averages: Mapping[str, Scores], counted: str = "rows"
) -> ScoreTable:
    """The table of scores by part and averaged; the support of each is a number of what is counted."""
    columns = (part, "precision", "recall", "F1", counted)
    return ScoreTable(f"By {part}", columns, list(parts.items()), list(averages.items()))
