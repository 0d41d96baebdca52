"""The fitted threshold is the best of all, and the metrics with a fallback are scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from bertjax.metrics.classification_report import classification_report
from bertjax.metrics.fallback import fit_threshold, report_fallback, with_fallback

NAMES = ("cat", "dog", "other", "rare")


def rows(seed: int, count: int, num_classes: int, decimals: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, many of them equal where they have few decimals, and labels that follow them by a skill."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(num_classes, count, p=rng.dirichlet(np.ones(num_classes)))
    logits = rng.normal(size=(count, num_classes)) + skill * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.round(probabilities, decimals), labels


def macro_f1(labels: np.ndarray, answers: np.ndarray, num_classes: int) -> float:
    present = np.intersect1d(np.union1d(labels, answers), range(num_classes))
    return f1_score(labels, answers, labels=present, average="macro", zero_division=0)


@pytest.mark.parametrize("fallback", ["other", "uncertain"])
@pytest.mark.parametrize(
    ("seed", "count", "num_classes", "decimals", "skill"),
    [(seed, 60, 4, 2, skill) for seed in range(5) for skill in (0.0, 1.5)]
    + [(0, 1, 4, 3, 1.0), (1, 2, 4, 3, 1.0), (2, 90, 3, 6, 1.0), (3, 40, 4, 0, 1.0)],
)
def test_the_best_of_all_thresholds(seed, count, num_classes, decimals, skill, fallback):
    """Against every threshold that keeps at least one label, each judged by scikit-learn."""
    probabilities, labels = rows(seed, count, num_classes, decimals, skill)
    names = NAMES[:num_classes]
    confidences = np.unique(probabilities.max(axis=1))
    scores = [
        macro_f1(labels, with_fallback(probabilities, threshold, names, fallback), num_classes)
        for threshold in confidences
    ]
    best = next(i for i, score in enumerate(scores) if score >= max(scores) - 1e-12)

    fitted = fit_threshold(probabilities, labels, names, fallback)
    assert fitted.plain_f1_macro == pytest.approx(macro_f1(labels, probabilities.argmax(axis=1), num_classes))
    assert fitted.f1_macro == pytest.approx(max(scores))
    assert fitted.kept == (probabilities.max(axis=1) >= confidences[best]).mean()
    if best == 0:
        assert fitted.value is None
    else:
        assert fitted.value is not None
        assert confidences[best - 1] < fitted.value < confidences[best]
        answers = with_fallback(probabilities, fitted.value, names, fallback)
        assert macro_f1(labels, answers, num_classes) == pytest.approx(fitted.f1_macro)


@pytest.mark.parametrize(
    ("right", "value"),
    [([True, True, True], None), ([True, True, False], 0.65), ([False, True, True], None)],
    ids=["no mistake", "an unsure mistake", "a sure mistake"],
)
def test_a_threshold_only_where_it_helps(right, value):
    """Rows of class other that are taken for cat, and are sure to 0.9, 0.7 and 0.6."""
    probabilities = np.array([[p, 1 - p, 0, 0] for p in (0.9, 0.7, 0.6)])
    labels = np.where(right, 0, 2)
    fitted = fit_threshold(probabilities, labels, NAMES, "other")
    assert (fitted.value, fitted.f1_macro >= fitted.plain_f1_macro) == (value, True)


def test_the_threshold_is_far_from_both_neighbours_and_short():
    """So that the rounding of another batch, device or engine moves no row, and a person can copy it."""
    probabilities = np.array([[0.93, 0.07], [0.8712345, 0.1287655]])
    fitted = fit_threshold(probabilities, np.array([0, 1]), ("cat", "other"), "other")
    assert fitted.value == 0.9


def test_a_hundred_thousand_rows_of_many_classes():
    probabilities, labels = rows(0, 100_000, 20, 8, 1.0)
    names = [*map(str, range(19)), "other"]
    fitted = fit_threshold(probabilities, labels, names, "other")
    assert fitted.value is not None
    answers = with_fallback(probabilities, fitted.value, names, "other")
    assert macro_f1(labels, answers, 20) == pytest.approx(fitted.f1_macro)


@pytest.mark.parametrize("names", [NAMES, ("cat", "dog", "bird", "rare")], ids=["a class", "no class"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.0])
def test_metrics_beside_the_plain_ones(threshold, names):
    probabilities, labels = rows(5, 80, 4, 6, 1.5)
    plain = classification_report(labels, probabilities.argmax(axis=1), names)
    fallback = "other" if "other" in names else "uncertain"
    report = report_fallback(plain, probabilities, labels, threshold, names, fallback)

    unsure = probabilities.max(axis=1) < threshold
    answers = np.where(unsure, 2 if "other" in names else 4, probabilities.argmax(axis=1))
    present = [label for label in range(4) if label in labels or label in answers]
    expected = {"threshold": threshold, "kept_share": 1 - unsure.mean(), "accuracy": accuracy_score(labels, answers)}
    for average in ("weighted", "macro"):
        options = {"labels": present, "average": average, "zero_division": 0}
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            expected[f"{name}_{average}"] = score(labels, answers, **options)
    flat = report.flat("test")
    assert flat == pytest.approx(plain.flat("test") | {f"test/fallback/{key}": v for key, v in expected.items()})
    assert report.headline[: len(plain.headline)] == plain.headline
    assert report.table is not None
    assert [name for name, _ in report.table.averages] == [
        "weighted", "macro", "weighted, with fallback", "macro, with fallback",
    ]  # fmt: skip
    assert (
        f"{1 - unsure.mean():.1%} keep their label, the others, below {threshold:g}, are '{fallback}'" in report.summary
    )
    if threshold == 0:
        assert flat["test/fallback/f1_macro"] == flat["test/f1_macro"]


@pytest.mark.parametrize("fallback", ["other", "uncertain"])
def test_weighted_rows_count_as_repeated_ones(fallback):
    probabilities, labels = rows(4, 80, 4, 2, 1.0)
    names, draws = NAMES, np.random.default_rng(0).integers(0, 3, (4, 80))
    report = classification_report(labels, probabilities.argmax(axis=1), names)
    weighted = report_fallback(report, probabilities, labels, 0.5, names, fallback).weighted(draws)
    for which, counts in enumerate(draws):
        again = np.repeat(np.arange(80), counts)
        answers = with_fallback(probabilities[again], 0.5, names, fallback)
        true, present = labels[again], np.intersect1d(np.union1d(labels[again], answers), range(4))
        expected = {
            "fallback/accuracy": accuracy_score(true, answers),
            "fallback/kept_share": (probabilities[again].max(axis=1) >= 0.5).mean(),
            **{
                f"fallback/{name}_{average}": score(true, answers, labels=present, average=average, zero_division=0)
                for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score))
                for average in ("weighted", "macro")
            },
        }
        found = {key: values[which] for key, values in weighted.items() if key.startswith("fallback/")}
        assert found == pytest.approx(expected)
