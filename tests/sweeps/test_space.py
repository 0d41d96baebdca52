"""The space of a sweep: what it refuses, which trials it stands for, and that it goes to JSON and back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.data.table import Table
from bertjax.errors import ConfigError, RunFolderError
from bertjax.sweeps import search_space as spaces
from bertjax.sweeps import sweep_config as configs
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.search_space import Choice, Grid, LogUniform, RandInt, Uniform, When
from bertjax.sweeps.sweep_config import Sweep
from bertjax.training.settings.finetune_config import FineTuneConfig

BASE = FineTuneConfig(data=Table("t.csv", validation="v.csv"))
RATE = {"optimizer.learning_rate": LogUniform(1e-5, 1e-3)}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "the space is empty"),
        ({"optimizer.learning_rte": Uniform(0, 1)}, "did you mean optimizer.learning_rate?"),
        ({"epochs": Uniform(1, 3)}, "space: epochs: epochs cannot be 1"),
        ({"batch_size": RandInt(0, 9)}, "space: batch_size: batch_size must be 1 or more, got 0"),
        ({"pooling": Choice(("cls", "max"))}, "space: pooling: pooling cannot be 'max'"),
        ({**RATE, "epochs": When("batch_size", (8,), Choice((1, 2)))}, "depends on batch_size, which must be another"),
        (
            {"batch_size": Choice((8, 16)), "epochs": When("batch_size", (32,), Choice((1, 2)))},
            "epochs waits for batch_size = 32, which never comes",
        ),
    ],
)
def test_spaces_that_are_refused(space, message):
    with pytest.raises(ConfigError) as caught:
        Sweep(BASE, space)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"searcher": "grid"}, "optimizer.learning_rate is a range; give a Grid"),
        ({"samples": 0}, "samples must be 1 or more, got 0"),
        ({"initial_points": ({"epochs": 3},)}, "must name optimizer.learning_rate, and only that"),
        ({"gpus": 1.5}, "gpus above 1 must be whole"),
        ({"scheduler": "pbt"}, "scheduler must be none, asha, hyperband or median, got 'pbt'"),
        ({"base": FineTuneConfig()}, "a sweep judges trials on validation rows"),
    ],
)
def test_sweeps_that_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        Sweep(**{"base": BASE, "space": RATE, **settings})
    assert message in str(caught.value)


@pytest.mark.parametrize("make", [Uniform, LogUniform, RandInt])
def test_a_range_the_wrong_way_round(make):
    with pytest.raises(ConfigError, match="low < high"):
        make(3, 2)


@given(st.floats(0, 1, exclude_max=True))
def test_every_draw_is_inside_of_its_range(share):
    assert 1e-5 * (1 - 1e-12) <= LogUniform(1e-5, 1e-3).at(share) <= 1e-3
    assert RandInt(2, 5).at(share) in (2, 3, 4)
    assert -1 <= Uniform(-1, 1).at(share) <= 1
    assert Choice(("a", "b")).at(share) == ("a" if share < 0.5 else "b")


def test_a_loguniform_draw_is_uniform_in_the_logarithm():
    np.testing.assert_allclose(LogUniform(1e-5, 1e-3).at(0.5), 1e-4)


def test_a_grid_takes_every_combination_once():
    space = {"batch_size": Grid((8, 16)), "pooling": Grid(("cls", "mean", "pooler"))}
    points = spaces.grid_points(space)
    assert len(points) == 6
    assert Sweep(BASE, space, searcher="grid").total_trials == 6
    assert Sweep(BASE, {**space, **RATE}, samples=4).total_trials == 24


def test_a_condition_makes_no_trial_twice():
    space = {
        "optimizer.name": Grid(("adamw", "sgd")),
        "optimizer.learning_rate": When("optimizer.name", ("sgd",), Grid((0.1, 0.01))),
    }
    points = [spaces.active(space, point) for point in spaces.grid_points(space)]
    assert points == [
        {"optimizer.name": "adamw"},
        {"optimizer.name": "sgd", "optimizer.learning_rate": 0.1},
        {"optimizer.name": "sgd", "optimizer.learning_rate": 0.01},
    ]


def test_json_gives_the_same_sweep():
    space = {
        **RATE,
        "optimizer.name": Choice(("adamw", "sgd")),
        "seed": Grid((0, 1)),
        "freeze": Choice(((), ("embeddings",))),
        "optimizer.warmup": When("optimizer.name", ("sgd",), Uniform(0.0, 0.5)),
    }
    sweep = Sweep(BASE, space, samples=3, searcher="optuna", scheduler="asha", resources={"TPU": 4})
    assert configs.from_json(json.loads(json.dumps(configs.to_json(sweep)))) == sweep


def test_sweeps_of_versions_that_had_population_based_training(tmp_path):
    values = configs.to_json(Sweep(BASE, RATE, scheduler="asha")) | {"perturbation_epochs": 1}
    (tmp_path / "sweep.json").write_text(json.dumps(values))
    assert Ledger(tmp_path).sweep() == Sweep(BASE, RATE, scheduler="asha")
    (tmp_path / "sweep.json").write_text(json.dumps(values | {"scheduler": "pbt"}))
    (tmp_path / "trials.jsonl").write_text('{"settled": 1, "exploits": []}\n')
    with pytest.raises(RunFolderError, match=r"sweep.json cannot be read: scheduler must be none, .* got 'pbt'; "):
        Ledger(tmp_path).sweep()
