"""Label issues of judged rows: what cleanlab says, with no warning and no error where it has nothing to compare."""

import json

import numpy as np
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.multilabel_classification import get_label_quality_scores as quality_of_sets
from cleanlab.multilabel_classification.filter import find_label_issues as find_issues_of_sets
from cleanlab.token_classification.filter import find_label_issues as find_issues_of_words

from bertjax.cli.main import main
from bertjax.evaluation.label_issues.confident_learning import find_doubts
from bertjax.evaluation.label_issues.doubtful_rows import doubtful_labels
from bertjax.evaluation.label_issues.labelled_items import Items


def noisy(n: int, num_labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, a fifth of them flipped, and probabilities that mostly know better."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, num_labels, n)
    probabilities = rng.dirichlet(np.ones(num_labels), n) + 3 * np.eye(num_labels)[true]
    given = np.where(rng.random(n) < 0.2, rng.integers(0, num_labels, n), true)
    return given, probabilities / probabilities.sum(axis=1, keepdims=True)


def classes(given, probabilities, words=None, rows=None) -> Items:
    names = tuple("abcdef"[: probabilities.shape[1]])
    return Items(names, np.array(given), probabilities, np.arange(len(given)) if rows is None else rows, words)


def test_classes_are_doubted_as_by_cleanlab():
    given, probabilities = noisy(200, 3)
    doubts = find_doubts(classes(given, probabilities))
    ranked = find_label_issues(given, probabilities, n_jobs=1, return_indices_ranked_by="self_confidence")
    assert len(ranked) > 10
    assert doubts.issues().tolist() == ranked.tolist()
    np.testing.assert_array_equal(doubts.quality, probabilities[np.arange(200), given])


def test_words_are_doubted_as_by_cleanlab():
    given, probabilities = noisy(120, 3)
    words, rows = np.tile(np.arange(4), 30), np.repeat(np.arange(30), 4)
    doubts = find_doubts(classes(given, probabilities, words, rows))
    expected = find_issues_of_words(given.reshape(30, 4).tolist(), list(probabilities.reshape(30, 4, 3)), n_jobs=1)
    assert [(rows[i], words[i]) for i in doubts.issues()] == expected


def test_sets_of_labels_are_doubted_as_by_cleanlab():
    rng = np.random.default_rng(1)
    true = rng.random((150, 3)) < 0.4
    probabilities = np.clip(true * 0.8 + 0.2 * rng.random((150, 3)), 0, 1)
    given = true ^ (rng.random((150, 3)) < 0.1)
    doubts = find_doubts(classes(given, probabilities))
    labels = [np.flatnonzero(row).tolist() for row in given]
    np.testing.assert_array_equal(doubts.is_issue, find_issues_of_sets(labels, probabilities, n_jobs=1))
    np.testing.assert_array_equal(doubts.quality, quality_of_sets(labels, probabilities))
    assert doubts.is_issue.sum() > 20


SPARSE = {
    "a label that no row has": ([0, 1] * 20, 3, ("c",), False),
    "a label of one row": ([0, 1] * 20 + [2], 3, ("c",), False),
    "one label": ([1] * 20, 3, ("a", "c"), True),
    "one row": ([0], 2, ("a", "b"), True),
    "two rows": ([0, 1], 2, ("a", "b"), True),
}


@pytest.mark.parametrize(("given", "num_labels", "left_out", "undefined"), SPARSE.values(), ids=SPARSE)
def test_labels_that_cannot_be_compared_are_left_out_and_named(given, num_labels, left_out, undefined):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(num_labels), len(given))
    doubts = find_doubts(classes(given, probabilities))
    assert doubts.left_out == left_out
    assert bool(doubts.undefined) == undefined
    unsaid = np.isnan(doubts.quality)
    names = np.array(list("abcdef"))[given]
    assert unsaid.tolist() == [undefined or name in left_out for name in names]
    assert not doubts.is_issue[unsaid].any()


