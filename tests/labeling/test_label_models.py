"""Votes made one probability a class: the numbers are Snorkel's, and the class balance is near the true one."""

import random
import sys

import numpy as np
import pytest
import torch
from snorkel.labeling import LFAnalysis
from snorkel.labeling.model import LabelModel as SnorkelModel
from snorkel.labeling.model import MajorityLabelVoter

from bertjax.errors import ConfigError
from bertjax.labeling.apply_functions import Votes
from bertjax.labeling.estimated_balance import class_balance
from bertjax.labeling.label_models import fit_label_model, majority_vote
from bertjax.labeling.vote_table import function_statistics

BALANCE = np.array([0.5, 0.3, 0.2])


def simulated(seed, balance=BALANCE, num_rows=1500):
    """Votes of three functions a class that find half of it and are wrong now and then, and the true classes."""
    rng = np.random.default_rng(seed)
    true = rng.choice(len(balance), num_rows, p=balance)
    hard = np.full((num_rows, 3 * len(balance)), -1, np.int32)
    for f in range(hard.shape[1]):
        k = f % len(balance)
        votes = rng.random(num_rows) < np.where(true == k, rng.uniform(0.4, 0.6), rng.uniform(0.01, 0.06))
        hard[votes, f] = k
    return votes_of(hard, len(balance)), true


def votes_of(hard, num_labels=3, soft=None):
    hard = np.array(hard, np.int32)
    names = tuple(f"f{i}" for i in range(hard.shape[1]))
    return Votes(names, tuple("abcdef"[:num_labels]), hard, soft or {}, (0,) * len(names))


@pytest.fixture(scope="module")
def fitted():
    votes, _ = simulated(0)
    return votes, fit_label_model(votes, BALANCE, seed=3)


def test_probabilities_are_those_of_snorkel(fitted):
    votes, ours = fitted
    theirs = SnorkelModel(cardinality=3, verbose=False)
    theirs.fit(votes.hard, class_balance=BALANCE.tolist(), n_epochs=500, lr=0.01, seed=3, progress_bar=False)
    np.testing.assert_allclose(ours.probabilities(votes), theirs.predict_proba(votes.hard), rtol=1e-5, atol=1e-7)


def test_a_vote_of_probabilities_counts_for_each_class_as_much(fitted):
    votes, model = fitted
    certain = {0: votes.shares(0)}
    np.testing.assert_allclose(model.probabilities(votes._replace(soft=certain)), model.probabilities(votes))
    soft = np.array([[0.7, 0.2, 0.1]], np.float32)
    one = votes_of([[0] + [-1] * 8], soft={0: soft})
    expected = np.exp(np.log(BALANCE) + soft @ model.log_likelihoods[0])
    np.testing.assert_allclose(model.probabilities(one), expected / expected.sum(), rtol=1e-6)


def test_a_row_without_votes_has_the_class_balance(fitted):
    silent = votes_of([[-1] * 9])
    np.testing.assert_allclose(fitted[1].probabilities(silent)[0], BALANCE)
    np.testing.assert_allclose(majority_vote(silent, BALANCE)[0], BALANCE)


def test_a_seed_gives_one_model_and_leaves_the_generators_of_the_process_alone(fitted):
    votes, model = fitted
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    torch.manual_seed(1)
    again = fit_label_model(votes, BALANCE, seed=3)
    drawn = np.random.random(), random.random(), float(torch.rand(()))  # noqa: NPY002
    np.testing.assert_array_equal(again.log_likelihoods, model.log_likelihoods)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    torch.manual_seed(1)
    assert drawn == (np.random.random(), random.random(), float(torch.rand(())))  # noqa: NPY002


def test_many_votes_make_no_probability_nan():
    votes = votes_of([[0] * 3 + [1] * 3 + [2] * 3] * 2)
    many = fit_label_model(votes, BALANCE, seed=0)._replace(
        functions=tuple(f"f{i}" for i in range(4000)), log_likelihoods=np.full((4000, 3, 3), np.log(1e-3))
    )
    assert np.isfinite(many.probabilities(votes_of([[0] * 4000]))).all()


