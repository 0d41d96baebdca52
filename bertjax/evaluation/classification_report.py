"""Classification metrics, by class and averaged, with scikit-learn's definitions: of one label a row, or of several.

scikit-learn takes a second to import; it is imported in the functions that use it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.evaluation.reports import Confusion, ScoreTable


class Scores(NamedTuple):
    """Precision, recall and F1 of a class or an average; a class without any prediction has precision 0."""

    precision: float
    recall: float
    f1: float
    support: int


class ClassificationReport(NamedTuple):
    """How predictions compare with labels.

    Attributes:
      accuracy: share of right predictions.
      by_class: label name -> its scores.
      weighted: averages over classes, weighted by support.
      macro: averages over classes.
      confusion: of the labels.
    """

    accuracy: float
    by_class: dict[str, Scores]
    weighted: Scores
    macro: Scores
    confusion: Confusion

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/accuracy`, `test/f1_macro`, `test/class/NUM/recall`."""
        averages = {"weighted": self.weighted, "macro": self.macro}
        return {f"{prefix}/accuracy": self.accuracy} | flat_scores(prefix, averages, self.by_class)

    @property
    def summary(self) -> str:
        """The rows behind the report, in words."""
        return f"{self.weighted.support} rows, {len(self.by_class)} classes"

    @property
    def headline(self) -> list[tuple[str, float]]:
        """The main metrics, the most important first."""
        return [("accuracy", self.accuracy), ("F1, weighted", self.weighted.f1), ("F1, macro", self.macro.f1)]

    @property
    def table(self) -> ScoreTable:
        """Scores by class."""
        return scores_table("By class", "class", self.by_class, {"weighted": self.weighted, "macro": self.macro})


class MultiLabelReport(NamedTuple):
    """How several labels a row compare with those predicted.

    Attributes:
      subset_accuracy: share of rows whose labels are all right.
      by_label: label name -> its scores.
      micro: over all labels of all rows.
      macro: averages over labels.
      rows: that were evaluated.
    """

    subset_accuracy: float
    by_label: dict[str, Scores]
    micro: Scores
    macro: Scores
    rows: int
    confusion: None = None

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/f1_micro`, `test/subset_accuracy`, `test/class/NUM/recall`."""
        averages = {"micro": self.micro, "macro": self.macro}
        return {f"{prefix}/subset_accuracy": self.subset_accuracy} | flat_scores(prefix, averages, self.by_label)

    @property
    def summary(self) -> str:
        """The rows behind the report, in words."""
        return f"{self.rows} rows, {len(self.by_label)} labels"

    @property
    def headline(self) -> list[tuple[str, float]]:
        """The main metrics, the most important first."""
        return [
            ("F1, micro", self.micro.f1),
            ("F1, macro", self.macro.f1),
            ("rows with all labels right", self.subset_accuracy),
        ]

    @property
    def table(self) -> ScoreTable:
        """Scores by label."""
        return scores_table("By label", "label", self.by_label, {"micro": self.micro, "macro": self.macro})


def classification_report(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> ClassificationReport:
    """Compares predictions with labels.

    Args:
      labels: [N] true label indices.
      predictions: [N] predicted label indices.
      names: of the labels, in index order; averages are over those that occur among labels or predictions.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    present = np.union1d(labels, predictions)
    per_class = precision_recall_fscore_support(labels, predictions, labels=range(len(names)), zero_division=0)

    def average(kind: str) -> Scores:
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels, predictions, labels=present, average=kind, zero_division=0
        )
        return Scores(float(precision), float(recall), float(f1), len(labels))

    return ClassificationReport(
        accuracy=float(accuracy_score(labels, predictions)),
        by_class={
            name: Scores(float(p), float(r), float(f), int(n))
            for name, p, r, f, n in zip(names, *per_class, strict=True)
        },
        weighted=average("weighted"),
        macro=average("macro"),
        confusion=Confusion(tuple(names), confusion_matrix(labels, predictions, labels=range(len(names)))),
    )


def multi_label_report(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> MultiLabelReport:
    """Compares several labels a row with those predicted.

    Args:
      labels: [N, L] which labels each row has.
      predictions: [N, L] which it is predicted to have.
      names: of the labels, in index order.
    """
    from sklearn.metrics import precision_recall_fscore_support

    labels, predictions = labels.astype(bool), predictions.astype(bool)
    per_label = precision_recall_fscore_support(labels, predictions, average=None, zero_division=0)

    def average(kind: str) -> Scores:
        precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average=kind, zero_division=0)
        return Scores(float(precision), float(recall), float(f1), int(labels.sum()))

    return MultiLabelReport(
        subset_accuracy=float((labels == predictions).all(axis=1).mean()),
        by_label={
            name: Scores(float(p), float(r), float(f), int(n))
            for name, p, r, f, n in zip(names, *per_label, strict=True)
        },
        micro=average("micro"),
        macro=average("macro"),
        rows=len(labels),
    )


def flat_scores(prefix: str, averages: Mapping[str, Scores], parts: Mapping[str, Scores]) -> dict[str, float]:
    """Scores under flat keys: `test/f1_macro` of an average, `test/class/NUM/recall` of a part."""
    numbers = ("precision", "recall", "f1")
    return {
        f"{prefix}/{number}_{name}": getattr(scores, number) for name, scores in averages.items() for number in numbers
    } | {
        f"{prefix}/class/{name}/{number}": getattr(scores, number)
        for name, scores in parts.items()
        for number in numbers
    }


def scores_table(
    title: str, part: str, parts: Mapping[str, Scores], averages: Mapping[str, Scores], counted: str = "rows"
) -> ScoreTable:
    """The table of scores by part and averaged; the support of each is a number of what is counted."""
    columns = (part, "precision", "recall", "F1", counted)
    return ScoreTable(title, columns, list(parts.items()), list(averages.items()))