SETS = {
    "a label that all rows have": (0, 6, ("a",), False),
    "a label that no row has": (0, 0, ("a",), False),
    "all labels that all rows have": (None, 6, ("a", "b"), True),
}


@pytest.mark.parametrize(("column", "having", "left_out", "undefined"), SETS.values(), ids=SETS)
def test_of_sets_too(column, having, left_out, undefined):
    given = np.array([[True, False], [False, True]] * 3)
    given[:, slice(None) if column is None else column] = (
        np.arange(6)[:, None] < having if column is None else (np.arange(6) < having)
    )
    doubts = find_doubts(classes(given, np.full((6, 2), 0.3)))
    assert (doubts.left_out, bool(doubts.undefined)) == (left_out, undefined)


def test_reasons_are_in_words():
    items = classes([0, 1], np.array([[0.01, 0.97, 0.02], [0.2, 0.7, 0.1]]))
    doubts = find_doubts(items)
    texts = {0: "a text", 1: "another"}
    first, second = doubtful_labels(items, doubts, [0, 1], texts)
    assert first.why == "the model gives 'b' 0.97, and 'a' 0.01"
    assert (first.row, first.given, first.predicted, first.margin) == (1, "a", "b", pytest.approx(0.96))
    assert second.why == "the model gives 'b' 0.70"


@pytest.fixture(scope="module")
def judged(finished_run, reviews, tmp_path_factory):
    """Reviews of which three have the other label and one stands twice, judged by a model of the right labels."""
    folder = tmp_path_factory.mktemp("judged")
    frame = pd.read_csv(reviews)
    for row in (3, 10, 41):
        frame.loc[row, "stars"] = {"good": "bad", "bad": "good"}[frame.loc[row, "stars"]]
    copy = frame.iloc[[0]].assign(stars="bad", title=frame.loc[0, "title"].upper())
    pd.concat([frame, copy]).to_csv(folder / "table.csv", index=False)
    flags = ["--label-issues", "--out", str(folder / "out")]
    status = main(["evaluate", "--model", str(finished_run.model_dir), "--data", str(folder / "table.csv"), *flags])
    assert status == 0
    lines = (folder / "out" / "label_issues.jsonl").read_text().splitlines()
    return folder / "out", [json.loads(line) for line in lines]


def test_planted_flips_of_test_rows_are_found(judged):
    out, found = judged
    metrics, labels = json.loads((out / "metrics.json").read_text()), [row for row in found if row["kind"] == "label"]
    assert {4, 11, 42} <= {row["row"] for row in labels}
    assert metrics["test/label_issues/count"] == len(labels) <= 6
    assert metrics["test/label_issues/share"] == pytest.approx(len(labels) / 61)
    assert [row["self_confidence"] for row in labels] == sorted(row["self_confidence"] for row in labels)


def test_copies_that_disagree_and_outliers_are_listed(judged):
    _, found = judged
    (pair,) = [row for row in found if row["kind"] == "disagreement"]
    assert (pair["row"], pair["label"], pair["other_row"], pair["other_label"]) == (1, "good", 61, "bad")
    distances = [row["distance"] for row in found if row["kind"] == "outlier"]
    assert distances == sorted(distances, reverse=True)
    assert 1 <= len(distances) <= 10


def test_without_the_flag_nothing_is_added(finished_run, reviews, tmp_path):
    command = ["evaluate", "--model", str(finished_run.model_dir), "--data", str(reviews), "--out", str(tmp_path / "o")]
    assert main(command) == 0
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "metrics.json",
        "predictions.jsonl",
        "report.html",
        "report.md",
        "slices.json",
    ]


def test_without_cleanlab_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleanlab", None)
    with pytest.raises(ValueError, match=r"pip install 'bertjax\[analysis\]'"):
        find_doubts(classes(*noisy(20, 2)))
