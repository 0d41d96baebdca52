"""Classification metrics, by class and averaged, with scikit-learn's definitions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support


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
      confusion: [L, L] counts; rows are true labels, columns predictions.
    """

    accuracy: float
    by_class: dict[str, Scores]
    weighted: Scores
    macro: Scores
    confusion: np.ndarray

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/accuracy`, `test/f1_macro`, `test/class/NUM/recall`."""
        metrics = {f"{prefix}/accuracy": self.accuracy}
        for name, scores in (("weighted", self.weighted), ("macro", self.macro)):
            metrics |= {f"{prefix}/{key}_{name}": getattr(scores, key) for key in ("precision", "recall", "f1")}
        for label, scores in self.by_class.items():
            metrics |= {f"{prefix}/class/{label}/{key}": getattr(scores, key) for key in ("precision", "recall", "f1")}
        return metrics


def classification_report(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> ClassificationReport:
    """Compares predictions with labels.

    Args:
      labels: [N] true label indices.
      predictions: [N] predicted label indices.
      names: of the labels, in index order; averages are over those that occur among labels or predictions.
    """
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
        confusion=confusion_matrix(labels, predictions, labels=range(len(names))),
    )
