"""Scores of slices beside scikit-learn's, their intervals, and their order."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from bertjax.evaluation.slices.slice_scores import AlikeRows, slice_scores
from bertjax.evaluation.slices.sliced_rows import Slice
from tests.support.slices import of_first, weighted_of


def right_or_not(right):
    """Rows of which each is right or not; accuracy alone."""
    right = np.asarray(right, float)

    def weighted(weights, parts=False):
        with np.errstate(invalid="ignore"):
            return {"accuracy": weights @ right / weights.sum(axis=1)}

    return AlikeRows(weighted, np.arange(len(right)))


def part(name, members):
    return Slice(name, "file", np.asarray(members, bool))


def test_scores_are_those_of_the_rows_alone():
    rng = np.random.default_rng(0)
    labels, noise = rng.integers(3, size=80), rng.integers(3, size=80)
    predictions = np.where(rng.random(80) < 0.7, labels, noise)
    groups = np.unique(labels * 3 + predictions, return_index=True, return_inverse=True)[1:]
    firsts, group_of = groups
    members = rng.random(80) < 0.3
    for alike in (
        AlikeRows(weighted_of(labels, predictions), np.arange(80)),
        AlikeRows(weighted_of(labels[firsts], predictions[firsts]), group_of),
    ):
        scores = slice_scores([part("some", members)], alike, 5, 100, 0).slices[0]
        assert scores.rows == members.sum()
        assert scores.metrics["f1_micro"].value == pytest.approx(accuracy_score(labels[members], predictions[members]))
        expected = f1_score(labels[members], predictions[members], average="weighted")
        assert scores.metrics["f1_weighted"].value == pytest.approx(expected)
        whole = accuracy_score(labels, predictions)
        assert scores.difference.value == pytest.approx(scores.metrics["f1_micro"].value - whole)


def test_intervals_are_those_of_a_proportion():
    right = np.r_[np.arange(100) % 5 > 0, np.ones(100)]
    scores = slice_scores([part("first", of_first(100, 200))], right_or_not(right), 5, 1000, 0).slices[0]
    value, low, high = scores.metrics["accuracy"]
    deviation = np.sqrt(0.8 * 0.2 / 100)
    assert value == 0.8
    assert (low, high) == pytest.approx((0.8 - 1.96 * deviation, 0.8 + 1.96 * deviation), abs=0.015)
    # Half of the rows are right for certain: the difference has half of the deviation.
    assert scores.difference.high - scores.difference.low == pytest.approx(1.96 * deviation, abs=0.015)


def test_what_is_certainly_worse_comes_first():
    """Neither two wrong rows lead, nor six that are no worse than chance, nor an empty slice."""
    right = np.ones(1000, bool)
    right[:60] = False  # of the first 200
    right[990:992] = False
    slices = [
        part("fine", np.arange(1000) >= 500),
        part("empty", np.zeros(1000)),
        part("two wrong", (np.arange(1000) >= 990) & (np.arange(1000) < 992)),
        part("many worse", of_first(200, 1000)),
        part("few worse", np.isin(np.arange(1000), [0, 1, 300, 301, 302, 303])),
    ]
    table = slice_scores(slices, right_or_not(right), 5, 400, 0)
    assert [scores.part.name for scores in table.slices] == ["many worse", "few worse", "fine", "two wrong", "empty"]
    assert [scores.rank for scores in table.slices] == [1, 2, 3, None, None]
    assert np.isnan(table.slices[-1].metrics["accuracy"].value)
    assert table == slice_scores(slices, right_or_not(right), 5, 400, 0)._replace(slices=table.slices)


def test_all_wrong_in_a_few_rows_says_little_where_most_rows_are_wrong():
    right = np.arange(100) % 3 == 0
    wrong = np.isin(np.arange(100), [1, 2, 4, 5, 7])
    slightly = np.arange(100) % 3 > 0
    slightly[:60:3] = True  # 20 of 87 are right
    table = slice_scores([part("five", wrong), part("large", slightly)], right_or_not(right), 5, 400, 0)
    assert [scores.part.name for scores in table.slices] == ["large", "five"]


def test_less_is_better_where_the_metric_is_an_error():
    errors = np.r_[np.full(50, 3.0), np.ones(50)] + np.arange(100) % 2

    def weighted(weights, parts=False):
        return {"mae": weights @ errors / weights.sum(axis=1)}

    halves = [part("good", np.arange(100) >= 50), part("bad", of_first(50, 100))]
    table = slice_scores(halves, AlikeRows(weighted, np.arange(100)), 5, 200, 0)
    assert [scores.part.name for scores in table.slices] == ["bad", "good"]


@pytest.mark.parametrize("alike", [None, AlikeRows(lambda weights: {"other": weights[:, 0]}, np.arange(9))])
def test_rows_without_metrics_are_counted(alike):
    table = slice_scores([part("some", of_first(3, 9))], alike, 5, 100, 0)
    assert table.main is None
    assert table.slices[0].rows == 3


def test_a_single_row():
    """It says nothing of how rows differ."""
    table = slice_scores([part("it", [True])], right_or_not([True]), 1, 100, 0)
    value, low, high = table.slices[0].difference
    assert (value, table.slices[0].metrics["accuracy"].value) == (0, 1)
    assert np.isnan([low, high]).all()
