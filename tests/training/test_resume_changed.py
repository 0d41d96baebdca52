"""A run that is resumed with something else: what is refused, and that the rest is what a run with it would do."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import reduce
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax import FineTuneConfig
from bertjax.data.batching.batch_plan import Plan
from bertjax.data.table import Table
from bertjax.errors import Interrupted, RunFolderError
from bertjax.settings import flatten, override
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.checkpoint.checkpoints import Restored
from bertjax.training.loop.early_stopping import BestSoFar, choose_best_metric
from bertjax.training.loop.train_metrics import TrainMetrics
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.optim.optimizer_state import LearningRateState, find
from bertjax.training.optim.schedules import after_evaluation
from bertjax.training.run.environment import computing_facts
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.resume import continue_from
from bertjax.training.settings.options import EarlyStopping, Evaluation, Optimizer
from bertjax.training.settings.resume_rules import RULES, changes_between, check_changes, rule_of
from bertjax.training.train_state import TrainState
from tests.support.models import network
from tests.support.tracking import logged_losses, stop_after

ROOT = Path(__file__).parents[2]
INPUT = ("train_rows", "validation_rows", "test_rows", "weights", "tokenizer", "target_scale")


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    """48 training rows, so 6 steps an epoch."""
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), validation=str(reviews), text=("title", "body"), label="stars", leaks="report"),
        epochs=4,
        max_length=48,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-3, warmup=0.0),
    )


def run(config: FineTuneConfig, folder: Path, stop: int | None = None, **how):
    """The tracker of a run that is stopped after so many steps."""
    tracker = MemoryTracker()
    if stop is None:
        finetune(config, folder, tracker=tracker, **how)
    else:
        with pytest.raises(Interrupted):
            finetune(config, folder, tracker=tracker, should_stop=stop_after(stop), **how)
    return tracker


def rates(tracker: MemoryTracker) -> dict[int, float]:
    """Step -> learning rate."""
    return {step: row["train/learning_rate"] for step, row in tracker.metrics if "train/learning_rate" in row}


def losses(tracker: MemoryTracker) -> list[tuple[int, float]]:
    """(step, training loss) of every step."""
    return [(step, row["train/loss"]) for step, row in tracker.metrics if "train/grad_norm" in row]


def epochs(tracker: MemoryTracker) -> list[float]:
    return [row["epoch"] for _, row in tracker.metrics if "epoch" in row]


@pytest.mark.parametrize(("before", "after"), [(8, 24), (24, 8)], ids=["larger", "smaller"])
def test_another_batch_size_leaves_the_epochs_as_many(config, tmp_path, before, after):
    """After one epoch of four, three are left: of as many steps as they have, at the rates they have."""
    of_before, of_after = 48 // before, 48 // after
    run(replace(config, batch_size=before), tmp_path / "run", stop=of_before)
    changed = replace(config, batch_size=after)
    resumed = run(changed, tmp_path / "run", if_exists="resume_changed")
    steps = range(of_before + 1, of_before + 3 * of_after + 1)
    # The linear schedule falls from the peak to 0 over the steps of four epochs.
    expected = [1e-3 * (1 - done / (4 * of_after)) for done in range(of_after, 4 * of_after)]
    assert list(rates(resumed)) == list(steps)
    np.testing.assert_allclose(list(rates(resumed).values()), expected, rtol=1e-5)
    assert epochs(resumed) == [2, 3, 4]


def test_a_second_stop_after_a_change_is_resumed_to_the_same_numbers(config, tmp_path):
    """The checkpoint knows that its steps and those of the plan differ: nothing has changed any more."""
    changed = replace(config, batch_size=24)
    run(config, tmp_path / "once", stop=6)
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    at_once = losses(run(changed, tmp_path / "once", if_exists="resume_changed"))
    first = losses(run(changed, tmp_path / "twice", stop=3, if_exists="resume_changed"))
    assert [step for step, _ in at_once] == list(range(7, 13))
    assert [*first, *losses(run(changed, tmp_path / "twice", if_exists="resume"))] == at_once


def test_an_epoch_that_has_begun_ends_with_the_batch_size_it_has(config, tmp_path):
    run(config, tmp_path / "run", stop=4)
    with pytest.raises(RunFolderError, match="is within epoch 1, .* between epochs: batch_size was 8, now 24"):
        run(replace(config, batch_size=24), tmp_path / "run", if_exists="resume_changed")


def test_fewer_epochs_than_were_begun(config, tmp_path):
    run(config, tmp_path / "run", stop=7)
    with pytest.raises(RunFolderError, match="has begun its epoch 2, and with --epochs 1 it would have ended"):
        run(replace(config, epochs=1), tmp_path / "run", if_exists="resume_changed")


def test_a_finished_run_that_trains_on_is_not_finished(config, tmp_path):
    """Its results are of fewer epochs than its settings say, and a start that is stopped leaves none."""
    run(replace(config, epochs=1), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").is_file()
    run(replace(config, epochs=2), tmp_path / "run", stop=2, if_exists="resume_changed")
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert epochs(run(replace(config, epochs=2), tmp_path / "run", if_exists="resume")) == [2]
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_patience_is_decided_again(config, tmp_path):
    """At a rate of almost nothing no evaluation is better than the first."""
    still = replace(config, optimizer=Optimizer(learning_rate=1e-12), early_stopping=EarlyStopping(patience=1))
    assert epochs(run(still, tmp_path / "run")) == [1, 2]
    assert epochs(run(still, tmp_path / "run", if_exists="resume")) == []  # nothing has changed
    patient = replace(still, early_stopping=EarlyStopping(patience=2))
    assert epochs(run(patient, tmp_path / "run", if_exists="resume_changed")) == [3]
    endless = replace(still, early_stopping=EarlyStopping())
    assert epochs(run(endless, tmp_path / "run", if_exists="resume_changed")) == [4]


FIXED = {
    "task": "multi_label",
    "standardize_targets": False,
    "pooling": "mean",
    "seed": 1,
    "freeze": ["embeddings"],
    "lora.rank": 8,
    "init_missing": ["cls.*"],
    "drop": ["cls.*"],
    "resize_embeddings": True,
    "experiment": "other",
    "optimizer.name": "lion",
    "optimizer.clip_norm": 0.0,
    "optimizer.ema_decay": 0.9,
    "optimizer.schedule": "reduce_on_plateau",
    "regularization.mixout": 0.5,
}


@pytest.mark.parametrize("key", FIXED)
def test_what_no_run_can_change_half_way(key):
    """These are refused with the reason, whatever is allowed; all others, once that is allowed, are not."""
    config = FineTuneConfig()
    changes = changes_between(flatten(config), flatten(override(config, {key: FIXED[key]})))
    assert [change.key for change in changes] == [key]
    with pytest.raises(RunFolderError, match=rf"even under --allow-changed: {re.escape(key)} was .*; the|it is used"):
        check_changes("out", changes, allowed=True)


@pytest.mark.parametrize("key", ["weights", "tokenizer", "target_scale"])
def test_input_that_no_run_can_change_half_way(key):
    with pytest.raises(RunFolderError, match=f"even under --allow-changed: {key} was 'a', now 'b'; the "):
        check_changes("out", changes_between({key: "a"}, {key: "b"}), allowed=True)


def test_switches_may_be_turned_further():
    before = {"optimizer.clip_norm": 1.0, "optimizer.ema_decay": 0.9, "regularization.mixout": 0.5}
    now = {"optimizer.clip_norm": 2.0, "optimizer.ema_decay": 0.99, "regularization.mixout": 0.4}
    check_changes("out", changes_between(before, now), allowed=True)


def test_every_setting_and_fact_has_a_rule_and_a_line_in_the_page():
    keys = [*flatten(FineTuneConfig()), *INPUT, *computing_facts()]
    assert {rule_of(key).effect for key in keys} == {
        "fixed", "between epochs", "from here", "decided again", "not computed with",
    }  # fmt: skip
    page = (ROOT / "docs" / "resume.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.*]+)` \| ([\w ]+)(?:: (.*?))? \|$", page, re.MULTILINE)
    assert {(key, effect, reason) for key, effect, reason in rows} == {
        (key, rule.effect, rule.reason) for key, rule in RULES.items()
    }


# Decisions of earlier evaluations, in a run of 4 steps an epoch that is after its third.
VALUES = [{"accuracy": 0.5, "loss": 0.9}, {"accuracy": 0.7, "loss": 0.8}, {"accuracy": 0.6, "loss": 0.7}]
HISTORY = [
    {"epoch": number, "epoch/train_loss": 1.0 / number} | {f"validation/{name}": value for name, value in row.items()}
    for number, row in enumerate(VALUES, start=1)
]
PLAN = Plan(32, 8, 6, 0, (), True)


def continued(config: FineTuneConfig, before: FineTuneConfig, state: TrainState, fresh: TrainState, **facts: str):
    """`continue_from` after three epochs of a run with the settings `before`, whose facts have become `facts`."""
    metric = choose_best_metric(before.evaluation, before.early_stopping, validates=True)
    best = reduce(lambda best, row: metric.update(best, 4 * row["epoch"], row), HISTORY, BestSoFar())
    metrics = TrainMetrics(
        history=HISTORY, history_steps=[4, 8, 12], steps_per_epoch=4, best_so_far=best, stopped_early=True
    )
    stored = flatten(before) | dict.fromkeys(facts, "earlier")
    changes = changes_between(stored, flatten(config) | facts)
    return continue_from(Restored(state, metrics.to_json(), stored), changes, config, PLAN, fresh, validates=True)


def state_of(optimizer: Optimizer) -> tuple[TrainState, TrainState]:
    """The states after step 12 and before the first."""
    model, params = network()
    opt_state = jax.device_get(make_optimizer(optimizer, PLAN.total_steps, model).init(params))
    key = np.zeros(2, np.uint32)
    return TrainState({}, opt_state, np.int32(12), key), TrainState({}, opt_state, np.int32(0), key)


DECIDED = {
    "patience longer": ({"early_stopping.patience": 2}, (8, 1, False)),
    "patience shorter": ({"early_stopping.patience": 1, "early_stopping.min_improvement": 0.3}, (4, 2, True)),
    "no patience": ({"early_stopping.patience": None}, (8, 1, False)),
    "another metric": ({"evaluation.best_metric": "validation/loss", "early_stopping.patience": 1}, (12, 0, False)),
    "the other way": ({"evaluation.best_mode": "min", "early_stopping.patience": 2}, (4, 2, True)),
}


@pytest.mark.parametrize(("changes", "expected"), DECIDED.values(), ids=DECIDED)
def test_the_best_and_the_end_are_decided_again(changes, expected):
    before = FineTuneConfig(early_stopping=EarlyStopping(patience=1, min_improvement=0.01))
    state, fresh = state_of(before.optimizer)
    _, metrics = continued(override(before, changes), before, state, fresh)
    best = metrics.best_so_far
    assert (best.best_step, best.evaluations_since, metrics.stopped_early) == expected


def test_evaluations_on_other_rows_are_not_compared():
    before = FineTuneConfig(early_stopping=EarlyStopping(patience=1))
    state, fresh = state_of(before.optimizer)
    _, metrics = continued(before, before, state, fresh, validation_rows="b")
    assert metrics.best_so_far.best_step == 0
    assert not metrics.stopped_early
    by_loss = replace(before, evaluation=Evaluation(best_metric="epoch/train_loss"))
    _, metrics = continued(by_loss, by_loss, state, fresh, validation_rows="b")
    assert metrics.best_so_far.best_step == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer.plateau_patience": 1},
        {"optimizer.plateau_factor": 0.1, "optimizer.plateau_patience": 1},
        {"evaluation.best_metric": "validation/loss"},
    ],
    ids=", ".join,
)
def test_the_rate_on_a_plateau_is_that_of_a_run_with_these_settings(changes):
    """As if the run had been evaluated with them all the time."""
    before = FineTuneConfig(optimizer=Optimizer(schedule="reduce_on_plateau", plateau_patience=3, warmup=0.0))
    now = override(before, changes)
    state, fresh = state_of(before.optimizer)
    expected = jax.device_put(fresh)
    for row in HISTORY:
        cost = row["validation/loss"] if now.evaluation.best_metric else -row["validation/accuracy"]
        expected = after_evaluation(now.optimizer, expected, cost)
    found, _ = continued(now, before, state, fresh)
    left, right = (find(of.opt_state, LearningRateState).plateau for of in (found, expected))
    for name in left._fields:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_a_checkpoint_of_a_version_that_did_not_count_the_steps_of_an_epoch():
    before = FineTuneConfig(batch_size=8)
    state, fresh = state_of(before.optimizer)
    restored = Restored(state, {"standing": {}, "history": HISTORY}, flatten(before))
    _, metrics = continue_from(restored, [], before, PLAN, fresh, True)
    assert metrics.history_steps == [4, 8, 12]
    assert metrics.validation_at(8) == {"validation/accuracy": 0.7, "validation/loss": 0.8}
    now = replace(before, batch_size=16)
    with pytest.raises(RunFolderError, match="earlier version, .* batch_size was 8, now 16"):
        continue_from(restored, changes_between(flatten(before), flatten(now)), now, PLAN, fresh, True)


def test_numbers_are_learned_in_the_unit_they_began_with(tiny_model, tmp_path):
    table = tmp_path / "prices.csv"
    table.write_text("text,price\n" + "".join(f"good film {'very ' * i},{i * 100}\n" for i in range(40)))
    config = FineTuneConfig(
        str(tiny_model), Table(str(table), label="price"), task="regression", epochs=2, batch_size=8, max_length=16
    )
    run(config, tmp_path / "run", stop=4)
    table.write_text(table.read_text().replace(",3900", ",390000"))
    with pytest.raises(RunFolderError, match=r"allow-changed: target_scale was .*--model\) learns in those"):
        run(config, tmp_path / "run", if_exists="resume_changed")


def test_on_other_devices_a_run_goes_on_when_told_to_with_the_same_numbers(config, tmp_path):
    """With dropout, whose masks belong to examples; sums are taken in another order, so it is named first."""
    config = replace(config, epochs=2)
    expected = dict(losses(run(config, tmp_path / "undisturbed")))
    run(config, tmp_path / "run", stop=6)
    words = [
        *("--model", config.model, "--train", config.data.train, "--validation", config.data.train),
        *("--text-columns", "title", "body", "--label-column", "stars", "--leaks", "report", "--epochs", "2"),
        *("--max-length", "48", "--batch-size", "8", "--learning-rate", "1e-3", "--warmup", "0"),
        *("--out", str(tmp_path / "run"), "--resume"),
    ]

    def on_one_device(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bertjax", "finetune", *words, *more],
            env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip

    refused = on_one_device()
    assert refused.returncode == 2
    line = r".* other settings or data: devices was '2 x cpu', now '1 x cpu'; --allow-changed continues anyway"
    assert re.fullmatch(line, refused.stderr.splitlines()[-1])
    assert on_one_device("--allow-changed").returncode == 0
    found = dict(logged_losses(tmp_path / "run"))
    assert list(found) == list(range(7, 13))
    for step, loss in found.items():
        assert loss == pytest.approx(expected[step], abs=1e-5)  # float32 sums in another order, over 6 steps of AdamW
