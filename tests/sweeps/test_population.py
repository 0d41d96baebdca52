"""Populations: values that stay in range, weights that are really the donor's, and a stopped one that goes on."""

import json
import logging
import math
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.settings import override
from bertjax.sweeps.driver import SweepStopped, run_sweep
from bertjax.sweeps.ledger import TRIALS, Exploit, Ledger
from bertjax.sweeps.pbt.checkpoint_copy import clear, hand_over, take_over
from bertjax.sweeps.pbt.population import Population, exploited, explored
from bertjax.sweeps.results.sweep_results import experiment_file, read_results
from bertjax.sweeps.search_space import Choice, Grid, LogUniform, RandInt, Uniform, When
from bertjax.sweeps.sweep_config import PERTURBABLE, Sweep
from bertjax.sweeps.trial import Teller, run_trial
from bertjax.tasks import make_model
from bertjax.tracking import event_log
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.optimizer_defaults import OPTIMIZERS
from bertjax.training.settings.options import Checkpointing, EarlyStopping, Evaluation, Optimizer
from tests.support.models import TINY

BASE = FineTuneConfig(data=Table("t.csv", validation="v.csv"), epochs=3)
RATE = {"optimizer.learning_rate": LogUniform(1e-6, 1e-1)}
SETTINGS = {"base": BASE, "space": RATE, "samples": 4, "scheduler": "pbt"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"space": {"batch_size": Choice((8, 16))}},
            "cannot change batch_size in the middle of a run; it can change opt",
        ),
        ({"space": {"optimizer.weight_decay": Grid((0.0, 0.1))}}, "and optimizer.weight_decay is a grid"),
        (
            {"space": {**RATE, "dropout_rate": When("optimizer.learning_rate", (0.1,), Uniform(0, 0.5))}},
            "and dropout_rate is a when",
        ),
        ({"searcher": "optuna"}, "starts at random, not with searcher 'optuna'"),
        ({"samples": 1}, "needs samples of 2 or more, got 1"),
        ({"perturbation_epochs": 0}, "perturbation_epochs must be positive, got 0"),
        ({"perturbation_epochs": 3}, "with perturbation_epochs 3 nothing ever changes in 3 epochs"),
        ({"base": replace(BASE, early_stopping=EarlyStopping(patience=1))}, "leave out early_stopping.patience"),
        ({"seeds": (1, 2)}, "no config stands for that; leave out seeds"),
    ],
)
def test_populations_that_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        Sweep(**{**SETTINGS, **settings})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# What each may be changed to; an optimizer that has no such setting refuses it.
OTHERS = {
    "optimizer.learning_rate": 0.3, "optimizer.head_learning_rate": 0.2, "optimizer.layer_decay": 0.5,
    "optimizer.final_share": 0.5, "optimizer.power": 3.0, "optimizer.weight_decay": 0.3, "optimizer.b2": 0.5,
    "optimizer.eps": 0.1, "optimizer.momentum": 0.5, "dropout_rate": 0.5, "imbalance.label_smoothing": 0.5,
    "imbalance.focal_gamma": 2.0,
}  # fmt: skip
TRACES = {"optimizer.name": "lion", "optimizer.clip_norm": None, "optimizer.ema_decay": 0.9}


@pytest.fixture(scope="module")
def tiny():
    model = make_model(TINY, "classification", labels=("a", "b"))
    return model, model.init(jax.random.PRNGKey(0))


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor", "muon", "schedule_free_adamw"])
def test_what_a_population_may_change_leaves_no_trace_in_the_state(name, tiny):
    model, params = tiny

    def state(changes):
        config = override(FineTuneConfig(optimizer=Optimizer(name)), changes)
        return make_optimizer(config.optimizer, 100, model).init(params)

    assert set(OTHERS) == set(PERTURBABLE)
    own = OPTIMIZERS[name].settings
    lacks = {f"optimizer.{setting}" for setting in ("b2", "eps", "momentum") if setting not in own}
    plain = state({})
    for path in set(OTHERS) - lacks:
        jax.tree.map(np.testing.assert_array_equal, plain, state({path: OTHERS[path]}))
    for path, value in TRACES.items() if name == "adamw" else ():
        assert jax.tree.structure(state({path: value})) != jax.tree.structure(plain)


SPACE = {
    "a": Uniform(-1.0, 2.0), "b": LogUniform(1e-4, 1e-2), "c": RandInt(1, 9), "d": Choice((0.0, 0.1, 0.3)),
}  # fmt: skip


