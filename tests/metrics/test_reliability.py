"""Reliability, ECE, Brier score and temperature are scikit-learn's, and those of the definitions written out."""

import math

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from bertjax.metrics.reliability import (
    BINS,
    binned,
    brier_score,
    calibrated,
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)
from bertjax.metrics.weighted.calibration_scores import weighted_calibration
from bertjax.tasks.postprocess import logistic, softmax


def rows(seed: int, count: int, num_classes: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sharp by a factor, and labels drawn from the softmax without it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, num_classes)) * 2
    labels = np.array([rng.choice(num_classes, p=p) for p in softmax(logits)])
    return (logits * sharpness).astype(np.float32), labels


def label_sets(seed: int, count: int, num_labels: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, num_labels)) * 2
    return (logits * sharpness).astype(np.float32), (rng.random(logits.shape) < logistic(logits)).astype(np.int32)


def plain_error(confidences, right) -> float:
    """ECE as the paper has it: bin m holds ((m - 1) / M, m / M]."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for confidence, is_right in zip(confidences.tolist(), right.tolist(), strict=True):
        bins.setdefault(max(math.ceil(confidence * BINS), 1), []).append((confidence, float(is_right)))
    gaps = [abs(sum(c - r for c, r in pairs)) for pairs in bins.values()]
    return sum(gaps) / len(confidences)


@pytest.mark.parametrize("count", [1, 2, 30, 1000])
@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_one_label_a_row(count, num_classes):
    logits, labels = rows(count, count, num_classes, 1.5)
    probabilities = softmax(logits)
    confidences, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    assert calibration_error(probabilities, labels) == pytest.approx(plain_error(confidences, right), abs=1e-7)
    assert log_loss(logits, labels) == pytest.approx(sklearn_log_loss(labels, probabilities, labels=range(num_classes)))
    one_hot = np.eye(num_classes)[labels]
    plain_brier = sum(((p - t) ** 2).sum() for p, t in zip(probabilities, one_hot, strict=True)) / count
    assert brier_score(probabilities, labels) == pytest.approx(plain_brier / (2 if num_classes == 2 else 1))
    found = reliability(probabilities, labels)
    assert found.rows.sum() == count
    filled = found.rows > 0
    accuracy, confidence = calibration_curve(right, confidences, n_bins=BINS)
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], confidence, rtol=1e-6)


def test_several_labels_a_row_are_judged_one_by_one():
    logits, labels = label_sets(0, 400, 3)
    probabilities = logistic(logits)
    errors = [plain_error(probabilities[:, i], labels[:, i]) for i in range(3)]
    assert calibration_error(probabilities, labels) == pytest.approx(np.mean(errors), abs=1e-7)
    briers = [brier_score_loss(labels[:, i], probabilities[:, i]) for i in range(3)]
    assert brier_score(probabilities, labels) == pytest.approx(np.mean(briers))
    losses = [sklearn_log_loss(labels[:, i], probabilities[:, i]) for i in range(3)]
    assert log_loss(logits, labels) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_probability_on_a_bound_is_of_the_bin_below_and_none_is_lost():
    found = binned(np.array([0.0, 1 / BINS, 1.0]), np.array([0, 1, 1]))
    assert found.rows.tolist() == [2, *[0] * (BINS - 2), 1]


class GivenLogits(ClassifierMixin, BaseEstimator):
    """What scikit-learn needs for an estimator that has been fitted."""

    def fit(self, logits, labels):
        self.classes_ = np.unique(labels)
        return self

    def decision_function(self, logits):
        return logits

    def predict(self, logits):
        return logits.argmax(axis=1)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("num_classes", [3, 6])
def test_the_temperature_is_that_of_scikit_learn(num_classes, sharpness):
    logits, labels = rows(num_classes, 2000, num_classes, sharpness)
    estimator = FrozenEstimator(GivenLogits().fit(logits, labels))
    theirs = CalibratedClassifierCV(estimator, method="temperature").fit(logits, labels)
    beta = theirs.calibrated_classifiers_[0].calibrators[0].beta_
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(1 / beta, rel=1e-3)
    assert found == pytest.approx(sharpness, rel=0.1)
    np.testing.assert_allclose(softmax(calibrated(logits, found)), theirs.predict_proba(logits), atol=1e-3)


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_the_temperature_of_several_labels(sharpness):
    logits, labels = label_sets(1, 2000, 4, sharpness)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(sharpness, rel=0.1)
    for other in (found * 0.97, found * 1.03):
        assert log_loss(logits, labels, found) < log_loss(logits, labels, other)


@pytest.mark.parametrize(
    ("logits", "labels", "temperature"),
    [
        ([[3, 1], [0, 2], [5, 4]], [0, 1, 0], None),
        ([[4, -1], [-1, 4], [3.8, -1]], [0, 1, 0], None),
        ([[3, 1], [0, 2], [5, 4]], [1, 0, 1], None),
        ([[3, 1], [0, np.nan], [5, 4]], [0, 1, 1], None),
        ([[0, 0], [0, 0]], [0, 1], 1.0),
        ([[2], [3]], [0, 0], 1.0),
    ],
    ids=["all right", "all right by far", "all wrong", "not finite", "nothing said", "one class"],
)
def test_rows_that_tell_no_temperature(logits, labels, temperature):
    assert fit_temperature(np.array(logits, np.float32), np.array(labels)) == temperature


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.37, 20])
def test_no_label_changes_by_a_temperature(temperature):
    """Also where float32 would round two logits to one."""
    logits = np.float32([[1, np.nextafter(np.float32(1), np.float32(2))], [1e-8, 2e-8], [-30, 30]])
    assert (calibrated(logits, temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_without_a_temperature_logits_keep_their_bits():
    logits = np.float32([[1, 2]])
    assert calibrated(logits, 1.0) is logits


@pytest.mark.parametrize("kind", ["three classes", "two classes", "label sets"])
def test_weighted_rows_count_as_repeated_ones(kind):
    """scikit-learn's Brier score, and ECE, of rows that are repeated as often as they weigh."""
    rng = np.random.default_rng(0)
    count = 2 if kind == "two classes" else 3
    probabilities = rng.dirichlet(np.ones(count), 70).astype(np.float32)
    labels = (rng.random((70, 3)) < 0.4) if kind == "label sets" else rng.integers(0, count, 70)
    draws = rng.integers(0, 3, (5, 70))
    found = weighted_calibration(probabilities, labels)(draws)
    for which, weights in enumerate(draws):
        again = np.repeat(np.arange(70), weights)
        assert found["ece"][which] == pytest.approx(calibration_error(probabilities[again], labels[again]))
        assert found["brier"][which] == pytest.approx(brier_score(probabilities[again], labels[again]))
