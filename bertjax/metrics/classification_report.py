"""Classification metrics, by class and averaged, with scikit-learn's definitions: of one label a row, or of several.

Scores such as `roc_auc` are NaN where they are undefined, and the averages of a class's are over the classes that have
one: ROC-AUC needs rows of the class and of others, average precision rows of the class.

scikit-learn takes a second to import; it is imported in the functions that use it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.metrics.reports import Confusion, HeadlineScore, Report, ScoreTable
from bertjax.metrics.weighted.class_scores import ClassScores, LabelSetScores, class_areas, mean_of_defined
from bertjax.metrics.weighted.row_weights import InBlocks

_PLACES = (2, 3)  # of the top-k accuracies, where there are more classes


class Scores(NamedTuple):
    """Precision, recall and F1 of a class or an average; a class without any prediction has precision 0."""

    precision: float
    recall: float
    f1: float
    support: int

    def metrics(self, suffix: str = "") -> dict[str, float]:
        """The three by their keys, such as `f1_macro` with the suffix `_macro`."""
        return {f"precision{suffix}": self.precision, f"recall{suffix}": self.recall, f"f1{suffix}": self.f1}


def classification_report(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], logits: np.ndarray | None = None
) -> Report:
    """Compares predictions with labels.

    Args:
      labels: [N] true label indices.
      predictions: [N] predicted label indices.
      names: of the labels, in index order; averages are over those that occur among labels or predictions.
      logits: [N, L], for the metrics of probabilities and of the order of rows.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix

    by_class, (weighted, macro) = scores_by_label(labels, predictions, names, ("weighted", "macro"))
    accuracy = float(accuracy_score(labels, predictions))
    parts = {name: scores.metrics() for name, scores in by_class.items()}
    metrics = {"accuracy": accuracy, **weighted.metrics("_weighted"), **macro.metrics("_macro")}
    metrics |= _agreement(labels, predictions, by_class)
    probabilities, row_values = None, {}
    if logits is not None and len(names) > 1:
        probabilities = _probabilities(logits)
        is_class = labels[:, None] == np.arange(len(names))
        areas = _areas(is_class, probabilities)
        metrics |= _sureness(labels, logits, probabilities)
        metrics |= {key: float(area) for key, area in class_areas(areas, is_class.sum(axis=0)).items()}
        parts = _with_areas(parts, areas)
        row_values = _sureness_by_row(labels, logits, probabilities)
    return Report(
        summary=f"{len(labels)} rows, {len(names)} classes",
        headline=[
            HeadlineScore("accuracy", accuracy, "accuracy"),
            HeadlineScore("F1, weighted", weighted.f1, "f1_weighted"),
            HeadlineScore("F1, macro", macro.f1, "f1_macro"),
        ],
        metrics=metrics,
        parts=parts,
        table=scores_table("class", by_class, {"weighted": weighted, "macro": macro}),
        confusion=Confusion(tuple(names), confusion_matrix(labels, predictions, labels=range(len(names)))),
        weighted=InBlocks(ClassScores(labels, predictions, names, probabilities, row_values)),
    )


def _agreement(labels: np.ndarray, predictions: np.ndarray, by_class: Mapping[str, Scores]) -> dict[str, float]:
    """Metrics that are corrected for how frequent each class is."""
    from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

    recalls = [scores.recall for scores in by_class.values() if scores.support]
    is_constant = len(np.union1d(labels, predictions)) < 2  # two constants that agree could not do otherwise
    return {
        "balanced_accuracy": float(np.mean(recalls)) if recalls else math.nan,
        "mcc": 0.0 if is_constant else float(matthews_corrcoef(labels, predictions)),
        "kappa": math.nan if is_constant else float(cohen_kappa_score(labels, predictions)),
    }


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """[N, L] in double precision, where few probabilities are equal that logits tell apart."""
    from scipy.special import softmax

    with np.errstate(under="ignore", invalid="ignore"):
        probabilities: np.ndarray = softmax(logits.astype(np.float64), axis=1)
    return probabilities