@given(st.integers(0, 2**32), st.tuples(*[st.floats(0, 1, exclude_max=True)] * len(SPACE)))
def test_explored_values_are_in_range_and_the_same_each_time(seed, shares):
    values = {path: range_.at(share) for (path, range_), share in zip(SPACE.items(), shares, strict=True)}
    found = explored(values, SPACE, np.random.default_rng(seed))
    assert found == explored(values, SPACE, np.random.default_rng(seed))
    assert -1 <= found["a"] <= 2
    assert 1e-4 * (1 - 1e-12) <= found["b"] <= 1e-2
    assert found["c"] in range(1, 9)
    assert found["d"] in (0.0, 0.1, 0.3)
    assert json.loads(json.dumps(found)) == found


def test_a_perturbed_value_is_a_step_away_and_no_further_than_the_bounds():
    assert LogUniform(1e-4, 1e-2).perturbed(1e-3, 1.2) == pytest.approx(1.2e-3)
    assert LogUniform(1e-4, 1e-2).perturbed(9e-3, 1.2) == 1e-2
    assert Uniform(0, 1).perturbed(0.5, 0.8) == pytest.approx(0.4)
    assert [RandInt(1, 5).perturbed(value, 1.2) for value in (1, 2, 4)] == [2, 3, 4]
    assert [RandInt(1, 5).perturbed(value, 0.8) for value in (1, 2, 4)] == [1, 1, 3]
    assert [Choice((1, 3, 9)).perturbed(value, 1.2) for value in (1, 3, 9)] == [3, 9, 9]
    assert [Choice((1, 3, 9)).perturbed(value, 0.8) for value in (1, 3, 9)] == [1, 1, 3]


def test_the_worst_quarter_goes_on_from_the_best_quarter():
    costs = {0: 0.3, 1: math.nan, 2: 0.1, 3: 0.5, 4: 0.2, 5: 0.4, 6: 0.6, 7: 0.7}
    chosen = exploited(costs, seed=0, evaluation=1)
    assert set(chosen) == {1, 7}  # what is not finite is the worst
    assert set(chosen.values()) <= {2, 4}
    assert chosen == exploited(costs, seed=0, evaluation=1)
    assert len({exploited(costs, seed, 1)[7] for seed in range(9)}) == 2
    assert exploited({0: 0.5, 1: 0.5, 2: 0.5, 3: 0.5}, 0, 1) == {}  # nobody is better
    assert exploited({0: 0.5}, 0, 1) == {}


def test_the_ledger_has_all_that_became_of_a_population_or_nothing(tmp_path):
    ledger = Ledger(tmp_path)
    for number in range(3):
        ledger.record(number, drawn={"a": number}, values={"a": number})
    ledger.settle(1, {2: (Exploit(1, 5, 0), {"a": 7})})
    ledger.settle(2, {})
    whole = (tmp_path / TRIALS).read_text()
    assert ledger.settled() == 2
    assert [trial.values["a"] for trial in ledger.trials()] == [0, 1, 7]
    assert (ledger.trials()[2].since, ledger.trials()[2].origin) == (5, "0 (step 5)")
    ledger.settle(3, {1: (Exploit(3, 15, 2), {"a": 8})})
    (tmp_path / TRIALS).write_text(whole + '{"settled": 3, "exploits": [{"number": 1')
    assert ledger.settled() == 2
    assert ledger.trials()[1].exploits == ()


def test_what_is_handed_over_outlives_the_donor_and_is_taken_once(tmp_path):
    donor, run = tmp_path / "000", tmp_path / "001"
    for folder, text in ((donor, "good"), (run, "bad")):
        (folder / "checkpoints" / "5").mkdir(parents=True)
        (folder / "checkpoints" / "5" / "state").write_text(text)
    (run / "checkpoints" / "6").mkdir()
    hand_over(donor, run)
    clear(run)
    take_over(run)
    assert (run / "checkpoints" / "5" / "state").read_text() == "bad"  # it was called off
    hand_over(donor, run)
    (donor / "checkpoints" / "5" / "state").unlink()
    for _ in range(2):
        take_over(run)
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["5"]
        assert (run / "checkpoints" / "5" / "state").read_text() == "good"


def test_trials_that_wait_for_the_others_make_room(tmp_path):
    ledger = Ledger(tmp_path)
    population = Population(Sweep(**SETTINGS, concurrency=1), ledger, "reports")
    trials = [
        SimpleNamespace(trial_id=f"t{i}", status="PENDING", config={"number": i}, is_finished=lambda: False)
        for i in range(2)
    ]
    controller = SimpleNamespace(search_alg=SimpleNamespace(is_finished=lambda: False))
    assert population.has_room()
    population.on_trial_add(controller, trials[0])
    assert not population.has_room()
    assert population.choose_trial_to_run(controller) is trials[0]
    trials[0].status = "RUNNING"
    assert population.on_trial_result(controller, trials[0], {"reports": 1}) == "PAUSE"
    trials[0].status = "PAUSED"
    assert population.has_room()
    population.on_trial_add(controller, trials[1])
    trials[1].status = "RUNNING"
    assert population.choose_trial_to_run(controller) is None
    ledger.settle(1, {})
    later = Population(Sweep(**SETTINGS), ledger, "reports")  # of a driver that goes on
    later.on_trial_add(controller, trials[0])
    assert [later.on_trial_result(controller, trials[0], {"reports": n}) for n in (1, 2, 3)] == [
        "CONTINUE", "PAUSE", "CONTINUE",
    ]  # fmt: skip