def test_the_majority_is_that_of_snorkel(fitted):
    votes, _ = fitted
    covered = votes.counts > 0
    theirs = MajorityLabelVoter(cardinality=3).predict_proba(votes.hard)[covered]
    ours = majority_vote(votes, BALANCE)[covered]
    np.testing.assert_allclose(ours.sum(axis=1), 1)
    best = np.isclose(ours, ours.max(axis=1, keepdims=True))
    np.testing.assert_allclose(best / best.sum(axis=1, keepdims=True), theirs)
    soft = votes_of([[0, 1]], soft={0: np.array([[0.6, 0.4, 0.0]], np.float32)})
    np.testing.assert_allclose(majority_vote(soft, BALANCE), [[0.3, 0.7, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    "balance",
    [(0.5, 0.3, 0.2), (0.8, 0.2), (0.1, 0.2, 0.3, 0.4), (1 / 3, 1 / 3, 1 / 3)],
    ids=lambda shares: f"{len(shares)} classes",
)
def test_the_estimated_balance_is_near_the_true_one_and_nearer_than_the_votes(balance):
    votes, true = simulated(5, np.array(balance))
    shares = np.bincount(true) / len(true)
    estimated = class_balance(["estimated"], votes)
    assert estimated.sum() == pytest.approx(1)
    np.testing.assert_allclose(estimated, shares, atol=0.04)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [(["uniform"], [1 / 3] * 3), (["c=0.2", "a=0.5", "b=0.3"], [0.5, 0.3, 0.2])],
    ids=["uniform", "given"],
)
def test_a_balance_that_is_said(setting, expected):
    assert class_balance(setting, simulated(0)[0]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["equal"], "'equal' is neither uniform, estimated nor label=share"),
        (["a=0.5", "d=0.5"], "'d' is no class; there are a, b, c"),
        (["a=0.5", "a=0.5"], "'a' is named twice"),
        (["a=0.5", "b=0.5"], "has no share of 'c'"),
        (["a=0.5", "b=0.5", "c=0.5"], "has shares of sum 1.5"),
        (["a=0.5", "b=0.5", "c=0"], "'c=0' needs a share after the equals sign"),
        (["a=0.5", "b=0.5", "c=nan"], "'c=nan' needs a share"),
    ],
    ids=["word", "unknown", "twice", "missing", "sum", "zero", "no number"],
)
def test_a_balance_that_does_not_fit(setting, message):
    with pytest.raises(ConfigError, match=message):
        class_balance(setting, simulated(0)[0])


def test_without_snorkel_the_label_model_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "snorkel.labeling.model", None)
    with pytest.raises(ConfigError, match=r"pip install 'bertjax\[labeling\]', or take --method majority"):
        fit_label_model(simulated(0)[0], BALANCE, seed=0)


@pytest.mark.filterwarnings("ignore:Input has data type:FutureWarning")  # inside Snorkel, of SciPy
def test_the_table_of_functions_is_that_of_snorkel():
    votes, true = simulated(1, num_rows=300)
    truth = [votes.labels[k] for k in true]
    theirs = LFAnalysis(votes.hard)
    ours = function_statistics(votes, votes, truth)
    columns = np.array([[row.coverage, row.overlap, row.conflict, row.accuracy] for row in ours]).T
    accuracies = theirs.lf_empirical_accuracies(true)
    expected = theirs.lf_coverages(), theirs.lf_overlaps(), theirs.lf_conflicts(), accuracies
    np.testing.assert_allclose(columns, expected)
    assert [row.labels for row in ours] == [(votes.labels[k],) for k in (0, 1, 2) * 3]
    assert [row.labelled for row in ours] == (votes.hard >= 0).sum(axis=0).tolist()


def test_statistics_of_a_labelled_set_with_other_labels_and_of_a_function_that_is_silent_there():
    rows = function_statistics(votes_of([[0, -1], [1, 2]]), votes_of([[0, -1], [1, -1]]), ["a", "else"])
    assert [(row.labelled, row.accuracy) for row in rows] == [(2, 0.5), (0, None)]
