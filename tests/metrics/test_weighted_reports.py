"""Every metric is scikit-learn's on the raw scores; weighted metrics are the evaluator's on rows repeated as often."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sk

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.metrics import evaluators
from bertjax.metrics.answer_report import Span, answer_report
from bertjax.metrics.reports import better_when, with_parts
from bertjax.metrics.tag_report import tag_report

ROWS = 40
BIO, BIOES, WORDS = ("B-X", "I-X", "B-Y", "O"), ("B-X", "E-X", "I-X", "O", "S-X"), ("DT", "NN", "VB")


def rng():
    return np.random.default_rng(1)


def by_example(labels):
    tokens = np.zeros(len(labels), np.int32)
    return Examples(tokens, tokens, np.arange(len(labels) + 1), labels, 0)


def classes(count, of=evaluators.evaluate_classes):
    labels = rng().integers(0, count, ROWS)
    logits = rng().integers(-3, 4, (ROWS, count)).astype(np.float32)  # whole numbers: many are equal
    names = tuple("abcdefgh"[:count])
    return lambda rows: of(logits[rows], by_example(labels[rows]), names)


def label_sets():
    labels = (rng().random((ROWS, 4)) < 0.4).astype(np.float32)
    logits = rng().integers(-3, 4, (ROWS, 4)).astype(np.float32)
    return lambda rows: evaluators.evaluate_label_sets(logits[rows], by_example(labels[rows]), tuple("abcd"))


def numbers(columns):
    labels, predictions = (rng().integers(0, 5, (2, ROWS, columns)) + 0.5).astype(np.float32)
    return lambda rows: evaluators.evaluate_numbers(predictions[rows], by_example(labels[rows]), tuple("xy"[:columns]))


def cosines():
    labels, predictions = rng().random((2, ROWS)).astype(np.float32)
    return lambda rows: evaluators.evaluate_cosines(predictions[rows], by_example(labels[rows]), ())


def choices():
    labels, logits = rng().integers(0, 3, ROWS), rng().integers(0, 4, (ROWS, 3)).astype(np.float32)
    return lambda rows: evaluators.evaluate_choices(logits[rows], by_example(labels[rows]), ())


def by_token(evaluator, names, width):
    """Sentences of one or two windows; some tokens have no label, and the third sentence has none at all."""
    lengths = rng().integers(1, 5, (ROWS, 2))
    sentences = [(rng().integers(0, len(names), a), rng().integers(0, len(names), b)) for a, b in lengths]
    chance = np.random.default_rng(2)
    windows = [
        [(chance.integers(0, len(names), n), chance.random((n, width)).round(1)) for n in map(len, parts[: 1 + i % 2])]
        for i, parts in enumerate(sentences)
    ]
    windows[2] = [(np.full_like(labels, UNLABELLED), scores) for labels, scores in windows[2]]

    def report(rows):
        parts = [(row, *part) for row, number in enumerate(rows) for part in windows[number]]
        row_of, labels, scores = zip(*parts, strict=True)
        offsets = np.append(0, np.cumsum([len(part) for part in labels]))
        tokens = np.zeros(offsets[-1], np.int32)
        examples = Examples(
            tokens, tokens, offsets, np.concatenate(labels), 0, labels_of="tokens", row_of=np.array(row_of)
        )
        return evaluator(np.concatenate(scores), examples, names)

    return report


CASES = {
    "two classes": classes(2),
    "three classes": classes(3),
    "five classes": classes(5),
    "next sentence": classes(2, evaluators.evaluate_next_sentence),
    "label sets": label_sets(),
    "a number": numbers(1),
    "numbers": numbers(2),
    "cosines": cosines(),
    "choices": choices(),
    "entities": by_token(tag_report, BIO, len(BIO)),
    "strict entities": by_token(tag_report, BIOES, len(BIOES)),
    "words": by_token(tag_report, WORDS, len(WORDS)),
    "masked words": by_token(evaluators.evaluate_masked_words, ("a", "b"), 2),
}
ALL = np.arange(ROWS)


def values_of(report):
    return with_parts(report.metrics, report.parts)


def same(weighted, report, whole):
    """A part that the repeated rows do not have is 0 in the weighted metrics, as in a report of all classes."""
    expected, nothing = values_of(report), dict.fromkeys(values_of(whole), 0.0)
    assert weighted.keys() == values_of(whole).keys()
    for key, value in weighted.items():
        wanted = expected.get(key, nothing[key])
        assert value[0] == pytest.approx(wanted, abs=1e-12, nan_ok=True), key


@pytest.mark.parametrize("case", CASES)
def test_weights_of_one_are_the_report(case):
    report = CASES[case](ALL)
    assert report.weighted(np.ones((1, ROWS))).keys() == report.metrics.keys()
    same(report.weighted(np.ones((1, ROWS), int), True), report, report)
    assert values_of(pickle.loads(pickle.dumps(report))).keys() == values_of(report).keys()


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=12)
@given(weights=st.lists(st.sampled_from([0, 0, 1, 1, 2, 5]), min_size=ROWS, max_size=ROWS).filter(any))
def test_whole_weights_repeat_rows(case, weights):
    report = CASES[case](ALL)
    same(report.weighted(np.array([weights]), True), CASES[case](np.repeat(ALL, weights)), report)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rows", [[0], [7, 9], list(range(0, ROWS, 3)), [2, 5]], ids=str)
def test_a_subset_is_a_weighting(case, rows):
    report = CASES[case](ALL)
    weights = np.zeros((1, ROWS))
    weights[0, rows] = 1
    same(report.weighted(weights, True), CASES[case](np.array(rows)), report)


@pytest.mark.parametrize("case", CASES)
def test_no_row_is_undefined_and_blocks_are_those_of_one(case, monkeypatch):
    report = CASES[case](ALL)
    weights = np.random.default_rng(3).integers(0, 3, (7, ROWS))
    weights[4] = 0
    together = report.weighted(weights, True)
    monkeypatch.setattr("bertjax.metrics.weighted.row_weights._CELLS", 3 * ROWS)
    apart = report.weighted(weights, True)
    for key, values in together.items():
        assert np.isnan(values[4]), key
        np.testing.assert_allclose(values, apart[key], atol=1e-12)


def test_answers_are_rows_whatever_windows_they_have(monkeypatch):
    """The predictions of a bootstrap stay those of all rows."""
    from types import SimpleNamespace

    said = ["film", "a plot", "", "song"]
    golds = [["the film"], ["good plot", "plot"], [], ["book"]]
    spans = [Span(text, 1.0 if text else -1.0, 0.0, 0, len(text)) for text in said]
    monkeypatch.setattr("bertjax.metrics.answer_report.best_spans", lambda scores, offsets, contexts: spans)
    questions = [SimpleNamespace(answers=[SimpleNamespace(text=text) for text in texts]) for texts in golds]
    examples = SimpleNamespace(offsets=None, reference=SimpleNamespace(questions=questions))
    report = answer_report(np.zeros((9, 2)), examples, ())
    weighted = report.weighted(np.array([[1, 1, 1, 1], [2, 0, 0, 1]]), True)
    for key, value in values_of(report).items():
        if not key.startswith("best_"):  # fitted on all rows, not a mean of them
            assert weighted[key][0] == pytest.approx(value, abs=1e-12)
    assert weighted["exact_match"][1] == pytest.approx(2 / 3)
    assert weighted["class/answerable/f1"][1] == pytest.approx(2 / 3)
    assert np.isnan(weighted["class/unanswerable/f1"][1])


LABELS = np.random.default_rng(4).integers(0, 5, 200)
LOGITS = np.random.default_rng(5).normal(size=(200, 5)).astype(np.float32)
PROBABILITIES = softmax(LOGITS.astype(np.float64), axis=1)
SAID = LOGITS.argmax(axis=1)
OF_CLASSES = {
    "balanced_accuracy": lambda: sk.balanced_accuracy_score(LABELS, SAID),
    "mcc": lambda: sk.matthews_corrcoef(LABELS, SAID),
    "kappa": lambda: sk.cohen_kappa_score(LABELS, SAID),
    "log_loss": lambda: sk.log_loss(LABELS, PROBABILITIES),
    "top_2_accuracy": lambda: sk.top_k_accuracy_score(LABELS, LOGITS, k=2),
    "top_3_accuracy": lambda: sk.top_k_accuracy_score(LABELS, LOGITS, k=3),
    "roc_auc_macro": lambda: sk.roc_auc_score(LABELS, PROBABILITIES, multi_class="ovr", average="macro"),
    "roc_auc_weighted": lambda: sk.roc_auc_score(LABELS, PROBABILITIES, multi_class="ovr", average="weighted"),
    "pr_auc_macro": lambda: sk.average_precision_score(LABELS, PROBABILITIES, average="macro"),
    "pr_auc_weighted": lambda: sk.average_precision_score(LABELS, PROBABILITIES, average="weighted"),
}


@pytest.mark.parametrize("metric", OF_CLASSES)
def test_metrics_of_classes_are_scikit_learns(metric):
    report = evaluators.evaluate_classes(LOGITS, by_example(LABELS), tuple("abcde"))
    assert report.metrics[metric] == pytest.approx(OF_CLASSES[metric](), abs=1e-14)
    assert better_when(f"test/{metric}") == ("min" if metric == "log_loss" else "max")


def test_of_two_classes_the_second_is_positive():
    labels, logits = LABELS % 2, LOGITS[:, :2]
    probabilities = softmax(logits.astype(np.float64), axis=1)[:, 1]
    report = evaluators.evaluate_classes(logits, by_example(labels), ("bad", "good"))
    assert report.metrics["roc_auc"] == sk.roc_auc_score(labels, probabilities)
    assert report.metrics["pr_auc"] == sk.average_precision_score(labels, probabilities)
    assert report.parts["bad"]["pr_auc"] == sk.average_precision_score(1 - labels, 1 - probabilities)
    assert "top_2_accuracy" not in report.metrics


SETS = np.random.default_rng(6).random((200, 5)) < 0.3
OF_SETS = {
    "roc_auc_micro": lambda: sk.roc_auc_score(SETS, LOGITS, average="micro"),
    "roc_auc_macro": lambda: sk.roc_auc_score(SETS, LOGITS, average="macro"),
    "pr_auc_micro": lambda: sk.average_precision_score(SETS, LOGITS, average="micro"),
    "pr_auc_macro": lambda: sk.average_precision_score(SETS, LOGITS, average="macro"),
    "lrap": lambda: sk.label_ranking_average_precision_score(SETS, LOGITS),
    "hamming_loss": lambda: sk.hamming_loss(SETS, LOGITS > 0),
}


@pytest.mark.parametrize("metric", OF_SETS)
def test_metrics_of_label_sets_are_scikit_learns(metric):
    report = evaluators.evaluate_label_sets(LOGITS, by_example(SETS.astype(np.float32)), tuple("abcde"))
    assert report.metrics[metric] == pytest.approx(OF_SETS[metric](), abs=1e-14)
    assert better_when(metric) == ("min" if metric == "hamming_loss" else "max")


def test_an_absent_class_has_no_curve_and_is_in_no_average():
    labels = np.where(LABELS == 4, 0, LABELS)
    report = evaluators.evaluate_classes(LOGITS, by_example(labels), tuple("abcde"))
    assert np.isnan(report.parts["e"]["roc_auc"])
    assert np.isnan(report.parts["e"]["pr_auc"])
    assert "test/class/e/pr_auc" not in report.flat("test")
    curves = [sk.roc_auc_score(labels == i, PROBABILITIES[:, i]) for i in range(4)]
    assert report.metrics["roc_auc_macro"] == pytest.approx(np.mean(curves), abs=1e-14)


@pytest.mark.parametrize(
    ("labels", "logits", "undefined"),
    [
        ([1, 1], [[0, 1, 0], [0, 2, 0]], {"kappa", "roc_auc_macro", "roc_auc_weighted"}),
        ([1], [[0, 1, 0]], {"kappa", "roc_auc_macro", "roc_auc_weighted"}),
        ([0, 1], [[np.nan, 1, 0], [0, 2, 0]],
         {"log_loss", "top_2_accuracy", *(f"{a}_{b}" for a in ("roc_auc", "pr_auc") for b in ("macro", "weighted"))}),
    ],
    ids=["one class", "one row", "a diverged model"],
)  # fmt: skip
def test_what_is_undefined_is_nan_without_a_warning(labels, logits, undefined):
    report = evaluators.evaluate_classes(np.array(logits, np.float32), by_example(np.array(labels)), tuple("abc"))
    assert {key for key, value in report.metrics.items() if np.isnan(value)} == undefined
    weighted = report.weighted(np.ones((1, len(labels))), True)
    assert {key for key in report.metrics if np.isnan(weighted[key][0])} == undefined
    assert not any(f"test/{key}" in report.flat("test") for key in undefined)