def population_at_the_end_of_a_turn(folder, scores):
    """A population of a new driver, in whose folder each trial has these scores and a checkpoint at its last one."""
    ledger, sweep = Ledger(folder), Sweep(**SETTINGS)
    population, trials = Population(sweep, ledger, "reports"), []
    controller = SimpleNamespace(search_alg=SimpleNamespace(is_finished=lambda: True))
    for number, told in enumerate(scores):
        if number == len(ledger.trials()):
            ledger.record(number, drawn={}, values={"optimizer.learning_rate": 10.0 ** -(number + 2)})
        run = ledger.run_folder(number)
        (run / "checkpoints" / str(5 * len(told))).mkdir(parents=True, exist_ok=True)
        with (run / event_log.FILE).open("w") as file:
            for i, score in enumerate(told, 1):
                file.write(json.dumps({"metrics": {"validation/accuracy": score}, "step": 5 * i}) + "\n")
        trials.append(SimpleNamespace(trial_id=str(number), status="RUNNING", config={"number": number}))
        trials[-1].is_finished = lambda: False
        population.on_trial_add(controller, trials[-1])
        for i in range(1, len(told) + 1):
            decision = population.on_trial_result(controller, trials[-1], {"reports": i})
        assert decision == "PAUSE"
        trials[-1].status = "PAUSED"
    return population, controller, trials


def test_a_driver_that_was_killed_while_it_judged_makes_the_same_choice_again_and_never_twice(tmp_path):
    first = [[0.5], [0.9], [0.1], [0.4]]
    population, controller, trials = population_at_the_end_of_a_turn(tmp_path, first)
    assert population.choose_trial_to_run(controller) is trials[0]
    population.on_trial_result(controller, trials[0], {"reports": 2})  # it was the only one that had room to go on
    assert population.choose_trial_to_run(controller) is trials[1]
    ledger, lines = Ledger(tmp_path), (tmp_path / TRIALS).read_text().splitlines(keepends=True)
    assert ledger.settled() == 1
    after = ledger.trials()
    assert after[2].exploits == (Exploit(1, 5, 1),)
    assert (ledger.run_folder(2) / "handed-over" / "5").is_dir()
    # Killed when all was handed over and the line was half written.
    (tmp_path / TRIALS).write_text("".join(lines[:-1]) + lines[-1][:20])
    population, controller, _ = population_at_the_end_of_a_turn(tmp_path, first)
    population.choose_trial_to_run(controller)
    assert ledger.trials() == after
    # Killed after it: the next turn is judged, and the first one is not.
    second = [[0.5, 0.2], [0.9, 0.8], [0.1, 0.7], [0.4, 0.6]]
    population, controller, _ = population_at_the_end_of_a_turn(tmp_path, second)
    population.choose_trial_to_run(controller)
    assert ledger.settled() == 2
    assert [[e.evaluation for e in trial.exploits] for trial in ledger.trials()] == [[2], [], [1], []]
    assert ledger.trials()[0].exploits[0].donor == 1


def test_a_trial_tells_the_end_of_its_turn_when_its_state_is_saved(tiny_model, reviews, in_folder, monkeypatch):
    """Whoever hears of it may hand its weights over, and end its process."""
    store = f"sqlite:///{in_folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    table = Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.25)
    base = FineTuneConfig(str(tiny_model), table, epochs=3, max_length=48, batch_size=8, pooling="mean")
    ledger = Ledger(in_folder / "s")
    ledger.open(Sweep(base, RATE, samples=4, scheduler="pbt"))
    ledger.record(0, drawn={}, values={"optimizer.learning_rate": 1e-3})
    run, told = ledger.run_folder(0), []

    def hear(self, step, row):
        told.append((step, (run / "checkpoints" / str(step) / "state").is_dir()))

    def start():
        run_trial({"number": 0}, str(ledger.folder), "0", str(in_folder), store)

    monkeypatch.setattr(Teller, "_report", hear)
    monkeypatch.setattr("bertjax.sweeps.trial._known_to_ray", lambda: 0)
    start()
    shutil.rmtree(run / "checkpoints")  # killed when it had measured, and not yet saved
    start()
    start()  # by another driver
    assert told == [(5, True)] * 3
    assert sorted(losses_of(run)) == [1, 2, 3, 4, 5]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["5"]


