"""Calibration metrics (reliability bins, ECE, Brier score) and temperature scaling.

A probability is calibrated where of all answers given with it, that share is right (Guo et al. 2017, "On Calibration of
Modern Neural Networks", https://arxiv.org/abs/1706.04599). Where a row has one label, the probability of the predicted
one is judged, its confidence; where it has several, that of each label by itself, against whether the row has it.

    N rows   L labels   B bins
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # as in the paper's tables
_BOUNDS = np.linspace(0, 1, BINS + 1)
COLDEST, HOTTEST = 0.05, 20.0  # a minimum outside says that the rows cannot tell


class Reliability(NamedTuple):
    """Confidence against accuracy in B bins of equal width; a number on a bound belongs to the bin below it.

    Attributes:
      bounds: [B + 1] from 0 to 1.
      rows: [B] how many there are.
      confidence: [B] mean probability, NaN where there is no row.
      accuracy: [B] share that is right, NaN where there is no row.
    """

    bounds: np.ndarray
    rows: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (ECE): the mean distance of confidence and accuracy, bins weighted by rows."""
        filled = self.rows > 0
        gaps = np.abs(self.confidence - self.accuracy)[filled]
        return float((gaps * self.rows[filled]).sum() / self.rows.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """The reliability of a model's probabilities.

    Args:
      probabilities: [N, L], N > 0.
      labels: [N] true label indices, or [N, L] which labels each row has; then all N L probabilities count.
    """
    if labels.ndim == 1:
        return binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    return binned(probabilities.ravel(), labels.ravel())


def binned(confidences: np.ndarray, right: np.ndarray) -> Reliability:
    """The reliability of [N] probabilities, of which [N] came true."""
    bins = bin_of(confidences)
    rows = np.bincount(bins, minlength=BINS)

    def mean(of: np.ndarray) -> np.ndarray:
        sums = np.bincount(bins, weights=of.astype(np.float64), minlength=BINS)
        return np.divide(sums, rows, out=np.full(BINS, np.nan), where=rows > 0)

    return Reliability(_BOUNDS, rows, mean(confidences), mean(right))


def bin_of(confidences: np.ndarray) -> np.ndarray:
    """[N] the bin of each probability."""
    return np.searchsorted(_BOUNDS[1:-1], confidences)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """ECE; of several labels a row, the mean of those of the labels. Arguments as in `reliability`."""
    if labels.ndim == 1:
        return reliability(probabilities, labels).error
    return float(np.mean([binned(*column).error for column in zip(probabilities.T, labels.T, strict=True)]))


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """scikit-learn's `brier_score_loss`: the mean over rows of the squared distance of all probabilities from 1 for the
    right label and 0 for the others, in [0, 2]; of two classes half of it, in [0, 1]. Of several labels a row, the mean
    of those of the labels, each of two classes.

    Args:
      probabilities, labels: as in `reliability`.
    """
    if labels.ndim == 2:
        return float(np.square(probabilities.astype(np.float64) - labels).mean())
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(labels, probabilities, labels=np.arange(probabilities.shape[1])))


def squared_distances(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[N] what each row adds to the Brier score, which is their mean. Arguments as in `reliability`."""
    wanted = labels if labels.ndim == 2 else np.eye(probabilities.shape[1])[labels]
    squares = np.square(probabilities.astype(np.float64) - wanted)
    is_halved = labels.ndim == 2 or probabilities.shape[1] == 2
    of_rows: np.ndarray = squares.mean(axis=1) if is_halved else squares.sum(axis=1)
    return of_rows


def log_loss(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """The mean of -log p of the right labels, p being the softmax of logits / temperature; of several labels a row, of
    all N L decisions.

    Args:
      logits: [N, L].
      labels: as in `reliability`.
      temperature: above 0.
    """
    logits, labels = _of_one_label(logits.astype(np.float64), labels)
    shifted = (logits - logits.max(axis=1, keepdims=True)) / temperature
    with np.errstate(under="ignore"):
        losses = np.log(np.exp(shifted).sum(axis=1)) - np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return float(losses.mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """The temperature with the least log loss (Guo et al. 2017, section 4.2), as scikit-learn's temperature scaling
    finds it.

    Its log loss has one minimum. There is none at all where every row's right label has the highest logit, and the
    lower the temperature the better; or where the logits say less than nothing, and the higher.

    Args:
      logits: [N, L], of rows that the model was not trained on, N > 0.
      labels: as in `reliability`.

    Returns:
      A number in [`COLDEST`, `HOTTEST`] with four significant digits; None where the minimum is not in there, or logits
      are not finite.
    """
    from scipy.optimize import minimize_scalar

    if not np.isfinite(logits).all() or _is_all_right(logits, labels):
        return None
    found = minimize_scalar(
        lambda log_temperature: log_loss(logits, labels, float(np.exp(log_temperature))),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    temperature = float(f"{np.exp(found.x):.4g}")
    if log_loss(logits, labels, temperature) >= log_loss(logits, labels):
        return 1.0
    return temperature if COLDEST * 1.001 < temperature < HOTTEST / 1.001 else None


def calibrated(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logits over a temperature, in float64, where no two of them become equal; as they are where it is 1."""
    return logits if temperature == 1 else logits.astype(np.float64) / temperature


def _is_all_right(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Whether no other label of any row has a higher logit than the right one, and some have a lower one.

    It is asked by itself: at small temperatures such a loss rounds to 0, and a search would stop wherever it first did.
    """
    logits, labels = _of_one_label(logits, labels)
    ahead = np.take_along_axis(logits, labels[:, None], axis=1) - logits
    return bool((ahead >= 0).all() and (ahead > 0).any())


def _of_one_label(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of N rows with one label each; several labels a row are N L decisions between no and yes."""
    if labels.ndim == 1:
        return logits, labels.astype(np.int64)
    yes = logits.ravel()
    return np.stack([np.zeros_like(yes), yes], axis=1), labels.ravel().astype(np.int64)
