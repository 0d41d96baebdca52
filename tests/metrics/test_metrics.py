"""Metrics equal what one computes by hand, and the page shows them."""

import numpy as np
import pytest

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.data.read.bad_rows import BadRow
from bertjax.data.validate.contract import Finding
from bertjax.data.validate.data_report import DataReport, TableReport
from bertjax.evaluation.run_report import RunReport, console_table
from bertjax.metrics.aggregate import aggregate_table
from bertjax.metrics.classification_report import classification_report, multi_label_report
from bertjax.metrics.evaluators import evaluate_choices, evaluate_masked_words
from bertjax.metrics.regression_report import regression_report
from bertjax.metrics.tag_report import tag_report
from bertjax.report_pages.blocks import Ranged
from bertjax.report_pages.text_table import TextTable
from tests.support.pages import table_rows

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 1, 1])


def parts(report):
    return dict(report.table.rows)


def averages(report):
    return dict(report.table.averages)


INTAKE = DataReport((TableReport("t.csv", 6),), duplicates=0, leaks=0, leaks_removed=0)


@pytest.fixture
def report():
    return classification_report(LABELS, PREDICTIONS, ("<a>", "b", "c"))


def test_by_hand(report):
    assert report.metrics["accuracy"] == pytest.approx(4 / 6)
    assert parts(report)["<a>"] == pytest.approx((1.0, 2 / 3, 0.8, 3))
    assert parts(report)["b"] == pytest.approx((0.5, 1.0, 2 / 3, 2))
    assert parts(report)["c"] == (0.0, 0.0, 0.0, 1)
    assert averages(report)["macro"].f1 == pytest.approx((0.8 + 2 / 3) / 3)
    assert averages(report)["weighted"].f1 == pytest.approx((3 * 0.8 + 2 * 2 / 3) / 6)
    assert report.confusion.counts.tolist() == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]


def test_a_class_that_does_not_occur_is_in_no_average():
    report = classification_report(np.array([0, 1]), np.array([0, 1]), ("a", "b", "absent"))
    assert averages(report)["macro"].f1 == 1.0
    assert parts(report)["absent"].support == 0


def test_flat_keys(report):
    flat = report.flat("test")
    assert flat["test/f1_macro"] == averages(report)["macro"].f1
    assert flat["test/class/b/precision"] == 0.5


def test_page_and_table(report):
    history = [{"epoch": 1.0, "epoch/train_loss": 0.5}]
    page = RunReport("model on <table>", report, report.flat("test"), {"epochs": 1}, INTAKE, history).html()
    assert "model on &lt;table&gt;" in page
    assert "&lt;a&gt;" in page
    assert "<a>" not in page
    assert "http" not in page  # it needs nothing but itself
    assert console_table(report, "test").row_count == 5


def test_the_headline_has_the_intervals_of_its_own_metrics():
    """Where all labels are right, every metric has the same value, and another one's interval would be a lie."""
    right = classification_report(np.array([0, 1]), np.array([0, 1]), ("a", "b"))
    intervals = {key: Ranged(value, 0.125, 0.25) for key, value in right.metrics.items()}
    intervals["f1_macro"] = Ranged(1.0, 0.3125, 0.4375)
    page = RunReport("t", right, {}, {}, INTAKE, intervals=intervals).html()
    assert page.count("0.1250 to 0.2500") == 2
    assert page.count("0.3125 to 0.4375") == 1


def test_page_says_what_became_of_the_data(report):
    rows = tuple(BadRow("t.csv", line, "has <3> fields") for line in range(2, 24))
    findings = (Finding("'a' holds <text>", True), Finding("rule", False, 7), Finding("other", None))
    tables = (TableReport("t.csv", 61, rows, findings), TableReport("v.csv", 67))
    data_report = DataReport(tables, duplicates=71, leaks=73, leaks_removed=79)
    metrics = report.flat("test") | data_report.metrics()
    page = RunReport("t", report, metrics, {}, data_report, [{"epoch": 1.0, "epoch/train_loss": 0.5}]).html()
    shown = table_rows(page)
    for row in (
        ["rows of t.csv", "61"],
        ["broken rows skipped in t.csv", "22"],
        ["rows of v.csv", "67"],
        ["broken rows skipped in v.csv", "0"],
        ["duplicate training rows dropped", "71"],
        ["training rows whose text stands in validation or test rows too", "73"],
        ["of these removed", "79"],
        ["'a' holds <text>", "yes", "0"],
        ["rule", "no", "7"],
        ["other", "not checked", "0"],
    ):
        assert row in shown
    assert page.count("has &lt;3&gt; fields") == 22
    assert "What t.csv promises" in page
    assert "What v.csv promises" not in page
    assert "data/leaks" not in page  # the same numbers twice would be one too many
    untrained = RunReport("t", report, metrics, {}, data_report, []).html()
    assert "training rows" not in untrained  # a model that is only judged has none
    assert ["rows of t.csv", "61"] in table_rows(untrained)


def test_several_labels_by_hand():
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.float32)
    predictions = np.array([[1, 0], [1, 0], [1, 0], [0, 1]])
    report = multi_label_report(labels, predictions, ("a", "b"))
    assert parts(report)["a"] == pytest.approx((2 / 3, 1.0, 0.8, 2))
    assert parts(report)["b"] == pytest.approx((1.0, 0.5, 2 / 3, 2))
    assert averages(report)["micro"] == pytest.approx((3 / 4, 3 / 4, 3 / 4, 4))
    assert averages(report)["macro"].f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert report.metrics["subset_accuracy"] == 0.5
    assert report.flat("test")["test/f1_micro"] == 0.75
    assert console_table(report, "test").row_count == 4