@pytest.mark.ray
def test_a_population_that_is_stopped_goes_on_and_its_worst_trials_have_weights_of_the_best(
    tiny_model, reviews, in_folder, ray_session
):
    table = Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.25)
    base = FineTuneConfig(
        str(tiny_model), table, epochs=3, max_length=48, batch_size=8, pooling="mean",
        checkpointing=Checkpointing(keep_checkpoints=9), evaluation=Evaluation(best_metric="epoch/train_loss"),
    )  # fmt: skip
    points = tuple({"optimizer.learning_rate": rate} for rate in (1e-6, 1e-2, 3e-2))
    sweep = Sweep(base, RATE, samples=3, scheduler="pbt", perturbation_epochs=2, initial_points=points, keep="all")

    class CtrlC(logging.Handler):
        """Pressed when the first trial of the second turn has come to its end."""

        def emit(self, record):
            if "epoch 3 of 3" in record.getMessage():
                os.kill(os.getpid(), signal.SIGINT)

    ctrl_c, logger = CtrlC(), logging.getLogger("bertjax.sweeps.tune_callback")
    logger.addHandler(ctrl_c)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(SweepStopped, match="--resume"):
            run_sweep(sweep, "s")
    finally:
        logger.removeHandler(ctrl_c)
        logger.setLevel(logging.NOTSET)
    before = read_results(in_folder / "s")
    assert Counter(result.trial.status for result in before.trials)["running"] > 0
    (weak,) = [result for result in before.trials if result.trial.exploits]
    (exploit,), number = weak.trial.exploits, weak.trial.number
    assert exploit.evaluation == 2
    assert number == max(range(3), key=lambda i: before.trials[i].curve[1][1])
    assert exploit.donor == min(range(3), key=lambda i: before.trials[i].curve[1][1])

    results = run_sweep(sweep, "s", resume=True)
    assert [result.trial.status for result in results.trials] == ["finished"] * 3
    assert [len(result.curve) for result in results.trials] == [3] * 3
    for result, stopped in zip(results.trials, before.trials, strict=True):
        assert result.curve[: len(stopped.curve)] == stopped.curve
    assert results.trials[number].best == results.trials[number].curve[-1][1]  # before, it had other weights
    lines = [json.loads(line) for line in (in_folder / "s" / TRIALS).read_text().splitlines()]
    assert [line["settled"] for line in lines if "settled" in line] == [2]
    assert results.trials[number].trial.exploits == (exploit,)
    assert results.trials[number].trial.values == weak.trial.values

    for result in results.trials:
        rate = result.trial.values["optimizer.learning_rate"]
        assert 1e-6 <= rate <= 1e-1
        used = json.loads((results.run_folder(result) / "config.json").read_text())
        assert used["optimizer.learning_rate"] == rate
    step, runs = exploit.step, {r.trial.number: results.run_folder(r) for r in results.trials}
    seals = {n: (run / "checkpoints" / str(step) / "state" / "seal.json").read_text() for n, run in runs.items()}
    assert seals[number] == seals[exploit.donor]
    assert len(set(seals.values())) == 2
    # The loss of the next step is that of the same weights, batch and dropout: a rate changes only what follows.
    losses = {n: losses_of(run) for n, run in runs.items()}
    assert losses[number][step] != losses[exploit.donor][step]
    assert losses[number][step + 1] == losses[exploit.donor][step + 1]
    assert losses[number][step + 2] != losses[exploit.donor][step + 2]

    client = MlflowClient(f"sqlite:///{in_folder}/mlflow.db")
    tracked = client.search_runs([client.get_experiment_by_name("bertjax").experiment_id])
    assert {run.info.status for run in tracked} == {"FINISHED"}
    children = {run.info.run_name: run for run in tracked if "mlflow.parentRunId" in run.data.tags}
    assert sorted(children) == ["000", "001", "002"]
    for run in children.values():
        steps = Counter(point.step for point in client.get_metric_history(run.info.run_id, "train/loss"))
        assert set(steps.values()) == {1}
        assert sorted(steps) == list(range(1, 3 * step // 2 + 1))
    tags = children[f"{number:03d}"].data.tags
    assert tags["bertjax.went_on_from"] == results.trials[number].trial.origin
    assert tags["bertjax.now.optimizer.learning_rate"] == str(
        results.trials[number].trial.values["optimizer.learning_rate"]
    )
    page = (in_folder / "s" / "report.html").read_text()
    assert f"{exploit.donor} (step {step})" in page
    said = "settings changed on the way"
    assert said in experiment_file(results, results.trials[number])
    assert said not in experiment_file(results, results.trials[exploit.donor])


def losses_of(run):
    events = event_log.events(run / event_log.FILE)
    return {e["step"]: e["metrics"]["train/loss"] for e in events if "train/loss" in e.get("metrics", {})}
