"""A point of a space with a finite number of them is tried once, whatever the searcher, unless more is asked for."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.data.table import Table
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.search_space import (
    Choice,
    Grid,
    LogUniform,
    RandInt,
    When,
    active,
    count_points,
    key_of,
    options_of,
)
from bertjax.sweeps.searchers import LedgerSearcher
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import COST
from bertjax.training.settings.finetune_config import FineTuneConfig

BASE = FineTuneConfig(data=Table("t.csv", validation="v.csv"))
RATES = Choice((1e-4, 1e-3, 1e-2))
NAMES = ("adamw", "sgd")


def if_sgd(then):
    return {"optimizer.learning_rate": When("optimizer.name", ("sgd",), then)}


SPACES = {  # the space, and how many points it has
    "choices": ({"optimizer.learning_rate": RATES, "pooling": Choice(("cls", "mean"))}, 6),
    "integers": ({"epochs": RandInt(1, 6)}, 5),
    "an option twice": ({"epochs": Choice((1, 1, 2))}, 2),
    "a grid": ({"optimizer.learning_rate": RATES, "pooling": Grid(("cls", "mean"))}, 6),
    "a condition": ({"optimizer.name": Choice(NAMES), **if_sgd(RATES)}, 4),
    "a condition on a grid": ({"optimizer.name": Grid(NAMES), **if_sgd(RATES)}, 4),
}


def searching(sweep, folder):
    ledger = Ledger(folder)
    ledger.open(sweep)
    return LedgerSearcher(sweep, ledger, COST)


def run(search, prefix, count=99):
    """As many trials as the searcher has, each of which reports a score."""
    tried = []
    for i in range(count):
        suggestion = search.suggest(f"{prefix}{i}")
        if suggestion == "FINISHED":
            return tried
        tried.append(suggestion["values"])
        search.on_trial_complete(f"{prefix}{i}", {COST: 0.5, "training_iteration": 1})
    return tried


@pytest.mark.parametrize("searcher", ["random", "optuna", "hyperopt"])
@pytest.mark.parametrize(("space", "points"), SPACES.values(), ids=SPACES)
def test_no_point_is_drawn_twice(tmp_path, searcher, space, points):
    sweep = Sweep(BASE, space, samples=30, searcher=searcher)
    assert sweep.total_trials == points
    begun = run(searching(sweep, tmp_path), "a", count=2)
    Ledger(tmp_path).record(0, status="failed", cause="diverged")
    tried = run(searching(sweep, tmp_path), "b")
    assert len(tried) == points - 1  # the failed one is not repeated
    keys = {key_of(values) for values in [begun[0], *tried]}
    assert len(keys) == points


def test_lists_that_json_has_in_the_place_of_tuples(tmp_path):
    sweep = Sweep(BASE, {"data.steps": Choice((("lower",), ("lower", "strip_markup"), ()))}, samples=9)
    (begun,) = run(searching(sweep, tmp_path), "a", count=1)
    Ledger(tmp_path).record(0, status="failed", cause="diverged")
    assert len({key_of(values) for values in [begun, *run(searching(sweep, tmp_path), "b")]}) == 3


def test_points_that_are_asked_for_are_tried_again(tmp_path):
    space, points = SPACES["choices"]
    asked = ({"optimizer.learning_rate": 1e-3, "pooling": "cls"},) * 2
    tried = run(searching(Sweep(BASE, space, samples=4, initial_points=asked), tmp_path / "a"), "a")
    assert tried[:2] == list(asked)
    assert len({key_of(values) for values in tried[1:]}) == 3
    often = Sweep(BASE, space, samples=30, repeat_points=True)
    assert often.total_trials == 30
    assert len(run(searching(often, tmp_path / "b"), "a")) == 30 > points


def test_few_draws_from_a_large_space(tmp_path):
    """Nothing goes through all points of a space that has many."""
    sweep = Sweep(BASE, {"seed": RandInt(0, 2**32 - 1), "epochs": RandInt(1, 10**6)}, samples=20)
    assert count_points(sweep.space) == (2**32 - 1) * (10**6 - 1)
    assert len({key_of(values) for values in run(searching(sweep, tmp_path), "a")}) == 20


def test_a_range_of_numbers_has_no_end():
    assert count_points({"optimizer.learning_rate": LogUniform(1e-5, 1e-1), "epochs": Choice((1, 2))}) is None
    assert Sweep(BASE, {"optimizer.learning_rate": LogUniform(1e-5, 1e-1)}, samples=30).total_trials == 30


OPTIONS = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)


@given(st.data())
@settings(max_examples=50)
def test_the_number_of_points(data):
    free = {name: Choice(data.draw(OPTIONS)) for name in "abc"[: data.draw(st.integers(1, 3))]}
    bound = {
        name: When(data.draw(st.sampled_from(sorted(free))), data.draw(OPTIONS), Choice(data.draw(OPTIONS)))
        for name in "xyz"[: data.draw(st.integers(0, 3))]
    }
    space = free | bound
    every = itertools.product(*(options_of(dimension) for dimension in space.values()))
    points = (dict(zip(space, values, strict=True)) for values in every)
    assert count_points(space) == len({key_of(active(space, point)) for point in points})
