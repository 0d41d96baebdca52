"""Stacked seeds: one program, and the numbers of separate runs, with dropout and in packed rows of other shapes."""

import json
from dataclasses import replace

import chex
import jax
import numpy as np
import pytest

from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.batching.packing import Layout, layout_of, widened
from bertjax.data.table import Table
from bertjax.errors import ConfigError, Interrupted
from bertjax.losses import cross_entropy
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.optim import trained_words
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.run.prepare import prepare
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import EarlyStopping, Evaluation, Optimizer
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step
from tests.support.batches import make_examples
from tests.support.models import WORDS, network
from tests.support.tracking import Trackers, stop_after

SEEDS = (0, 1, 9)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Texts of very different length, so that seeds need rows of different length and number."""
    path = tmp_path_factory.mktemp("tables") / "ragged.csv"
    rng = np.random.default_rng(0)
    lines = ["text,label"]
    for i in range(92):
        words = rng.choice(WORDS[7:26], min(rng.geometric(0.06), 33))
        lines.append(f'"{" ".join(["good" if i % 2 else "bad", *words])}",{i % 2}')
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def config(tiny_model, table) -> FineTuneConfig:
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(table), test_size=16, validation_size=16),
        epochs=4,
        max_length=40,
        batch_size=12,
        dropout_rate=0.2,
        optimizer=Optimizer(learning_rate=3e-3),
    )


def values_of(name, *trackers):
    """Of each step."""
    return [row[f"train/{name}"] for tracker in trackers for _, row in tracker.metrics if "train/grad_norm" in row]


def test_20_steps_of_stacked_seeds_are_those_of_separate_runs(config, tmp_path, monkeypatch):
    """Stopped on the way, and taken up with a seed more, which begins where the others go on. Separate runs have
    moments of the words that occur, stacked ones of all."""
    monkeypatch.setattr(trained_words, "_MULTIPLE", 8)
    layouts = {prepare(replace(config, seed=seed), 2).train.plan.layouts for seed in SEEDS}
    assert len({layout[0].row_length for layout in layouts}) > 1  # or it would be too easy
    assert len({layout[0].slots for layout in layouts}) > 1
    apart, before, after = Trackers(), Trackers(), Trackers()
    separate = finetune_seeds(config, SEEDS, tmp_path / "apart", new_tracker=apart)
    out = tmp_path / "stacked"
    with pytest.raises(Interrupted, match="stopped after step 8 of 20"):
        finetune_seeds(config, SEEDS[:2], out, stack=True, new_tracker=before, should_stop=stop_after(15))
    assert [tracker.status for _, tracker in before] == ["KILLED"] * 3
    stacked = finetune_seeds(config, SEEDS, out, stack=True, if_exists="resume", new_tracker=after)

    curves = [values_of("loss", tracker) for _, tracker in apart[1:]]
    assert [len(curve) for curve in curves] == [20, 20, 20]
    both = [
        values_of("loss", before[1][1], after[1][1]),
        values_of("loss", before[2][1], after[2][1]),
        values_of("loss", after[3][1]),
    ]
    np.testing.assert_allclose(both, curves, atol=1e-5)  # float32 sums in another order, over 20 steps of Adam
    assert np.ptp([curve[:5] for curve in curves], axis=0).min() > 1e-4  # the seeds are different runs
    for seed in SEEDS:
        left, right = separate.runs[seed], stacked.runs[seed]
        assert set(left) == set(right)
        for name in ("test/accuracy", "validation/f1_macro", "train/steps", "train/model_step"):
            assert left[name] == right[name]
        assert left["train/loss"] == pytest.approx(right["train/loss"], abs=1e-5)
        folders = [{path.name for path in (tmp_path / run / f"seed-{seed}").iterdir()} for run in ("apart", "stacked")]
        assert folders[0] == folders[1]
        assert stacked.model_dir(seed).is_dir()
    assert stacked.metrics["test/f1_macro_mean"] == separate.metrics["test/f1_macro_mean"]


def test_evaluations_change_stacked_runs_as_they_do_separate_ones(config, tmp_path):
    """Each has its learning rate lowered, and ends early, by its own; a device's share is computed in two parts."""
    patient = replace(
        config,
        accumulate=2,
        optimizer=Optimizer(learning_rate=1e-2, schedule="reduce_on_plateau", plateau_patience=1),
        evaluation=Evaluation(evaluate_every=2, evaluate_unit="steps", final_weights="best"),
        early_stopping=EarlyStopping(patience=3),
    )
    apart, together = Trackers(), Trackers()
    separate = finetune_seeds(patient, SEEDS[:2], tmp_path / "apart", new_tracker=apart)
    stacked = finetune_seeds(patient, SEEDS[:2], tmp_path / "stacked", stack=True, new_tracker=together)
    steps = [run["train/steps"] for run in separate.runs.values()]
    assert max(steps) < 20
    assert [run["train/steps"] for run in stacked.runs.values()] == steps
    for seed in SEEDS[:2]:
        assert stacked.runs[seed]["train/model_step"] == separate.runs[seed]["train/model_step"]
        assert stacked.runs[seed]["validation/accuracy"] == separate.runs[seed]["validation/accuracy"]
    for (_, left), (_, right) in zip(apart[1:], together[1:], strict=True):
        rates = [values_of("learning_rate", tracker) for tracker in (left, right)]
        assert len(set(rates[0][3:])) > 1  # it was lowered
        np.testing.assert_allclose(rates[1], rates[0], rtol=1e-6)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_wider_batch_has_the_same_loss_and_gradient_with_dropout(parts):
    """Rows, slots and tokens that are empty change no mask; each part of a batch keeps its examples."""
    model, params = network()
    step = make_train_step(model, make_optimizer(Optimizer(), 10, model), cross_entropy, accumulate=parts)
    state = step.init(params, jax.random.PRNGKey(0))
    examples = make_examples()
    plan = plan_training(examples.lengths, 8, 1, 0, 16, parts, packed=True)
    batch = next(StoredBatches(examples, plan).batches()).batch
    rows, row_length, slots = layout_of(batch)
    wide = widened(batch, Layout(rows + 2 * parts, row_length + 3, slots + 1), plan.kind, parts)
    assert wide.token_ids.shape == (rows + 2 * parts, row_length + 3)
    grads, metrics = jax.jit(step.gradient)(state, batch)
    wide_grads, wide_metrics = jax.jit(step.gradient)(state, wide)
    np.testing.assert_allclose(wide_metrics["loss"], metrics["loss"], rtol=1e-6)
    # float32 sums over other numbers of terms
    chex.assert_trees_all_close(wide_grads, grads, rtol=1e-7, atol=5e-7)


def test_too_many_seeds_for_the_memory(config, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes")

    monkeypatch.setattr(CompiledTrainStep, "__call__", exhausted)
    trackers = Trackers()
    with pytest.raises(ConfigError, match="2 stacked seeds do not fit in the memory of the device; stack fewer"):
        finetune_seeds(config, (0, 1), tmp_path / "out", stack=True, new_tracker=trackers)
    assert [tracker.status for _, tracker in trackers] == ["FAILED"] * 3
    assert "seeds" in json.loads((tmp_path / "out" / "config.json").read_text())