def test_numbers_by_hand():
    labels, predictions = np.array([[1.0, 5], [2, 5], [3, 5]]), np.array([[1.0, 4], [3, 6], [2, 6]])
    report = regression_report(labels, predictions, ("x", "constant"))
    assert parts(report)["x"] == pytest.approx((0.5, 0.5, 2 / 3, 2 / 3, 0.0))
    assert parts(report)["constant"] == (0, 0, 1, 1, 0)
    flat = report.flat("test")
    assert flat["test/mse"] == pytest.approx(5 / 6)
    assert flat["test/class/x/mse"] == pytest.approx(2 / 3)
    assert not any(regression_report(labels[:1, :1], predictions[:1, :1], ("x",)).metrics.values())
    page = RunReport("t", report, flat, {}, INTAKE, []).html()
    assert ["constant", "0.0000"] in [row[:2] for row in table_rows(page)]


def sentences(names, *pairs):
    """Examples of words labelled with the first of each pair, and scores for the second, each word after a piece."""
    labels, predicted, offsets = [], [], [0]
    for right, taken in pairs:
        for a, b in zip(right, taken, strict=True):
            labels += [UNLABELLED, names.index(a)]
            predicted += [0, names.index(b)]
        offsets.append(len(labels))
    ids = np.zeros(len(labels), np.int32)
    examples = Examples(
        ids, ids, np.array(offsets), np.array(labels), 0, labels_of="tokens", row_of=np.arange(len(pairs))
    )
    return np.eye(len(names))[predicted], examples


def test_entities_by_hand():
    names = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
    scores, examples = sentences(
        names,
        (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "O", "B-LOC"]),
        (["B-PER", "I-PER", "O"], ["B-PER", "O", "O"]),  # too short is wrong
        (["O", "O"], ["B-LOC", "O"]),
    )
    report = tag_report(scores, examples, names)
    assert parts(report)["PER"] == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert parts(report)["LOC"] == pytest.approx((1 / 2, 1.0, 2 / 3, 1))
    assert averages(report)["micro"] == pytest.approx((2 / 4, 2 / 3, 4 / 7, 3))
    assert report.metrics["accuracy"] == pytest.approx(7 / 9)
    assert report.summary == "9 words in 3 sentences, 2 types of entities (bio)"
    assert report.flat("test")["test/f1"] == pytest.approx(4 / 7)
    assert console_table(report, "test").row_count == 4


def test_an_entity_does_not_go_on_in_the_next_sentence():
    names = ("B-X", "I-X", "O")
    scores, examples = sentences(names, (["B-X"], ["B-X"]), (["B-X", "I-X"], ["B-X", "I-X"]))
    assert averages(tag_report(scores, examples, names))["micro"] == (1.0, 1.0, 1.0, 2)


def test_no_entity_at_all():
    names = ("B-X", "I-X", "O")
    report = tag_report(*sentences(names, (["O", "O"], ["O", "O"])), names)
    assert (averages(report)["micro"], report.metrics["accuracy"], parts(report)) == ((0.0, 0.0, 0.0, 0), 1.0, {})


def test_labels_that_are_no_entities_are_judged_by_word():
    names = ("DT", "NN")
    report = tag_report(*sentences(names, (["DT", "NN", "NN"], ["DT", "NN", "DT"])), names)
    assert averages(report)["micro"].f1 == report.metrics["accuracy"] == pytest.approx(2 / 3)
    assert parts(report)["NN"] == pytest.approx((1.0, 1 / 2, 2 / 3, 2))


def test_choices_by_hand():
    ids = np.zeros(3, np.int32)
    examples = Examples(ids, ids, np.arange(4), np.array([0, 1, 2]), 0)
    report = evaluate_choices(np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]]), examples, ())
    assert report.metrics["accuracy"] == pytest.approx(1 / 3)
    assert report.metrics["reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert report.summary == "3 questions of 3 candidates"
    assert console_table(report, "test").row_count == 3
    assert "mean reciprocal rank" in RunReport("t", report, report.flat("test"), {}, INTAKE, []).html()


def test_hidden_words_by_hand():
    ids = np.zeros(6, np.int32)
    labels = np.array([UNLABELLED, 7, UNLABELLED, UNLABELLED, 8, 9])
    examples = Examples(ids, ids, np.array([0, 3, 6]), labels, 0, labels_of="tokens")
    scores = np.array([[99, 1], [1.0, 1], [99, 1], [99, 1], [2.0, 0], [3.0, 0]])  # loss, and whether it is right
    report = evaluate_masked_words(scores, examples, ())
    assert report.flat("test") == {
        "test/loss": 2.0, "test/perplexity": pytest.approx(np.exp(2)), "test/accuracy": pytest.approx(1 / 3),
    }  # fmt: skip
    assert report.summary == "3 hidden tokens in 2 texts"


def test_a_table_shows_what_is_published_of_a_class():
    """As the F1 of the paraphrases of MRPC; without published scores only those of all rows are shown."""
    runs = {0: {"test/accuracy": 0.8, "test/class/1/f1": 0.9}, 1: {"test/accuracy": 0.6, "test/class/1/f1": 0.7}}

    def cells(table: TextTable) -> list[list[str]]:
        return list(map(list, zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True)))

    shown = cells(aggregate_table("scores", runs, {"published": {"test/class/1/f1": 0.8885}}))
    assert shown == [["test/class/1/f1", "0.8885", "0.8000", "0.1414", "0.9000", "0.7000"]]
    assert [row[0] for row in cells(aggregate_table("scores", runs))] == ["test/accuracy"]
