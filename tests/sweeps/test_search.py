"""Searchers: the same trials after a restart, each in the ledger before it starts; the ledger's file."""

import json

import pytest

from bertjax.data.table import Table
from bertjax.sweeps.ledger import TRIALS, Ledger
from bertjax.sweeps.search_space import Choice, Grid, LogUniform, When
from bertjax.sweeps.searchers import LedgerSearcher
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import COST
from bertjax.training.settings.finetune_config import FineTuneConfig

SPACE = {"optimizer.learning_rate": LogUniform(1e-5, 1e-1), "pooling": Choice(("cls", "mean"))}


def sweep_of(searcher, **settings):
    base = FineTuneConfig(data=Table("t.csv", validation="v.csv"))
    return Sweep(base, settings.pop("space", SPACE), samples=8, searcher=searcher, **settings)


def start(sweep, folder):
    ledger = Ledger(folder)
    ledger.open(sweep)
    return LedgerSearcher(sweep, ledger, COST)


def take(search, count, prefix):
    """Suggestions of as many trials, each of which reports a score."""
    given = []
    for i in range(count):
        trial_id = f"{prefix}{i}"
        suggestion = search.suggest(trial_id)
        given.append(suggestion)
        if isinstance(suggestion, dict):
            search.on_trial_complete(trial_id, {COST: suggestion["number"], "training_iteration": 1})
    return given


@pytest.mark.parametrize("searcher", ["random", "optuna", "hyperopt"])
def test_a_restart_repeats_the_trials_of_the_ledger_and_goes_on(searcher, tmp_path):
    sweep = sweep_of(searcher)
    first = take(start(sweep, tmp_path), 5, "a")
    assert [trial.values for trial in Ledger(tmp_path).trials()] == [given["values"] for given in first]
    again = take(start(sweep, tmp_path), 9, "b")
    assert again[:5] == first
    assert again[8] == "FINISHED"
    numbers = [given["number"] for given in again[:8]]
    assert numbers == list(range(8))
    assert len({json.dumps(given["values"]) for given in again[:8]}) == 8  # all of them differ
    assert Ledger(tmp_path).trial_of("b3").number == 3


@pytest.mark.parametrize("searcher", ["random", "optuna", "hyperopt"])
def test_initial_points_come_first(searcher, tmp_path):
    point = {"optimizer.learning_rate": 1e-3, "pooling": "mean"}
    sweep = sweep_of(searcher, initial_points=(point,))
    start(sweep, tmp_path).suggest("a")
    given = Ledger(tmp_path).trials()[0].values
    assert given["pooling"] == "mean"
    assert given["optimizer.learning_rate"] == pytest.approx(1e-3)  # HyperOpt keeps its logarithm


def test_random_draws_are_the_same_wherever_the_driver_was_killed(tmp_path):
    sweep = sweep_of("random")
    whole = take(start(sweep, tmp_path / "whole"), 8, "a")
    take(start(sweep, tmp_path / "cut"), 3, "a")
    assert take(start(sweep, tmp_path / "cut"), 8, "b") == whole


def test_failed_trials_are_not_repeated_and_a_torn_line_is_ignored(tmp_path):
    sweep = sweep_of("random")
    first = take(start(sweep, tmp_path), 3, "a")
    Ledger(tmp_path).record(1, status="failed", cause="out of memory")
    with (tmp_path / TRIALS).open("a") as file:
        file.write('{"number": 3, "dra')
    again = take(start(sweep, tmp_path), 3, "b")
    assert [given["number"] for given in again] == [0, 2, 3]
    assert again[1] == first[2]
    assert [trial.cause for trial in Ledger(tmp_path).trials()] == ["", "out of memory", "", ""]


def test_the_file_has_every_change_of_a_ledger_that_reads_it_once(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.record(0, drawn={"a": 1}, values={"a": 1}, ray_id="x")
    (tmp_path / TRIALS).rename(tmp_path / "elsewhere")
    ledger.record(0, status="stopped", cause="ended early by asha")
    assert ledger.trials() == [ledger.trial_of("x")]
    assert ledger.trial_of("x").status == "stopped"
    lines = [(tmp_path / name).read_text() for name in ("elsewhere", TRIALS)]
    (tmp_path / TRIALS).write_text("".join(lines))
    assert Ledger(tmp_path).trials() == ledger.trials()


def test_a_grid_multiplies_what_is_drawn_and_conditions_hold(tmp_path):
    space = {
        "optimizer.name": Grid(("adamw", "sgd")),
        "optimizer.learning_rate": When("optimizer.name", ("sgd",), LogUniform(1e-5, 1e-1)),
        "pooling": Choice(("cls", "mean")),
    }
    given = take(start(sweep_of("random", space=space), tmp_path), 17, "a")
    assert given[16] == "FINISHED"
    names = [one["values"]["optimizer.name"] for one in given[:16]]
    assert names.count("sgd") == 8
    for one in given[:16]:
        assert ("optimizer.learning_rate" in one["values"]) == (one["values"]["optimizer.name"] == "sgd")