def _sureness(labels: np.ndarray, logits: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """How probable the right class is, and how often it is among the likeliest; NaN for logits that are no numbers."""
    from sklearn.metrics import log_loss, top_k_accuracy_score

    indices, ks = np.arange(logits.shape[1]), _top_ks(logits)
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(["log_loss", *ks], math.nan)
    ranked = {key: top_k_accuracy_score(labels, logits, k=k, labels=indices) for key, k in ks.items()}
    return {"log_loss": float(log_loss(labels, probabilities, labels=indices))} | {
        key: float(share) for key, share in ranked.items()
    }


def _sureness_by_row(labels: np.ndarray, logits: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of each row, [N] each, of which `_sureness` gives the means."""
    ks = _top_ks(logits)
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(["log_loss", *ks], np.full(len(labels), math.nan))
    least = np.finfo(np.float64).eps  # as scikit-learn clips
    of_right, rows = labels[:, None], probabilities.clip(least, 1 - least)
    right = np.take_along_axis(logits, of_right, axis=1)
    # Of equal scores scikit-learn ranks that of the last class first.
    before = (logits > right) | ((logits == right) & (np.arange(logits.shape[1]) > of_right))
    places = before.sum(axis=1)
    loss = -np.log(np.take_along_axis(rows, of_right, axis=1)[:, 0])
    return {"log_loss": loss, **{key: (places < k).astype(np.float64) for key, k in ks.items()}}


def _top_ks(logits: np.ndarray) -> dict[str, int]:
    return {f"top_{k}_accuracy": k for k in _PLACES if k < logits.shape[1]}


def _areas(labels: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """ROC-AUC and average precision of each label against all others, [L] each; NaN where undefined.

    Args:
      labels: [N, L] booleans.
      scores: [N, L], the higher the likelier.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    counts, areas = labels.sum(axis=0), np.full((2, labels.shape[1]), math.nan)
    if np.isfinite(scores).all():
        for i in np.flatnonzero(counts):
            areas[1, i] = average_precision_score(labels[:, i], scores[:, i])
            if counts[i] < len(labels):
                areas[0, i] = roc_auc_score(labels[:, i], scores[:, i])
    return {"roc_auc": areas[0], "pr_auc": areas[1]}


def _with_areas(
    parts: Mapping[str, Mapping[str, float]], areas: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    by_part = zip(parts.items(), *areas.values(), strict=True)
    return {name: {**scores, **dict(zip(areas, map(float, own), strict=True))} for (name, scores), *own in by_part}


def multi_label_report(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], logits: np.ndarray | None = None
) -> Report:
    """Compares several labels a row with those predicted.

    Args:
      labels: [N, L] which labels each row has.
      predictions: [N, L] which it is predicted to have.
      names: of the labels, in index order.
      logits: [N, L], for the metrics of the order of rows and labels.
    """
    labels, predictions = labels.astype(bool), predictions.astype(bool)
    by_label, (micro, macro) = scores_by_label(labels, predictions, names, ("micro", "macro"))
    row_values = {
        "subset_accuracy": (labels == predictions).all(axis=1).astype(np.float64),
        "hamming_loss": (labels != predictions).mean(axis=1),
    }
    parts = {name: scores.metrics() for name, scores in by_label.items()}
    metrics: dict[str, float] = {}
    if logits is not None:
        areas = _areas(labels, logits)
        whole = _areas(labels.reshape(-1, 1), logits.reshape(-1, 1))
        row_values["lrap"] = _label_ranking_by_row(labels, logits)
        for key, of_labels in areas.items():
            metrics[f"{key}_micro"] = float(whole[key][0])
            metrics[f"{key}_macro"] = float(mean_of_defined(of_labels, np.ones_like(of_labels)))
        parts = _with_areas(parts, areas)
    means = {key: float(values.mean()) for key, values in row_values.items()}
    subset_accuracy = means.pop("subset_accuracy")
    return Report(
        summary=f"{len(labels)} rows, {len(names)} labels",
        headline=[
            HeadlineScore("F1, micro", micro.f1, "f1_micro"),
            HeadlineScore("F1, macro", macro.f1, "f1_macro"),
            HeadlineScore("rows with all labels right", subset_accuracy, "subset_accuracy"),
        ],
        metrics={
            "subset_accuracy": subset_accuracy, **micro.metrics("_micro"), **macro.metrics("_macro"), **means, **metrics
        },
        parts=parts,
        table=scores_table("label", by_label, {"micro": micro, "macro": macro}),
        weighted=InBlocks(LabelSetScores(labels, predictions, names, logits, row_values)),
    )  # fmt: skip


def _label_ranking_by_row(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """[N] label ranking average precision: of the labels that a row has, the mean share of its labels among those that
    rank as high; 1 for a row that has none or all. scikit-learn's walks over the rows in Python."""
    from scipy.stats import rankdata

    if not np.isfinite(logits).all():
        return np.full(len(labels), math.nan)
    places = rankdata(-logits, "max", axis=1)
    among_own = rankdata(np.where(labels, -logits, np.inf), "max", axis=1)
    counts = labels.sum(axis=1)
    total = np.where(labels, among_own / places, 0).sum(axis=1)
    mean: np.ndarray = np.where(counts == 0, 1, total / np.maximum(counts, 1))
    return mean


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
